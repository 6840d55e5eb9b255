"""What reads a stranger's bytes, each as a function that may raise the one error meant for it, and nothing else.

A target's property is more than not to crash: rewards stay in their ranges, text that is shown prints, a name leads to
no other folder. fuzz.py drives them with atheris, and test_targets.py with a few hundred inputs each.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from record_factory import write_record
from rich.console import Console

from algorithms.endpoint_reflector import EndpointReflector
from algorithms.policy_reflector import ReflectionConfig, read_reply
from algorithms.reflector import Refused, check_text
from benchmarks.analysis.table import read_table as read_results
from benchmarks.analysis.table import render
from benchmarks.config.plugins import find, from_file
from benchmarks.config.presets import chosen
from benchmarks.config.schema import RUN_NAME, check_config, compose_config
from benchmarks.records import reading
from benchmarks.records.parquet import read_table, write_table
from benchmarks.records.reading import Damaged, find_record
from benchmarks.records.record import SEAL, Record
from benchmarks.records.redaction import redact
from benchmarks.report.family import family
from benchmarks.report.page import escaped_json
from benchmarks.report.page import report as write_report
from benchmarks.report.samples import _sample
from benchmarks.report.show import _sheet, show
from benchmarks.report.watch import PageHandler
from benchmarks.wording import one_line, visible
from tasks import gsm8k, words
from tasks.api import FeedbackLevel, Verdict
from tasks.errors import BadInput, RunFailed
from tasks.gsm8k import Gsm8k, Gsm8kConfig
from tasks.solutions import SOLUTION_COMPONENTS, judge
from tasks.wordle import WORDLE_COMPONENTS, Wordle, WordleConfig


@dataclass(frozen=True, kw_only=True)
class Target:
    """One parser."""

    parse: Callable[[bytes], None]
    inputs: int
    """How many fuzz.py tries."""
    seeds: Sequence[bytes] = ()
    tokens: Sequence[str] = ()
    longest: int = 400
    """Bytes of an input."""
    slow: bool = False
    """Whether an input takes more than some milliseconds."""


def text_of(data: bytes) -> str:
    """Any text, half characters among it."""
    try:
        return data.decode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --- what a model writes ----------------------------------------------------------------------------------------------


def in_range(verdict: Verdict, action: str, components: Any) -> None:
    """A verdict keeps to what the task states."""
    for component in components:
        assert component.low <= verdict.rewards[component.name] <= component.high, component.name
    assert all(0 <= start <= end <= len(action) for start, end in verdict.spans.values())
    assert all(0 <= value <= 1 for value in verdict.metrics.values())


def solution(data: bytes) -> None:
    """A worked solution of gsm8k or gsm_synth."""
    action = text_of(data)
    in_range(judge(action, Fraction(7, 2), FeedbackLevel.solution), action, SOLUTION_COMPONENTS)


@cache
def _wordle() -> Wordle:
    return Wordle(WordleConfig(feedback=FeedbackLevel.solution))


def wordle_game(data: bytes) -> None:
    """A whole game: actions parted by a byte that no text holds."""
    task = _wordle()
    episode = task.start(task.problems("train")[0])
    for part in data.split(b"\xff"):
        if episode.done:
            return
        action = text_of(part)
        in_range(episode.step(action), action, WORDLE_COMPONENTS)


def reflector_reply(data: bytes) -> None:
    """What a model proposes as instructions."""
    with suppress(Refused):
        text = read_reply(text_of(data))
        check_text(text, 200, ["<|end|>"])
        assert text.encode().decode() == text.strip()
        assert "<|end|>" not in text


def server_reply(data: bytes) -> None:
    """The body of a reply of an endpoint, as the client hands it on: any JSON."""
    charged: list[float] = []
    charge = SimpleNamespace(charge=lambda phase, **amounts: charged.extend(map(float, amounts.values())))
    reflector = EndpointReflector.__new__(EndpointReflector)
    reflector.config, reflector.session = ReflectionConfig(), charge  # type: ignore[assignment]
    with suppress(Refused, ValueError, RecursionError):  # the latter two: no JSON, which the client refuses
        reply = json.loads(data, object_hook=lambda values: SimpleNamespace(**{str(k): v for k, v in values.items()}))
        assert isinstance(reflector._content(reply), str)
    assert all(0 <= amount < 1e10 for amount in charged)


# --- data of a task ---------------------------------------------------------------------------------------------------


def gsm8k_rows(data: bytes) -> None:
    """train.jsonl, beside a sound test.jsonl."""
    sound = b'{"question": "What is 1+1?", "answer": "1+1=2\\n#### 2"}'
    files = patch.object(gsm8k, "read_file", lambda path: data if path.name == "train.jsonl" else sound)
    with files, suppress(BadInput):
        task = Gsm8k(Gsm8kConfig(path="/"))
        for problem in (*task.problems("train"), *task.problems("val")):
            assert problem.question.strip()
            assert problem.question.encode()


def word_list(data: bytes) -> None:
    """A user's word list."""
    with patch.object(words, "read_file", lambda path, largest: data), suppress(BadInput):
        assert all(len(word) == 5 and word.isascii() and word.islower() for word in words._read(Path("words.txt")))


