"""Feedback reaches the teacher and the second try, and nobody else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import batch_of
from rollouts import rollout as made_up
from stub_session import StubSession

from algorithms.batch import RolloutBatch, build_batch
from algorithms.feedback import FeedbackTurn, deranged, feedback_turns, ids_before, task_context
from algorithms.feedback_grpo import MODES, TEACHERS, FeedbackGRPO, FeedbackGRPOConfig, rms, scaled
from algorithms.grpo import GRPO
from algorithms.trainer import RolloutTrainer
from policies.api import Sampling
from policies.language_model import LanguageModel, load_policy
from tasks.api import Problem, Task
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig


class Recording(FeedbackGRPO):
    """Remembers the batches it was asked about."""

    def credit(self, batch: Any) -> torch.Tensor:
        self.batch = batch
        self.advantages = super().credit(batch)
        return self.advantages

    def one_turn_each(self, turns: Any) -> Any:
        self.chosen = super().one_turn_each(turns)
        return self.chosen

    def demonstrations(self, batch: Any) -> Any:
        self.shown = super().demonstrations(batch)
        return self.shown


def trained(
    policy: LanguageModel, task: Task, folder: Path, **settings: Any
) -> tuple[Recording, StubSession, list[dict[str, torch.Tensor]]]:
    """One update, and the micro-batches that it was made from."""
    policy.instructions = task.instructions
    config = FeedbackGRPOConfig(
        learning_rate=1e-3, problems_per_update=4, group_size=4, micro_batch_size=8, **{"weight": 0.5, **settings}
    )
    algorithm, session = Recording(config), StubSession(policy, task, folder, updates=1)
    algorithm.policy, algorithm.task, algorithm.session = policy, task, session
    trainer = RolloutTrainer(algorithm, policy, task, session)
    trainer.train()
    return algorithm, session, trainer.parts


def made(policy: LanguageModel, task: Task, folder: Path, **settings: Any) -> tuple[FeedbackGRPO, RolloutBatch]:
    """An algorithm, and a batch of two groups that it may credit."""
    policy.instructions = task.instructions
    session = StubSession(policy, task, folder, updates=0)
    algorithm = FeedbackGRPO(FeedbackGRPOConfig(problems_per_update=2, group_size=4, **settings))
    algorithm.policy, algorithm.task, algorithm.session = policy, task, session
    algorithm.measured = {}
    rollouts = session.play(task.problems("train")[:2], 4, Sampling(logprobs=True))
    return algorithm, build_batch(rollouts, 4, task.components, policy.device, policy.chat.token_ends)


def wordle(turns: int = 3) -> Wordle:
    return Wordle(WordleConfig(max_turns=turns, max_action_tokens=72))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", [wordle(), GsmSynth(GsmSynthConfig(max_action_tokens=72))], ids=lambda t: t.name)
def test_no_student_prompt_holds_feedback(
    tiny: LanguageModel, tmp_path: Path, mode: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[list[int]] = []
    plain_sample = LanguageModel.sample

    def sample(self: LanguageModel, given: Sequence[list[int]], *rest: Any) -> Any:
        contexts.extend(given)
        return plain_sample(self, given, *rest)

    monkeypatch.setattr(LanguageModel, "sample", sample)
    algorithm, _, parts = trained(tiny, task, tmp_path, mode=mode)
    batch = algorithm.batch
    texts_of_feedback = [turn.feedback for turn in algorithm.turns(batch)]
    assert len(texts_of_feedback) > 4
    prompts = {tuple(rollout.prompt_ids) for rollout in batch.rollouts}
    texts = [
        tiny.tokenizer.decode(ids[keep.bool()])
        for part in parts
        for ids, keep in zip(part["prompt_ids"], part["prompt_mask"], strict=True)
    ]
    played = [tiny.tokenizer.decode([*r.prompt_ids, *r.completion_ids]) for r in batch.rollouts]
    golds = {task.oracle(rollout.problem)[0].splitlines()[-1] for rollout in batch.rollouts}
    for words in texts_of_feedback:
        assert not any(words in text for text in played)
        assert not any(words in text for text in texts)
    assert not any(gold in tiny.tokenizer.decode(list(prompt)) for prompt in prompts for gold in golds)
    # It is where it should be: before second tries, and as what is to be predicted.
    if mode == "refine":
        before = [tiny.tokenizer.decode(context) for context in contexts]
        assert before
        assert all(any(words in text for words in texts_of_feedback) for text in before)
    if mode == "predict":
        targets = {tiny.chat.text(row.completion) for row in algorithm.shown}
        assert targets
        assert targets <= set(texts_of_feedback)


def test_distill_with_weight_0_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(), tmp_path, mode="distill", weight=0.0)
    plain = GRPO.credit(algorithm, algorithm.batch)[:, None] * algorithm.batch.action_mask
    torch.testing.assert_close(algorithm.advantages, plain, atol=0, rtol=0)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_d_is_the_difference_of_two_plain_passes(tiny: LanguageModel, tmp_path: Path, teacher: str) -> None:
    algorithm, batch = made(tiny, wordle(), tmp_path, teacher=teacher, siblings=False)
    found = algorithm.distilled(batch)
    assert found.abs().max() > 0.01
    assert not bool(found[~batch.action_mask].any())
    for b, rollout in enumerate(batch.rollouts):
        for t, turn in enumerate(rollout.turns):
            action = rollout.completion_ids[turn.start : turn.end]
            before = rollout.prompt_ids + rollout.completion_ids[: turn.start]
            expected = torch.zeros(len(action))
            if not turn.verdict.solved:
                context = TEACHERS[teacher](tiny, batch, FeedbackTurn(b, t, turn.verdict.feedback))
                expected = logprobs(tiny, context, action) - logprobs(tiny, before, action)
            torch.testing.assert_close(found[b, turn.start : turn.end], expected, atol=3e-4, rtol=0)


def test_the_task_teacher_reads_the_students_chat_with_the_feedback_and_without_the_attempt(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    algorithm, batch = made(tiny, wordle(), tmp_path, siblings=False)
    turns = algorithm.turns(batch)
    assert {turn.turn for turn in turns} >= {0, 1}
    for turn in turns:
        rollout = batch.rollouts[turn.rollout]
        text = tiny.tokenizer.decode(task_context(tiny, batch, turn))
        student = tiny.tokenizer.decode(ids_before(batch, turn))
        head, found, tail = text.rpartition("\n" + turn.feedback)
        assert found
        assert head + tail == student
        assert text.count("<|assistant|>") == turn.turn + 1
        kept = len(rollout.prompt_ids) + rollout.turns[turn.turn - 1].end if turn.turn else 0
        ids = rollout.prompt_ids + rollout.completion_ids
        assert task_context(tiny, batch, turn)[:kept] == ids[:kept], "sampled tokens are not encoded again"


def test_a_solved_sibling_is_another_rollout_of_the_group_at_the_same_turn() -> None:
    lost, won, late = (made_up((0, 0), (0, 0)), made_up((1, 0), solved=True), made_up((0, 0), (1, 0), solved=True))
    for place, each in enumerate((lost, won, late)):
        each.turns = [replace(turn, action=f"{place}{t}") for t, turn in enumerate(each.turns)]
    batch = batch_of(lost, won, late, made_up((0, 0)), group_size=2)
    found = [(turn.rollout, turn.turn, turn.sibling) for turn in feedback_turns(batch, siblings=True)]
    assert found == [(0, 0, "10"), (3, 0, "20")], "of another group, of itself, or of a turn it has not: no sibling"
    batch = batch_of(lost, won, late, group_size=3)
    found = [(turn.rollout, turn.turn, turn.sibling) for turn in feedback_turns(batch, siblings=True)]
    assert found == [(0, 0, "10"), (0, 1, "21"), (2, 0, "10")]
    assert not feedback_turns(batch, siblings=False), "these verdicts have no feedback"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 99))
def test_the_control_has_nothing_of_the_same_problem(sizes: list[int], seed: int) -> None:
    rollouts = [
        replace(made_up((0, 0)), problem=Problem(id=f"p{p}", split="train"))
        for p, n in enumerate(sizes)
        for _ in range(n)
    ]
    batch = batch_of(*rollouts, group_size=1)
    turns = [FeedbackTurn(b, 0, each.problem.id) for b, each in enumerate(rollouts)]
    moved = deranged(turns, batch, random.Random(seed))
    assert all(turn.feedback != rollouts[turn.rollout].problem.id for turn in moved)
    assert len({turn.rollout for turn in moved}) == len(moved)
    if 2 * max(sizes) <= len(turns):
        assert sorted(turn.feedback for turn in moved) == sorted(turn.feedback for turn in turns)
    if len(sizes) == 1:
        assert not moved


def test_d_enters_with_the_rms_of_grpos_advantages(tiny: LanguageModel, tmp_path: Path) -> None:
    for clip in (1.0, 100.0):
        algorithm, batch = made(tiny, wordle(), tmp_path, weight=1.0, clip=clip)
        credit, plain = algorithm.credit(batch), GRPO.credit(algorithm, batch)[:, None] * batch.action_mask
        assert rms(plain, batch.action_mask) > 0.1
        assert rms(credit, batch.action_mask) == pytest.approx(rms(plain, batch.action_mask), rel=1e-4)
        assert bool((credit.sign() == algorithm.distilled(batch).sign()).all())


def test_one_token_counts_no_more_than_the_clip() -> None:
    values = torch.tensor([[10.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]])
    mask = torch.ones(1, 10, dtype=torch.bool)
    clipped = scaled(values, mask, 1.0, 2.0)
    assert rms(clipped, mask) == pytest.approx(2.0)
    size = rms(values, mask)
    assert float(clipped[0, 0] / clipped[0, 1]) == pytest.approx(size)
    torch.testing.assert_close(scaled(values, mask, 100.0, size), values)
    assert scaled(torch.zeros(1, 10), mask, 1.0, 2.0).tolist() == [[0.0] * 10]


def test_the_gap_between_student_and_teacher_is_in_the_ledger(tiny: LanguageModel, tmp_path: Path) -> None:
    gaps = {}
    for name, settings in {"own": {}, "shuffled": {"shuffled": True}}.items():
        _, session, _ = trained(tiny, wordle(), tmp_path, siblings=False, **settings)
        gaps[name] = session.steps[0]["feedback_gap"]
    assert gaps["own"] > 0
    assert gaps["own"] != gaps["shuffled"]
    _, session, _ = trained(tiny, wordle(), tmp_path, mode="refine")
    assert "refine_gain" in session.steps[0]
    assert "feedback_gap" not in session.steps[0]


def logprobs(policy: LanguageModel, context: list[int], target: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = policy.model.eval()(torch.tensor([context + target])).logits[0]
    rows = logits[len(context) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(target)[:, None])[:, 0]


def test_a_second_try_is_scored_where_the_first_one_stood(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, session, _ = trained(tiny, wordle(), tmp_path, mode="refine")
    batch, count = algorithm.batch, len(algorithm.batch.rollouts)
    assert session.plays == 2
    assert 0 < len(algorithm.shown) <= count
    signs, largest = set(), 0.0
    for chosen, each in zip(algorithm.chosen, algorithm.shown, strict=True):
        b, t = chosen.rollout, chosen.turn
        rollout = batch.rollouts[b]
        assert each.prompt == rollout.prompt_ids + rollout.completion_ids[: rollout.turns[t].start]
        episode = algorithm.task.start(rollout.problem)
        for turn in rollout.turns[:t]:
            episode.step(turn.action)
        again = algorithm.task.score(episode.step(tiny.chat.text(each.completion)))
        group = batch.rollouts[b - b % 4 : b - b % 4 + 4]
        usual = [algorithm.task.score(r.turns[t].verdict) for r in group if len(r.turns) > t]
        advantages = torch.tensor(each.advantages)
        sign = float(torch.sign(advantages.sum()))
        difference = again - sum(usual) / len(usual)
        signs.add(sign)
        assert sign == (difference > 1e-6) - (difference < -1e-6) or abs(difference) < 1e-5
        # s(p) is at most 1/4, where p = 0.1, and nothing else shrinks it: `weight` is .5 here.
        assert advantages.abs().max() <= abs(difference) / 4 + 1e-6
        largest = max(largest, float(advantages.abs().max()) / max(abs(difference), 1e-6))
    assert signs >= {1.0, -1.0}
    assert largest > 0.2


def test_rows_of_demonstrations_join_those_of_the_rollouts(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, parts = trained(tiny, wordle(), tmp_path, mode="predict")
    found = sorted(
        (tuple(ids[keep.bool()].tolist()), tuple(tokens[there.bool()].tolist()))
        for part in parts
        for ids, keep, tokens, there in zip(
            *(part[f"{name}_{what}"] for name in ("prompt", "completion") for what in ("ids", "mask")), strict=True
        )
    )
    signal = algorithm.advantages.abs().sum(1).tolist()
    rollouts = [each for each, size in zip(algorithm.batch.rollouts, signal, strict=True) if size]
    rows = [(each.prompt_ids, each.completion_ids) for each in rollouts]
    rows += [(each.prompt, each.completion) for each in algorithm.shown]
    assert algorithm.shown
    assert found == sorted((tuple(prompt), tuple(completion)) for prompt, completion in rows)
    assert all(part["num_items_in_batch"] == algorithm.batch.action_mask.sum() for part in parts)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_changes_the_weights_and_counts_its_cost(tiny: LanguageModel, tmp_path: Path, mode: str) -> None:
    before = tiny.state_hash()
    _, plain, _ = trained(tiny, wordle(), tmp_path / "a", mode="distill", weight=0.0)
    assert tiny.state_hash() != before
    _, session, _ = trained(tiny, wordle(), tmp_path / "b", mode=mode)

    def flops(which: StubSession) -> float:
        return sum(amounts.get("flops", 0.0) for _, amounts in which.charges)

    assert flops(session) > 0.9 * flops(plain)
    assert all(torch.isfinite(parameter).all() for parameter in tiny.model.parameters())


def test_predicting_feedback_makes_it_likelier(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(1), tmp_path, mode="predict", weight=20.0)
    start = load_policy(tiny.config)
    gains = [
        float((logprobs(tiny, each.prompt, each.completion) - logprobs(start, each.prompt, each.completion)).mean())
        for each in algorithm.shown
    ]
    assert sum(gains) / len(gains) > 0.05


def test_with_feedback_none_and_no_siblings_every_mode_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=72, feedback="none"))  # type: ignore[arg-type]
    algorithm, session, _ = trained(tiny, task, tmp_path, mode="refine")
    assert not algorithm.shown
    assert session.plays == 1
    algorithm, session, _ = trained(tiny, task, tmp_path, siblings=False)
    plain = GRPO.credit(algorithm, algorithm.batch)[:, None] * algorithm.batch.action_mask
    torch.testing.assert_close(algorithm.advantages, plain * 0.5)
    assert "feedback_gap" not in session.steps[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "destill"}, "algo.mode=destill: use one of distill, refine, predict"),
        ({"mode": "distill", "weight": 1.5}, "algo.weight=1.5"),
        ({"weight": -0.1}, "algo.weight=-0.1"),
        ({"clip": 0.0}, "algo.clip=0"),
        ({"mode": "refine", "beta": 0.1}, "algo.beta=0.1"),
        ({"teacher": "attempts"}, "algo.teacher=attempts: use one of task, attempt"),
        ({"shuffled": True, "problems_per_update": 1}, "algo.shuffled takes feedback from other problems"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        FeedbackGRPOConfig(**settings)


def test_only_train_problems_are_tried_again(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(), tmp_path, mode="refine")
    problems: list[Problem] = [rollout.problem for rollout in algorithm.batch.rollouts]
    assert {problem.split for problem in problems} == {"train"}
