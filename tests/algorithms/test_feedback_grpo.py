"""Feedback reaches the teacher and the second try, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_session import StubSession

from algorithms.batch import build_batch
from algorithms.feedback_grpo import MODES, SHAPE, FeedbackGRPO, FeedbackGRPOConfig
from algorithms.grpo import GRPO
from algorithms.trainer import RolloutTrainer
from policies.api import Sampling
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
    heard = [words.feedback for words in algorithm.hear(batch)]
    assert len(heard) > 4
    count = len(batch.rollouts)
    texts = [tiny.tokenizer.decode(row) for row in output["prompt_ids"]]
    played = [tiny.tokenizer.decode([*r.prompt_ids, *r.completion_ids]) for r in batch.rollouts]
    golds = {task.oracle(rollout.problem)[0].splitlines()[-1] for rollout in batch.rollouts}
    for words in heard:
        assert not any(words in text for text in played)
        assert not any(words in text for text in texts)
    assert not any(gold in text for text in texts[:count] for gold in golds)
    # The words are told where they should be: before second tries, and as what is to be foreseen.
    if mode == "refine":
        told = [tiny.tokenizer.decode(context) for context in contexts]
        assert told
        assert all(any(words in text for words in heard) for text in told)
    if mode == "predict":
        foreseen = {tiny.chat.text(each.target) for each in algorithm.shown}
        assert foreseen
        assert foreseen <= set(heard)


def test_distill_with_weight_0_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    algorithm, _, _ = trained(tiny, wordle(), tmp_path, mode="distill", weight=0.0)
    plain = GRPO.credit(algorithm, algorithm.batch)[:, None] * algorithm.batch.action_mask
    torch.testing.assert_close(algorithm.advantages, plain, atol=0, rtol=0)


def test_hindsight_is_the_difference_of_two_plain_passes(tiny: LanguageModel, tmp_path: Path) -> None:
    task = wordle()
    tiny.instructions = task.instructions
    session = StubSession(tiny, task, tmp_path, updates=0)
    algorithm = FeedbackGRPO(FeedbackGRPOConfig(problems_per_update=1, group_size=4))
    algorithm.policy, algorithm.task, algorithm.session = tiny, task, session
    rollouts = session.play(task.problems("train")[:1], 4, Sampling())
    batch = build_batch(rollouts, 4, task.components, tiny.device, tiny.chat.token_ends)
    found = algorithm.hindsight(batch)
    assert found.abs().max() > 0.01
    assert not bool(found[~batch.action_mask].any())
    for b, rollout in enumerate(rollouts):
        for turn in rollout.turns:
            action = rollout.completion_ids[turn.start : turn.end]
            before = rollout.prompt_ids + rollout.completion_ids[: turn.start]
            ended = action[-1] == tiny.tokenizer.eos_token_id
            told = tiny.chat.after_action({"role": "user", "content": turn.verdict.feedback}, ended=ended)
            expected = torch.zeros(len(action))
            if not turn.verdict.solved:
                expected = logprobs(tiny, before + action + told, action) - logprobs(tiny, before, action)
            torch.testing.assert_close(found[b, turn.start : turn.end], expected, atol=2e-4, rtol=0)


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
    for heard, each in zip(algorithm.chosen, algorithm.shown, strict=True):
        b, t = heard.rollout, heard.turn
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
        # s(p) is at most 1/4, where p = 0.1.
        assert each.advantages.abs().max() <= abs(difference) * SHAPE / (4 * SHAPE) + 1e-6
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


def test_shuffled_feedback_is_another_turns(tiny: LanguageModel, tmp_path: Path) -> None:
    task = wordle()
    algorithm, _, _ = trained(tiny, task, tmp_path, mode="distill", shuffled=True)
    batch = algorithm.batch
    own = {(h.rollout, h.turn): batch.rollouts[h.rollout].turns[h.turn].verdict.feedback for h in algorithm.hear(batch)}
    heard = algorithm.hear(batch)
    assert sorted(h.feedback for h in heard) == sorted(own.values())
    moved = sum(own[h.rollout, h.turn] != h.feedback for h in heard)
    assert moved > 0.5 * len(heard)


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
