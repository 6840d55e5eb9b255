"""Feedback reaches the teacher and the second try, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_session import StubSession

from algorithms.batch import RolloutBatch, build_batch
from algorithms.feedback_grpo import MODES, TEACHERS, FeedbackGRPO, FeedbackGRPOConfig, FeedbackTurn
from algorithms.grpo import GRPO
from algorithms.trainer import RolloutTrainer
from policies.language_model import LanguageModel, load_policy
from tasks.api import Problem, Task
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig


class Listening(FeedbackGRPO):
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
) -> tuple[Listening, StubSession, list[dict[str, torch.Tensor]]]:
    """One update, and TRL's tensors that it was made from."""
    policy.instructions = task.instructions
    config = FeedbackGRPOConfig(
        learning_rate=1e-3, problems_per_update=4, group_size=4, micro_batch_size=8, **{"weight": 0.5, **settings}
    )
    algorithm, session = Listening(config), StubSession(policy, task, folder, updates=1)
    algorithm.policy, algorithm.task, algorithm.session = policy, task, session
    trainer, outputs = RolloutTrainer(algorithm, policy, task, session), []
    original = trainer._generate_and_score_completions

    def listen(inputs: Any) -> Any:
        outputs.append(original(inputs))
        return outputs[-1]

    trainer._generate_and_score_completions = listen
    trainer.train()
    return algorithm, session, outputs


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
    algorithm, _, (output,) = trained(tiny, task, tmp_path, mode=mode)
    batch = algorithm.batch
    given = [words.feedback for words in algorithm.feedback_turns(batch)]
    assert len(given) > 4
    count = len(batch.rollouts)
    texts = [tiny.tokenizer.decode(row) for row in output["prompt_ids"]]
    played = [tiny.tokenizer.decode([*r.prompt_ids, *r.completion_ids]) for r in batch.rollouts]
    golds = {task.oracle(rollout.problem)[0].splitlines()[-1] for rollout in batch.rollouts}
    for words in given:
        assert not any(words in text for text in played)
        assert not any(words in text for text in texts)
    assert not any(gold in text for text in texts[:count] for gold in golds)
    # The words are told where they should be: before second tries, and as what is to be predicted.
    if mode == "refine":
        read = [tiny.tokenizer.decode(context) for context in contexts]
        assert read
        assert all(any(words in text for words in given) for text in read)
    if mode == "predict":
        predicted = {tiny.chat.text(each.target) for each in algorithm.shown}
        assert predicted
        assert predicted <= set(given)


def test_distill_with_weight_0_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(), tmp_path, mode="distill", weight=0.0)
    plain = GRPO.credit(algorithm, algorithm.batch)[:, None] * algorithm.batch.action_mask
    torch.testing.assert_close(algorithm.advantages, plain, atol=0, rtol=0)


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("siblings", [False, True])
def test_hindsight_is_the_difference_of_two_plain_passes(
    tiny: LanguageModel, tmp_path: Path, teacher: str, siblings: bool
) -> None:
    task = wordle()
    tiny.instructions = task.instructions
    session = StubSession(tiny, task, tmp_path, updates=0)
    config = FeedbackGRPOConfig(problems_per_update=2, group_size=16, teacher=teacher, siblings=siblings)
    algorithm = FeedbackGRPO(config)
    algorithm.policy, algorithm.task, algorithm.session = tiny, task, session
    rollouts = session.play(task.problems("train")[:2], 16, algorithm.sampling())
    batch = build_batch(rollouts, 16, task.components, tiny.device, tiny.chat.token_ends)
    found, known = algorithm.hindsight(batch)
    assert found.abs().max() > 0.01
    assert not bool(found[~known].any())
    assert bool((known <= batch.action_mask).all())
    checked = 0
    for b, rollout in enumerate(rollouts):
        for t, turn in enumerate(rollout.turns):
            place = slice(turn.start, turn.end)
            assert bool(known[b, place].all()) == bool(known[b, place].any()) == (not turn.verdict.solved)
            if turn.verdict.solved:
                continue
            action = rollout.completion_ids[turn.start : turn.end]
            before = rollout.prompt_ids + rollout.completion_ids[: turn.start]
            each = FeedbackTurn(b, t, turn.verdict.feedback)
            told = teacher_context(algorithm, batch, each, before + action)
            expected = logprobs(tiny, told, action) - logprobs(tiny, before, action)
            torch.testing.assert_close(found[b, place], expected, atol=3e-4, rtol=0)
            checked += 1
    assert checked > 20
    used = [algorithm.sibling(batch, FeedbackTurn(b, 0, "")) for b in range(len(rollouts))]
    assert any(used) == (siblings and any(rollout.turns[0].verdict.solved for rollout in rollouts))