# --- the command line -------------------------------------------------------------------------------------------------


def overrides(data: bytes) -> None:
    """Words of `run`, one a line."""
    with suppress(BadInput), redirect_stderr(io.StringIO()):
        config = check_config(compose_config(text_of(data).split("\n")))
        name = config.run_name("fingerprint")
        assert Path(name).name == name


def plugin_name(data: bytes) -> None:
    """A choice of algorithm, task or policy; nothing is imported for a name that is not installed."""
    choice = text_of(data)
    for group in ("algo", "task", "policy"):
        with suppress(BadInput):
            assert chosen(group, choice).name.isprintable()
    with suppress(BadInput):
        find("algorithms", choice)
    with suppress(BadInput):
        name = from_file("tasks", choice).name
        assert RUN_NAME.fullmatch(name.lstrip("-"))


@cache
def _records() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    write_record(folder, algo="grpo")
    write_record(folder, algo="gepa", status="running")
    (folder.parent / f"{folder.name}-secret").touch()
    return folder


def record_name(data: bytes) -> None:
    """The name that `show` is given."""
    with suppress(BadInput):
        assert find_record(_records(), text_of(data)).folder.parent == _records()


def any_text(data: bytes) -> None:
    """What is shown on a terminal and in a page, and what is hidden in a record."""
    text = text_of(data)
    assert all(char == "\n" or char.isprintable() for char in visible(text))
    assert "\n" not in one_line(text)
    assert not set(escaped_json(text)) & set("<>&")
    redact(text)


def http_request(data: bytes) -> None:
    """Raw bytes to `report --watch`: nothing but the page is ever served."""
    sent = io.BytesIO()

    class Connection:
        def makefile(self, mode: str, *_: Any) -> io.BytesIO:
            return io.BytesIO(data)

        def sendall(self, answer: bytes) -> None:
            sent.write(answer)

    server = SimpleNamespace(server_address=("127.0.0.1", 8000), page=lambda: b"the page")
    with redirect_stderr(io.StringIO()):
        PageHandler(Connection(), ("127.0.0.1", 1), server)  # type: ignore[arg-type]
    if b"the page" in sent.getvalue():
        asked = data.decode("latin-1")
        assert re.match(r"\s*GET\s+/+\s", asked)
        assert re.search(r"host\s*:\s*(127\.0\.0\.1|localhost):8000", asked, re.IGNORECASE)


# --- records ----------------------------------------------------------------------------------------------------------


def config_json(data: bytes) -> None:
    """config.json: any error is a damaged record."""
    running = Record(_records() / "gepa-wordle-tiny-s0-e0e0e0e0e0")
    with patch.object(Record, "read", in_place_of("config.json", data)), suppress(Damaged):
        reading.read_plan(running)


def parquet_file(data: bytes) -> None:
    """A table: any error is caught where it is read, but Arrow must not die of it."""
    with suppress(Exception):
        read_table(data)


def in_place_of(file: str, data: bytes) -> Callable[..., bytes]:
    """A `Record.read` that finds these bytes in one file, and what is there in the others."""
    read = Record.read
    return lambda record, name, *limits: data if name == file else read(record, name, *limits)


def record_json(data: bytes) -> None:
    """summary.json, manifest.json, seal.json and status: the record is named as damaged or is sound."""
    record = Record(_records() / "grpo-wordle-tiny-s0-e0e0e0e0e0")
    for file, read in (("summary.json", reading.read_summary), (SEAL, reading.check_seal)):
        with patch.object(Record, "read", in_place_of(file, data)), suppress(Damaged):
            read(record)
    running = Record(_records() / "gepa-wordle-tiny-s0-e0e0e0e0e0")
    for file in ("manifest.json", "status"):
        with patch.object(Record, "read", in_place_of(file, data)), suppress(Damaged):
            reading.read_run(running)


