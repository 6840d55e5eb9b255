"""Reflectors: what they propose from which feedback, and what they refuse."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_session import StubSession

from algorithms.endpoint_reflector import EndpointConfig, EndpointReflector
from algorithms.policy_reflector import PolicyReflector, ReflectionConfig, question, read_reply
from algorithms.reflector import Refused, check_text, join
from algorithms.rules_reflector import Rules
from policies.api import Rollout, Turn
from policies.language_model import LanguageModel
from tasks.api import Task, Verdict
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import WORDLE_ADVICE, Wordle, WordleConfig, write_action

KEEP, USE, LEAVE, WORDS = dict.fromkeys(several[0] for several in WORDLE_ADVICE.values())
KEY = "sk-not-to-be-written-down"


@pytest.fixture(scope="module")
def wordle() -> Wordle:
    """With one sentence a fault."""
    task = Wordle(WordleConfig())
    task.advice = {fault: several[:1] for fault, several in task.advice.items()}
    return task


def game(task: Wordle, secret: str, guesses: Sequence[str]) -> Rollout:
    """A game as it is really judged."""
    problem = next(p for split in ("train", "val", "test") for p in task.problems(split) if p.secret == secret)
    episode = task.start(problem)
    turns = [Turn(action=a, verdict=episode.step(a), start=0, end=1) for a in (write_action("", g) for g in guesses)]
    return Rollout(problem=problem, group=0, prompt_ids=[], turns=turns, messages=episode.messages)


def episode_with(*feedback: str, valid: float = 0.0) -> Rollout:
    """An episode with made-up feedback, turn by turn."""
    rewards = {"format": 0.0, "valid": valid, "consistent": 0.0, "progress": 0.0, "solved": 0.0}
    verdicts = [Verdict(rewards=rewards, feedback=text, spans={}, solved=False) for text in feedback]
    turns = [Turn(action="x", verdict=verdict, start=0, end=1) for verdict in verdicts]
    messages: list[Any] = [{"role": "user", "content": "go"}, *[{"role": "assistant", "content": "x"} for _ in turns]]
    problem = Wordle(WordleConfig()).problems("train")[0]
    return Rollout(problem=problem, group=0, prompt_ids=[], turns=turns, messages=messages)


@pytest.fixture
def session(untrained: LanguageModel, wordle: Wordle, tmp_path: Path) -> StubSession:
    return StubSession(untrained, wordle, tmp_path, updates=1)


def rules(task: Task, session: StubSession) -> Rules:
    return Rules(task, session)


def test_every_piece_of_advice_speaks_to_a_fault_that_the_task_can_name() -> None:
    for task in (Wordle(WordleConfig()), GsmSynth(GsmSynthConfig())):
        names = {component.name for component in task.components}
        assert task.advice
        for fault, sentences in task.advice.items():
            assert fault in names or " " in fault
            assert all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize(
    ("secret", "guesses", "sentence"),
    [
        ("trend", ["ideal", "study"], KEEP),
        ("enjoy", ["offer", "mouth"], USE),
        ("touch", ["floor", "moral"], LEAVE),
        ("touch", ["zzzzz", "qqqqq"], WORDS),
    ],
)
def test_the_sentence_speaks_to_the_fault_that_was_made(
    wordle: Wordle, session: StubSession, secret: str, guesses: list[str], sentence: str
) -> None:
    reflector = rules(wordle, session)
    played = game(wordle, secret, guesses)
    counts = reflector.faults([played])
    assert counts[sentence] == max(counts.values()) > 0, [verdict.feedback for verdict in played.verdicts]


def test_the_most_frequent_fault_comes_first_and_what_is_there_is_not_added_again(
    wordle: Wordle, session: StubSession
) -> None:
    reflector = rules(wordle, session)
    failures = [episode_with("'a' must be at position 1\n'b' is not in the word", "'c' is not in the word")]
    parts = reflector.parts(wordle.instructions)
    assert reflector.propose(parts, failures) == {LEAVE: LEAVE}
    assert reflector.propose({**parts, LEAVE: LEAVE}, failures) == {KEEP: KEEP}


def test_a_component_that_falls_short_counts_as_much_as_a_line_of_feedback(
    wordle: Wordle, session: StubSession
) -> None:
    reflector = rules(wordle, session)
    failures = [episode_with("'a' must be at position 1", "", "", valid=-1.0)]
    assert reflector.propose(reflector.parts("x"), failures) == {WORDS: WORDS}


def test_other_feedback_makes_another_proposal(wordle: Wordle, session: StubSession) -> None:
    lines = ["'a' must be at position 1", "'b' must not be at position 2", "'c' is not in the word"]
    proposals = []
    for first in range(3):
        reflector = rules(wordle, session)
        shuffled = [lines[first], lines[first], lines[(first + 1) % 3]]
        proposals.append(reflector.propose(reflector.parts("x"), [episode_with(*shuffled)]))
    assert proposals == [{KEEP: KEEP}, {USE: USE}, {LEAVE: LEAVE}]


def test_a_second_try_comes_after_the_first_of_the_others(wordle: Wordle, session: StubSession) -> None:
    reflector = rules(wordle, session)
    failures = [episode_with("'a' must be at position 1\n'b' is not in the word", "'c' is not in the word")]
    parts = reflector.parts("x")
    assert [list(reflector.propose(parts, failures)) for _ in range(3)] == [[LEAVE], [KEEP], [LEAVE]]


def test_with_nothing_left_to_add_one_added_sentence_is_left_out(wordle: Wordle, session: StubSession) -> None:
    reflector = rules(wordle, session)
    parts = {**reflector.parts("x"), LEAVE: LEAVE, KEEP: KEEP}
    changes = [reflector.propose(parts, [episode_with("'c' is not in the word")]) for _ in range(2)]
    assert sorted(changes, key=str) == [{KEEP: ""}, {LEAVE: ""}]


def test_advice_that_the_instructions_hold_already_is_no_part(wordle: Wordle, session: StubSession) -> None:
    parts = rules(wordle, session).parts(f"Play. {LEAVE}")
    assert set(parts) == {"instructions", KEEP, USE, WORDS}
    assert join(parts) == f"Play. {LEAVE}"


def test_faults_without_advice_are_refused(wordle: Wordle, session: StubSession) -> None:
    reflector = rules(wordle, session)
    with pytest.raises(Refused, match="names no fault"):
        reflector.propose(reflector.parts("x"), [episode_with("'crane' is not the secret word")])


def test_a_task_without_advice_is_refused(session: StubSession) -> None:
    task = Wordle(WordleConfig())
    task.advice = {}
    with pytest.raises(BadInput, match="has no advice; use policy or endpoint"):
        rules(task, session)


def test_the_question_holds_instructions_actions_and_the_feedback(wordle: Wordle) -> None:
    played = game(wordle, "touch", ["floor", "moral"])
    text = question("Play well.", [played])
    for part in ("Play well.", "<guess>floor</guess>", "Feedback: 'floor' is not the secret word", "5 guesses left."):
        assert part in text
    assert "'l' is not in the word" in text


@pytest.mark.parametrize(
    ("reply", "instructions"),
    [
        ("Play.", "Play."),
        ("Sure:\n```\nPlay.\nWell.\n```\nGood luck", "Play.\nWell."),
        ("```text\nPlay.\n```", "Play."),
        ("```Play.```", "Play."),
        ("```\nUse ```a``` and b.\n```", "Use ```a``` and b."),
        ("```two words\nPlay.```", "two words\nPlay."),
        ("``````", ""),
    ],
)
def test_the_instructions_are_what_stands_between_the_fences(reply: str, instructions: str) -> None:
    assert read_reply(reply) == instructions


def test_a_fence_that_is_not_closed_is_refused() -> None:
    with pytest.raises(Refused, match="does not close it"):
        read_reply("```\nPlay wordle by")


@pytest.mark.parametrize("unit", ["a", " ", "\n", "`", "```", "```a\n", "é", "\ud800"])
@pytest.mark.parametrize("head", ["", "```", "```a"])
def test_a_reply_of_ten_megabytes_is_read_in_a_tenth_of_a_second(
    head: str, unit: str, takes_less_than: Callable[[float, Callable[[], object]], bool]
) -> None:
    reply = head + unit * (10_000_000 // len(unit))

    def read() -> None:
        with suppress(Refused):
            read_reply(reply)

    assert takes_less_than(0.1, read)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("x" * 21, "21 characters, more than algo.longest=20"),
        ("a\ud800b", "half characters"),
        ("new<|end|>", "special tokens"),
    ],
)
def test_unusable_instructions_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check_text(text, 20, ["<|end|>"])


@given(st.text(min_size=1, max_size=20))
def test_instructions_that_are_let_through_can_be_written_down(text: str) -> None:
    try:
        check_text(text, 20, ["<|end|>"])
    except Refused:
        return
    assert text.encode().decode() == text
    assert text.strip()


def test_what_the_policy_reads_and_writes_is_booked_as_reflection(
    untrained: LanguageModel, wordle: Wordle, session: StubSession
) -> None:
    reflector = PolicyReflector(ReflectionConfig(max_tokens=16), untrained, session)
    with pytest.raises(Refused, match="cut off after 16 tokens"):
        reflector.propose({"instructions": "Play."}, [episode_with("'c' is not in the word")])
    ((phase, amounts),) = session.charges
    text = question("Play.", [episode_with("'c' is not in the word")])
    read = len(untrained.chat.prompt("", [{"role": "user", "content": text}]))
    assert (phase, amounts["reflected_tokens"]) == ("reflect", read + 16)
    assert amounts["flops"] == untrained.shape.forward(read + 16, heads=16)


def test_the_policy_is_taken_at_its_word_when_it_ends_in_time(
    untrained: LanguageModel, session: StubSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    reflector = PolicyReflector(ReflectionConfig(max_tokens=16), untrained, session)
    said = [*untrained.chat._encode("```\nGuess well.\n```"), untrained.tokenizer.eos_token_id]
    monkeypatch.setattr(reflector, "_write", lambda ids: said)
    assert reflector.propose({"instructions": "Play."}, [episode_with("x")]) == {"instructions": "Guess well."}


def test_the_policy_says_the_same_for_the_same_seed(untrained: LanguageModel, wordle: Wordle, tmp_path: Path) -> None:
    written = []
    for seed in (1, 1, 2):
        session = StubSession(untrained, wordle, tmp_path, updates=1, seed=seed)
        written.append(PolicyReflector(ReflectionConfig(max_tokens=8), untrained, session)._write([7, 8]))
    assert written[0] == written[1] != written[2]


def test_fewer_episodes_are_shown_where_the_window_is_small_and_none_is_refused(
    untrained: LanguageModel, session: StubSession
) -> None:
    window = untrained.model.config.max_position_embeddings
    reflector = PolicyReflector(ReflectionConfig(max_tokens=10), untrained, session)
    short, long = episode_with("x"), episode_with("y" * window)
    assert reflector._prompt("Play.", [short, long]) == reflector._prompt("Play.", [short])
    with pytest.raises(Refused, match=f"overflow the window {window}"):
        reflector._prompt("Play.", [long])


Answer = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on loopback that answers the n-th request as told; its address, and what it was sent."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            asked[-1]["key"] = self.headers["Authorization"]
            answer(self, len(asked))

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
    finally:
        http.shutdown()
        http.server_close()


def send(handler: BaseHTTPRequestHandler, body: Any, status: int = 200, kind: str = "application/json") -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data)))
    handler.send_header("Retry-After", "0.01")
    handler.end_headers()
    handler.wfile.write(data)


def completion(text: Any, ending: str = "stop", tokens: Any = 42) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": ending}]
    usage = {"total_tokens": tokens, "prompt_tokens": 40, "completion_tokens": 2}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


@pytest.fixture
def ask(session: StubSession, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REFLECTOR_KEY", KEY)

    def propose(url: str, **settings: Any) -> dict[str, str]:
        endpoint = EndpointConfig(base_url=url, model="m", key_variable="REFLECTOR_KEY", **settings)
        reflector = EndpointReflector(ReflectionConfig(max_tokens=7), endpoint, session)
        return reflector.propose({"instructions": "Play."}, [episode_with("'c' is not in the word")])

    return propose


def test_the_endpoint_is_asked_and_its_tokens_are_booked_without_flops(
    ask: Callable[..., dict[str, str]], session: StubSession
) -> None:
    with server(lambda handler, _: send(handler, completion("```\nPlay well.\n```"))) as (url, asked):
        assert ask(url) == {"instructions": "Play well."}
    assert asked[0]["model"] == "m"
    assert asked[0]["max_tokens"] == 7
    assert "'c' is not in the word" in asked[0]["messages"][0]["content"]
    assert asked[0]["key"] == f"Bearer {KEY}"
    assert session.charges == [("reflect", {"reflected_tokens": 42})]


def test_too_many_requests_are_tried_again_a_bounded_number_of_times(ask: Callable[..., dict[str, str]]) -> None:
    def busy(handler: BaseHTTPRequestHandler, n: int) -> None:
        send(handler, {"error": {"message": "slow down"}}, 429) if n < 3 else send(handler, completion("Play well."))

    with server(busy) as (url, asked):
        assert ask(url, retries=2) == {"instructions": "Play well."}
        assert len(asked) == 3
    with server(lambda handler, _: send(handler, {"error": {"message": "slow down"}}, 429)) as (url, asked):
        with pytest.raises(Refused, match="RateLimitError"):
            ask(url, retries=1)
        assert len(asked) == 2


def test_a_server_that_says_nothing_is_given_up(ask: Callable[..., dict[str, str]], session: StubSession) -> None:
    done = threading.Event()
    with server(lambda handler, _: done.wait(5) and None) as (url, asked):
        began = time.monotonic()
        with pytest.raises(Refused, match="APITimeoutError"):
            ask(url, timeout_s=0.2, retries=1)
        assert time.monotonic() - began < 4
        assert len(asked) == 2
        done.set()
    assert session.charges == []


def test_nobody_there_is_a_reason_and_no_crash(ask: Callable[..., dict[str, str]]) -> None:
    with server(lambda handler, _: None) as (url, _):
        pass
    with pytest.raises(Refused, match="APIConnectionError"):
        ask(url, retries=0)


def test_a_truncated_reply_is_refused_and_booked(ask: Callable[..., dict[str, str]], session: StubSession) -> None:
    cut = completion("```\nPlay well.\n```", ending="length")
    with server(lambda handler, _: send(handler, cut)) as (url, _), pytest.raises(Refused, match="finish_reason=leng"):
        ask(url)
    assert session.charges == [("reflect", {"reflected_tokens": 42})]


MALFORMED = {
    "not JSON": (b"<html>teapot</html>", "application/json"),
    "cut JSON": (json.dumps(completion("x")).encode()[:-9], "application/json"),
    "another type": (b"<html>teapot</html>", "text/html"),
    "nothing": (b"", "application/json"),
    "null": (b"null", "application/json"),
    "a list": (b"[]", "application/json"),
    "a number": (b"3", "application/json"),
    "no choices": (b'{"choices": []}', "application/json"),
    "null choices": (b'{"choices": null}', "application/json"),
    "choices of another type": (b'{"choices": "abc"}', "application/json"),
    "no message": (b'{"choices": [{"finish_reason": "stop"}]}', "application/json"),
    "null content": (json.dumps(completion(None)).encode(), "application/json"),
    "content in parts": (json.dumps(completion([{"type": "text", "text": "x"}])).encode(), "application/json"),
    "deep": (b"[" * 100_000, "application/json"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_reply_is_refused(ask: Callable[..., dict[str, str]], name: str) -> None:
    body, kind = MALFORMED[name]
    with server(lambda handler, _: send(handler, body, kind=kind)) as (url, _), pytest.raises(Refused) as caught:
        ask(url, retries=0)
    assert len(str(caught.value)) < 300


def test_a_connection_that_breaks_off_is_refused(ask: Callable[..., dict[str, str]]) -> None:
    def break_off(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices"')

    with server(break_off) as (url, _), pytest.raises(Refused):
        ask(url, retries=0)


@pytest.mark.parametrize("tokens", [None, "many", -3, 10**400])
def test_tokens_that_the_server_does_not_count_are_not_booked(
    ask: Callable[..., dict[str, str]], session: StubSession, tokens: Any
) -> None:
    with server(lambda handler, _: send(handler, completion("Play well.", tokens=tokens))) as (url, _):
        ask(url)
    assert session.charges == []


def test_the_key_is_in_no_reason(ask: Callable[..., dict[str, str]]) -> None:
    error = {"error": {"message": f"{'x' * 140} wrong key {KEY}"}}
    with server(lambda handler, _: send(handler, error, 401)) as (url, _), pytest.raises(Refused) as caught:
        ask(url)
    assert "AuthenticationError" in str(caught.value)
    assert KEY[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "give http://HOST:PORT/v1"),
        ({"base_url": "http://me:secret@host/v1"}, "no password in the address"),
        ({"base_url": "http://host/v1?key=secret"}, "no password in the address"),
        ({"base_url": "http://[::1/v1"}, "give http://HOST:PORT/v1"),
        ({"base_url": "http://host:99999/v1"}, "give http://HOST:PORT/v1"),
        ({"timeout_s": 0.0}, "timeout_s=0 must be above 0"),
        ({"retries": 11}, "retries=11 must be from 0 to 10"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        EndpointConfig(**settings)
    assert "secret" not in str(caught.value)


def test_a_missing_model_or_key_is_named_before_anything_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFLECTOR_KEY", raising=False)
    with pytest.raises(BadInput, match="name the server's model"):
        EndpointConfig().key()
    with pytest.raises(BadInput, match="key_variable=REFLECTOR_KEY: there is no such"):
        EndpointConfig(model="m", key_variable="REFLECTOR_KEY").key()