def teacher_context(algorithm: FeedbackGRPO, batch: RolloutBatch, each: FeedbackTurn, played: list[int]) -> list[int]:
    """The teacher's tokens, written out from the chat."""
    tiny, rollout = algorithm.policy, batch.rollouts[each.rollout]
    if algorithm.config.teacher == "attempt":
        ended = played[-1] == tiny.tokenizer.eos_token_id
        return played + tiny.chat.after_action({"role": "user", "content": each.feedback}, ended=ended)
    asked = rollout.messages[2 * each.turn]["content"]
    text = f"{asked}\n{each.feedback}{algorithm.sibling(batch, each)}"
    if not each.turn:
        return tiny.chat.prompt(tiny.instructions, [{"role": "user", "content": text}])
    earlier = rollout.turns[each.turn - 1].end
    ended = rollout.completion_ids[earlier - 1] == tiny.tokenizer.eos_token_id
    said = tiny.chat.after_action({"role": "user", "content": text}, ended=ended)
    return rollout.prompt_ids + rollout.completion_ids[:earlier] + said


def test_the_teachers_part_is_as_large_as_grpos(tiny: LanguageModel, tmp_path: Path) -> None:
    """With weight 1 and no clipping, credit has GRPO's rms on the turns that have feedback."""
    algorithm, _, _ = trained(tiny, GsmSynth(GsmSynthConfig()), tmp_path, mode="distill", weight=1.0, clip=1e6)
    batch = algorithm.batch
    plain = GRPO.credit(algorithm, batch)
    usual = plain[plain.abs() > 1e-6]
    tokens = torch.stack([batch.action_mask[row].sum() for row in range(len(plain)) if plain[row].abs() > 1e-6])
    known = algorithm.advantages[algorithm.advantages != 0]
    expected = ((usual.square() * tokens).sum() / tokens.sum()).sqrt()
    assert float(known.square().mean().sqrt()) == pytest.approx(float(expected), rel=0.02)
    assert algorithm.gap is not None


