"""Supervised fine-tuning: chats become the tokens that playing would have made of them, and are learned."""

from __future__ import annotations

import random

import pytest
import torch

from policies.api import Sampling
from policies.imitation import IGNORED, ImitationConfig, Lesson, encode, fitting, imitate
from policies.language_model import LanguageModel
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig


def test_a_played_game_is_encoded_in_the_tokens_it_was_played_in(tiny: LanguageModel) -> None:
    task = Wordle(WordleConfig(max_action_tokens=72))
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("train")[:8], 1, Sampling(), seed=0)
    compared = 0
    for rollout in rollouts:
        end = tiny.tokenizer.eos_token_id
        actions = [rollout.completion_ids[turn.start : turn.end] for turn in rollout.turns]
        # A text that was cut off, or that the tokenizer would write in other tokens, is played but never demonstrated.
        if any(ids[-1] != end for ids in actions):
            continue
        if any(tiny.tokenizer(t.action)["input_ids"] != i[:-1] for t, i in zip(rollout.turns, actions, strict=True)):
            continue
        lesson = encode(tiny, rollout.messages)
        assert lesson.ids == rollout.prompt_ids + rollout.completion_ids
        written = [token if mask else IGNORED for token, mask in zip(rollout.completion_ids, rollout.mask, strict=True)]
        assert lesson.labels == [IGNORED] * len(rollout.prompt_ids) + written
        compared += len(rollout.turns) > 1
    assert compared >= 2, "games of one turn would not test what stands between two actions"


def test_a_chat_that_does_not_go_by_turns_is_refused(tiny: LanguageModel) -> None:
    said = {"role": "assistant", "content": "18"}
    with pytest.raises(ValueError, match="message 2 is the assistant's again"):
        encode(tiny, [{"role": "user", "content": "9+9?"}, said, said])  # type: ignore[list-item]


def lessons_of(policy: LanguageModel, task: GsmSynth, count: int) -> list[Lesson]:
    policy.instructions = task.instructions
    known = task.problems("train")
    problems = known[:: len(known) // count][:count]  # of every level
    return [encode(policy, task.demonstration(problem, random.Random(0))) for problem in problems]


def test_lessons_with_an_action_that_the_policy_could_not_write_are_left_out(tiny: LanguageModel) -> None:
    lessons = lessons_of(tiny, GsmSynth(GsmSynthConfig()), 40)
    lengths = sorted(lesson.longest_action for lesson in lessons)
    assert len(fitting(lessons, lengths[-1] - 1)) == sum(length < lengths[-1] for length in lengths)
    with pytest.raises(BadInput, match=rf"an action of {lengths[0]} tokens or more"):
        fitting(lessons, lengths[0] - 1)


def surprise(policy: LanguageModel, lessons: list[Lesson]) -> float:
    """Mean over lessons of the loss per token."""
    losses = []
    with torch.no_grad():
        for lesson in lessons:
            ids, labels = torch.tensor([lesson.ids]), torch.tensor([lesson.labels])
            losses.append(float(policy.model(input_ids=ids, labels=labels).loss))
    return sum(losses) / len(losses)


def test_imitation_makes_unseen_demonstrations_likelier_and_says_what_it_took(untrained: LanguageModel) -> None:
    lessons = lessons_of(untrained, GsmSynth(GsmSynthConfig(levels=[1])), 96)
    seen, unseen = lessons[:64], lessons[64:]
    before = surprise(untrained, unseen)
    found = imitate(untrained, seen, ImitationConfig(learning_rate=3e-3, batch_size=8, micro_batch_size=8))
    assert surprise(untrained, unseen) < 0.75 * before
    assert found["last_loss"] < found["first_loss"]
    assert found["trained_tokens"] == sum(label != IGNORED for lesson in seen for label in lesson.labels)
    assert found["flops"] == sum(untrained.shape.update(len(lesson.ids)) for lesson in seen)
    assert not untrained.model.training


def test_imitation_is_the_same_every_time_and_leaves_the_global_generator_alone(untrained_folder: object) -> None:
    from policies.language_model import load_policy
    from policies.source import PolicyConfig

    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        policy = load_policy(PolicyConfig(name="u", path=str(untrained_folder), device="cpu", dtype="float32"))
        generator = torch.get_rng_state()
        imitate(policy, lessons_of(policy, GsmSynth(GsmSynthConfig(levels=[1])), 16), ImitationConfig(batch_size=4))
        assert torch.equal(torch.get_rng_state(), generator)
        states.append(policy.state_hash())
    assert states[0] == states[1]
