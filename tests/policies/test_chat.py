"""Chat templates as people have them: other ends of a turn, reasoning that the prompt opens, a clock."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import policies.tiny
from benchmarks.running.manifest import describe
from policies.api import Rollout, Sampling
from policies.chat import Chat
from policies.imitation import IGNORED, encode
from policies.language_model import LanguageModel, load_policy
from policies.sampler import Action
from policies.source import SAMPLERS, PolicyConfig
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig

WEIGHTS = Path(policies.tiny.__file__).parent / "weights"
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPENS = TEMPLATE.replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] }}").replace(
    "<|assistant|>{% endif", "<|assistant|><think>\n{% endif"
)
"""As DeepSeek's distilled models have it: the prompt opens the reasoning, and history is shown without."""

Changed = Callable[..., LanguageModel]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Tiny's weights with another template, tokenizer or generation config."""

    def build(template: str = TEMPLATE, ends: Any = 2, eos: str = "<|end|>", sampler: str = "batched") -> LanguageModel:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        shutil.copytree(WEIGHTS, folder)
        (folder / "chat_template.jinja").write_text(template)
        for name, settings in (
            ("tokenizer_config.json", {"eos_token": eos}),
            ("generation_config.json", {"eos_token_id": ends}),
        ):
            before = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({**before, **settings}))
        config = PolicyConfig(name="x", path=str(folder), device="cpu", dtype="float32", sampler=sampler)
        return load_policy(config)

    return build


@pytest.fixture
def task() -> Wordle:
    return Wordle(WordleConfig(max_action_tokens=60, max_turns=3))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_turn_ends_with_any_id_of_the_generation_config(changed: Changed, task: Wordle, sampler: str) -> None:
    others = set(changed().tokenizer.convert_tokens_to_ids(list("aeiost")))
    policy = changed(ends=[2, *others], sampler=sampler)
    policy.instructions = task.instructions
    rollouts, _ = policy.play(task, task.problems("train")[:4], 2, Sampling(), seed=0)
    ended = set()
    for rollout in rollouts:
        for turn in rollout.turns:
            ids = rollout.completion_ids[turn.start : turn.end]
            assert not {2, *others} & set(ids[:-1])
            assert ids[-1] in {2, *others} or len(ids) == 60
            if ids[-1] in others:
                ended.add(ids[-1])
                assert turn.action == policy.tokenizer.decode(ids[:-1])
                assert rollout.completion_ids[turn.end :][:1] != [2], "the template's end was said after the model's"
    assert len(ended) > 1


def test_demonstrations_end_as_the_template_ends_a_turn(changed: Changed, task: Wordle) -> None:
    policy = changed(ends=[1, 2], eos="<unk>")
    assert policy.chat.ends == {1, 2}
    messages = task.demonstration(task.problems("train")[0], random.Random(1))
    assert sum(message["role"] == "assistant" for message in messages) > 1
    lesson = encode(policy, messages)
    assert 1 not in lesson.ids
    assert lesson.ids == policy.tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]


@pytest.mark.parametrize("ends", ["<|end|>", [[2]], [2, None], True])
def test_ends_that_are_no_ids_are_refused(tiny: LanguageModel, ends: Any) -> None:
    with pytest.raises(BadInput, match=r"generation_config\.json has eos_token_id="):
        Chat(tiny.tokenizer, "x", ends)


def played(policy: LanguageModel, task: Wordle, texts: list[list[int]]) -> Rollout:
    episode = task.start(task.problems("train")[0])
    rollout = Rollout(problem=task.problems("train")[0], group=0, prompt_ids=policy.chat.prompt("", episode.messages))
    for ids in texts:
        policy.take_turn(rollout, episode, Action(0, ids, None, None))
    return rollout


def test_what_the_template_opened_is_judged_with_the_action(changed: Changed, task: Wordle) -> None:
    policy = changed(OPENS)
    sampled = [*policy.chat._encode("i try e</think><guess>crane</guess>"), 2]
    rollout = played(policy, task, [sampled, sampled])
    for turn in rollout.turns:
        assert turn.action == "<think>\ni try e</think><guess>crane</guess>"
        assert turn.verdict.rewards["format"] == 0
        start, end = turn.verdict.spans["valid"]
        assert turn.action[start:end] == "crane"
        ends = policy.chat.token_ends(sampled)
        inside = [id_ for id_, at in zip(sampled, ends, strict=True) if start < at <= end]
        assert policy.tokenizer.decode(inside) == "crane"
    twice = played(policy, task, [[*policy.chat._encode("<think>e</think><guess>crane</guess>"), 2]])
    assert twice.turns[0].verdict.rewards["format"] == -1


def test_reasoning_stays_in_the_history_as_it_was_sampled(changed: Changed, task: Wordle) -> None:
    policy = changed(OPENS)
    sampled = [*policy.chat._encode("i try e</think><guess>crane</guess>"), 2]
    rollout = played(policy, task, [sampled, sampled])
    second = rollout.turns[1].start
    assert rollout.completion_ids[: len(sampled)] == sampled
    said = policy.tokenizer.decode(rollout.completion_ids[len(sampled) : second])
    assert said.startswith("<|user|>")
    assert said.endswith("<|assistant|><think>\n"), "every turn's reasoning is opened"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<think>e</think><guess>crane</guess>", "e</think><guess>crane</guess>"),
        ("3+4=7\n#### 7", "</think>\n\n3+4=7\n#### 7"),
    ],
)
def test_a_demonstration_goes_on_from_what_the_template_opened(changed: Changed, text: str, written: str) -> None:
    policy = changed(OPENS)
    lesson = encode(policy, [{"role": "user", "content": "crane"}, {"role": "assistant", "content": text}])
    assert policy.tokenizer.decode([id_ for id_ in lesson.labels if id_ != IGNORED]) == f"{written}<|end|>"


@pytest.mark.parametrize("test", ["strftime_now is defined", "true"])
def test_a_templates_clock_stands_still(changed: Changed, test: str) -> None:
    clock = "{% if " + test + " %}<|system|>{{ strftime_now('%d %b %Y') }}<|end|>{% endif %}"
    policy = changed(clock + TEMPLATE)
    said: list[Any] = [{"role": "user", "content": "x"}]
    assert policy.tokenizer.decode(policy.chat.prompt("", said)).startswith("<|system|>26 Jul 2024<|end|>")
    assert describe(policy)["chat_date"] == "2024-07-26"