def sample_row(data: bytes) -> None:
    """A row of samples.parquet, on the terminal and in the report."""
    turns, _, messages = data.partition(b"\xff")
    row = {"stage": "final", "problem": "wordle/crane", "sample": 0, "solved": True, "score": 0.5}
    row |= {"turns": text_of(turns), "messages": text_of(messages)}
    made = json.dumps(_sample(row))
    assert json.loads(made)
    with suppress(Exception):  # All of it is caught where a record is read.
        for line, _ in _sheet(row):
            assert one_line(line).isprintable()


def family_rows(data: bytes) -> None:
    """proposals.parquet: any error is caught where it is read, but it must come soon."""
    with suppress(Exception):
        family(json.loads(data))


FILES = (
    "config.json",
    "manifest.json",
    "summary.json",
    "status",
    SEAL,
    "curve.parquet",
    "outcomes.parquet",
    "samples.parquet",
)


def whole_record(data: bytes) -> None:
    """A record of which a file was changed and sealed again, through `table`, `report` and `show`."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, redirect_stderr(io.StringIO()):
        folder = Path(name)
        write_record(folder, algo="base")
        record = write_record(folder, algo="grpo", status="complete" if data[:1] < b"\xc0" else "running")
        file = FILES[data[1] % len(FILES)] if len(data) > 1 else "status"
        content = bytearray((record.folder / file).read_bytes() if (record.folder / file).exists() else b"")
        for place, value in zip(data[2::3], data[3::3], strict=False):
            if content:
                content[(place * len(content)) // 256] = value
        cut = data[4] if len(data) > 4 else 0
        (record.folder / file).write_bytes(
            bytes(content[: len(content) - cut // 8]) + (data[5:] if cut % 8 == 0 else b"")
        )
        if file not in (SEAL, "status") and record.status == "complete":
            record.write_status("complete")
        with redirect_stdout(io.StringIO()), suppress(BadInput, RunFailed):
            render(read_results(folder), "text", Console(file=io.StringIO()))
        with suppress(BadInput, RunFailed):
            write_report(folder, folder / "report.html")
        with suppress(BadInput):
            show(record, Console(file=io.StringIO()))


# --- all of them ------------------------------------------------------------------------------------------------------

ROWS = [
    {"stage": "final", "problem": "wordle/crane", "sample": 0, "solved": True, "score": 0.5, "turns": "[]"},
    {"stage": "base", "problem": "wordle/slate", "sample": 1, "solved": False, "score": None, "turns": "x" * 50},
]
TURN = {
    "action": "<think></think><guess>crane</guess> 1+1=2",
    "rewards": {"steps": 1.0, "consistent": -0.5},
    "spans": {"steps": [0, 5]},
    "feedback": "solved",
    "solved": True,
}
MESSAGES = [{"role": "user", "content": "6 guesses left."}, {"role": "assistant", "content": "x"}]
PROPOSALS = [
    {"kept": True, "candidate": 0, "best": True, "parents": [], "text": "Play.", "score": 0.5, "why": ""},
    {"kept": False, "candidate": None, "best": None, "parents": [0], "text": None, "score": None, "why": "no"},
]
COMPLETION = {
    "choices": [{"message": {"content": "```\nPlay.\n```"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 42},
}
JSON = ("{", "}", "[", "]", ":", ",", '"', "null", "true", "1e999", "-1", "NaN", "\\ud800", "9" * 30, "\\u0000")
ARITHMETIC = (
    "####",
    "=",
    "+",
    "-",
    "*",
    "×",
    "÷",
    "/",
    "(",
    ")",
    "%",
    "$",
    ",",
    ".",
    "1/2",
    "<<",
    ">>",
    "\n",
    "9" * 16,
)
TAGS = ("<think>", "</think>", "<guess>", "</guess>", "crane", "slate", " ", "\n", "\u3000", "İ", "ſ")
WORDS = ("+algo=", "task=", "policy=", "budget=", "grpo", "tiny", "${", "}", "oc.env:HOME", "../", "~", "=", "{", "[")
WORDS += ("task.name=", "policy.name=", "results.dir=", "seed=", "null", "???", "hydra.run.dir=", "files.algo=", ".py:")


def _json(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


TARGETS: dict[str, Target] = {
    "worked solution": Target(
        parse=solution,
        inputs=150_000,
        seeds=[b"2+3=5\n5*2=10\n#### 10", b"$1,000.50 / 2 = 500.25\n#### 60%"],
        tokens=ARITHMETIC,
    ),
    "Wordle game": Target(
        parse=wordle_game,
        inputs=100_000,
        seeds=[b"<think>a</think><guess>crane</guess>\xff<guess> slate </guess>\xffx"],
        tokens=TAGS,
    ),
    "reflector's reply": Target(
        parse=reflector_reply, inputs=250_000, seeds=[b"Sure:\n```text\nPlay.\n```\n"], tokens=("```", "\n", "<|end|>")
    ),
    "endpoint's reply": Target(
        parse=server_reply, inputs=100_000, seeds=_json(COMPLETION), tokens=(*JSON, '"choices"', '"usage"', '"message"')
    ),
    "gsm8k rows": Target(
        parse=gsm8k_rows,
        inputs=80_000,
        seeds=[b'{"question": "q?", "answer": "<<1+1=2>>2\\n#### 2"}\n{"question": "r", "answer": "#### $1,000"}'],
        tokens=(*JSON, "####", '"question"', '"answer"', "<<", ">>", "\\n"),
    ),
    "word list": Target(
        parse=word_list, inputs=200_000, seeds=[b"crane\nslate\r\n\n trace \n"], tokens=("crane", "\n")
    ),
    "plugin name": Target(
        parse=plugin_name,
        inputs=15_000,
        seeds=[b"grpo", b"../x.py:C", b"~root/x.py:C"],
        tokens=(".py:", "~", "/", "..", "grpo"),
    ),
    "record name": Target(parse=record_name, inputs=10_000, seeds=[b"grpo-w", b"last"], tokens=("grpo-", "..", "/")),
    "text shown or hidden": Target(
        parse=any_text,
        inputs=50_000,
        seeds=[b"\x1b[2J <script>&amp;", b"hf_aaaaaaaaaaaaaaaaaaaaaaaa", b"https://a:b@c"],
        tokens=("://", "@", ":", "sk-", "hf_", "Bearer "),
    ),
    "request to --watch": Target(
        parse=http_request,
        inputs=30_000,
        seeds=[
            b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n",
            b"GET /../status HTTP/1.0\r\n\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
        ],
        tokens=("GET ", "HTTP/", "Host: ", "\r\n", "/..", "127.0.0.1:8000"),
    ),
    "summary, seal, manifest": Target(
        parse=record_json,
        inputs=10_000,
        seeds=_json(
            {"record_version": 2, "algo": "x"},
            {"record_version": 2, "sha256": {"config.json": "0"}},
            {"experiment": "e"},
            "complete",
        ),
        tokens=(*JSON, '"sha256"', '"record_version"', '"algo"', '"seed"'),
    ),
    "sample": Target(
        parse=sample_row,
        inputs=40_000,
        seeds=[b"\xff".join(_json([TURN], MESSAGES))],
        tokens=(*JSON, '"spans"'),
        longest=800,
    ),
    "family of proposals": Target(
        parse=family_rows, inputs=80_000, seeds=_json(PROPOSALS), tokens=(*JSON, '"parents"', '"text"'), longest=800
    ),
    "config.json": Target(
        parse=config_json,
        inputs=10_000,
        seeds=_json({"algo": {"name": "grpo", "x": 1e-6}, "seed": 0}, {"a": "${b}"}),
        tokens=(*JSON, '"algo"', '"name"', '"seed"'),
    ),
    "parquet": Target(parse=parquet_file, inputs=15_000, seeds=[write_table(ROWS)], longest=6000),
    "words of run": Target(
        parse=overrides,
        inputs=1_000,
        seeds=[b"+algo=grpo\ntask=wordle\nseed=1", b"+algo=base\n~task", b"+algo=grpo\npolicy.name=../x"],
        tokens=WORDS,
        slow=True,
    ),
    "whole record": Target(
        parse=whole_record, inputs=200, seeds=[bytes(range(60)), b"\xc1\x00" + bytes(60)], slow=True
    ),
}