def logprobs(policy: LanguageModel, context: list[int], target: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits = policy.model.eval()(torch.tensor([context + target])).logits[0]
    rows = logits[len(context) - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(target)[:, None])[:, 0]


def test_a_second_try_is_scored_where_the_first_one_stood(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, session, (output,) = trained(tiny, wordle(), tmp_path, mode="refine", weight=1.0)
    batch, count = algorithm.batch, len(algorithm.batch.rollouts)
    assert session.plays == 2
    assert 0 < len(algorithm.shown) <= count
    assert len(output["completion_ids"]) == 2 * count
    signs = set()
    for given, each in zip(algorithm.chosen, algorithm.shown, strict=True):
        b, t = given.rollout, given.turn
        rollout = batch.rollouts[b]
        assert each.context == rollout.prompt_ids + rollout.completion_ids[: rollout.turns[t].start]
        episode = algorithm.task.start(rollout.problem)
        for turn in rollout.turns[:t]:
            episode.step(turn.action)
        again = algorithm.task.score(episode.step(tiny.chat.text(each.target)))
        group = batch.rollouts[b - b % 4 : b - b % 4 + 4]
        usual = [algorithm.task.score(r.turns[t].verdict) for r in group if len(r.turns) > t]
        sign = float(torch.sign(each.advantages.sum()))
        difference = again - sum(usual) / len(usual)
        signs.add(sign)
        assert sign == (difference > 1e-6) - (difference < -1e-6) or abs(difference) < 1e-5
        # s(p) is at most 1, where p = 0.1.
        assert each.advantages.abs().max() <= abs(difference) + 1e-6
    assert signs >= {1.0, -1.0}


def test_rows_of_demonstrations_keep_the_rollouts_as_they_are(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, (output,) = trained(tiny, wordle(), tmp_path, mode="predict")
    count = len(algorithm.batch.rollouts)
    mask = output["completion_mask"] * output["tool_mask"]
    assert mask[:count].sum() == output["num_items_in_batch"]
    assert mask[count:].sum() == sum(len(each.target) for each in algorithm.shown)
    for row, rollout in enumerate(algorithm.batch.rollouts):
        ids = output["completion_ids"][row][output["completion_mask"][row].bool()].tolist()
        assert ids == rollout.completion_ids
        assert output["prompt_ids"][row][output["prompt_mask"][row].bool()].tolist() == rollout.prompt_ids
    for row, each in enumerate(algorithm.shown, start=count):
        assert output["prompt_ids"][row][output["prompt_mask"][row].bool()].tolist() == each.context
        assert output["advantages"][row][mask[row].bool()].tolist() == each.advantages.tolist()


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
        float((logprobs(tiny, each.context, each.target) - logprobs(start, each.context, each.target)).mean())
        for each in algorithm.shown
    ]
    assert sum(gains) / len(gains) > 0.05


def test_shuffled_feedback_never_comes_from_the_same_problem(tiny: LanguageModel, tmp_path: Path) -> None:
    task = wordle()
    algorithm, _, _ = trained(tiny, task, tmp_path, mode="distill", shuffled=True)
    batch = algorithm.batch
    said: dict[str, set[str]] = {}
    for rollout in batch.rollouts:
        said.setdefault(rollout.problem.id, set()).update(turn.verdict.feedback for turn in rollout.turns)
    turns = algorithm.feedback_turns(batch)
    assert len(turns) == sum(not turn.verdict.solved for rollout in batch.rollouts for turn in rollout.turns)
    for each in turns:
        own = batch.rollouts[each.rollout].problem.id
        assert any(each.feedback in lines for problem, lines in said.items() if problem != own)


def test_a_problem_without_another_beside_it_gets_no_shuffled_feedback(tiny: LanguageModel, tmp_path: Path) -> None:
    task = wordle()
    algorithm, _, _ = trained(tiny, task, tmp_path, mode="distill", shuffled=True)
    alone = build_batch(algorithm.batch.rollouts[:4], 4, task.components, tiny.device, tiny.chat.token_ends)
    assert algorithm.feedback_turns(alone) == []
    found, known = algorithm.hindsight(alone)
    assert not bool(found.any() or known.any())


def test_refine_with_feedback_none_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=72, feedback="none"))  # type: ignore[arg-type]
    algorithm, session, (output,) = trained(tiny, task, tmp_path, mode="refine")
    assert not algorithm.shown
    assert session.plays == 1
    assert len(output["completion_ids"]) == len(algorithm.batch.rollouts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "destill"}, "algo.mode=destill: use one of distill, refine, predict"),
        ({"mode": "distill", "weight": 1.5}, "algo.weight=1.5"),
        ({"weight": -0.1}, "algo.weight=-0.1"),
        ({"clip": 0.0}, "algo.clip=0"),
        ({"teacher": "both"}, "algo.teacher=both: use one of task, attempt"),
        ({"shuffled": True, "problems_per_update": 1}, "algo.problems_per_update >= 2"),
        ({"mode": "refine", "beta": 0.1}, "algo.beta=0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        FeedbackGRPOConfig(**settings)


def test_only_train_problems_are_tried_again(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(), tmp_path, mode="refine")
    problems: list[Problem] = [rollout.problem for rollout in algorithm.batch.rollouts]
    assert {problem.split for problem in problems} == {"train"}
