"""What algorithms/trainer.py relies on in TRL, by what comes of it: where TRL moves a hook, one of these fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from stub_session import StubSession
from torch.utils.flop_counter import FlopCounterMode
from trl import GRPOTrainer

from algorithms import token_logprobs, trainer
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.rft import RFT, RFTConfig
from algorithms.trainer import RolloutTrainer
from policies.flops import model_shape
from policies.language_model import LanguageModel
from tasks.wordle import Wordle, WordleConfig

SIZES: dict[str, Any] = {"learning_rate": 1e-2, "problems_per_update": 2, "group_size": 4, "micro_batch_size": 2}


def small_trainer(policy: LanguageModel, folder: Path, updates: int = 1, **settings: Any) -> RolloutTrainer:
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=30))
    policy.instructions = task.instructions
    return RolloutTrainer(
        GRPO(GRPOConfig(**SIZES | settings)), policy, task, StubSession(policy, task, folder, updates)
    )


def credited(each: RolloutTrainer, credit: Callable[[Any], torch.Tensor]) -> RolloutTrainer:
    each.algorithm.credit = credit  # type: ignore[method-assign]
    return each


def sevenths(batch: Any) -> torch.Tensor:
    """An advantage for every token, another for each, and a huge one on what the policy did not write."""
    numbers = torch.arange(batch.action_mask.numel()).view(batch.action_mask.shape) % 7 - 2.0
    return torch.where(batch.action_mask, numbers, 1e6)


def test_the_loss_is_minus_the_mean_advantage_of_the_tokens_that_the_policy_wrote(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    each = credited(small_trainer(tiny, tmp_path), sevenths)
    each.train()
    assert each.credited is not None
    batch, advantages = each.credited
    assert 0 in {m for rollout in batch.rollouts for m in rollout.mask}
    expected = -float((advantages * batch.action_mask).sum() / batch.action_mask.sum())
    (step,) = each.session.steps  # type: ignore[attr-defined]
    assert step["loss"] == pytest.approx(expected, abs=1e-4)


def test_every_micro_batch_is_trained_on_once_and_every_update_has_problems_of_its_own(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, seen = credited(small_trainer(tiny, tmp_path, updates=3), sevenths), []
    loss = GRPOTrainer._compute_loss

    def watched(self: Any, model: Any, inputs: Any) -> Any:
        assert each.credited is not None
        seen.append(
            (id(each.credited[0]), int(inputs["tool_mask"].sum()), [r.problem.id for r in each.credited[0].rollouts])
        )
        return loss(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", watched)
    each.train()
    assert len(seen) == 12, "three updates of four micro-batches; TRL's own dataset has one row"
    updates = [seen[start : start + 4] for start in (0, 4, 8)]
    assert all(len({number for number, *_ in update}) == 1 for update in updates)
    assert len({tuple(ids) for update in updates for _, _, ids in update}) == 3
    last = sum(tokens for _, tokens, _ in updates[-1])
    assert each.credited is not None
    assert last == int(each.credited[0].action_mask.sum())


def test_trl_asks_for_log_probabilities_of_the_trained_model_in_one_place(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(model: Any, ids: Any, mask: Any, in_loss: torch.Tensor) -> Any:
        asked.append(int(in_loss.sum()))
        return token_logprobs.token_logprobs(model, ids, mask, in_loss)

    monkeypatch.setattr(trainer, "token_logprobs", counted)
    each = credited(small_trainer(tiny, tmp_path), sevenths)
    each.train()
    assert each.credited is not None
    assert sum(asked) == int(each.credited[0].action_mask.sum())


@pytest.mark.parametrize("adapter", [False, True])
def test_with_beta_the_loss_compares_with_the_starting_weights(
    tiny: LanguageModel, tmp_path: Path, adapter: bool
) -> None:
    if adapter:
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        tiny.model = get_peft_model(tiny.model, lora)
        tiny.shape = model_shape(tiny.model)
    each = credited(small_trainer(tiny, tmp_path, updates=2, beta=0.5), sevenths)
    each.train()
    first, second = (row["kl"] for row in each.state.log_history if "kl" in row)
    assert abs(first) < 1e-5
    assert second > 1e-3


def update_flops(policy: LanguageModel, algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float, float]:
    """FLOPs of the backward and forward passes of an update as torch counts them, and as booked; and trained tokens."""
    # A prompt counts for every rollout, and paddings do not: none is shared here, and rows stand alone.
    monkeypatch.setattr(token_logprobs, "WORTH_SHARING", 0.0)
    policy.model.set_attn_implementation("eager")
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=30))
    policy.instructions = task.instructions
    with tempfile.TemporaryDirectory() as folder:
        session = StubSession(policy, task, Path(folder), 1)
        each = RolloutTrainer(algorithm, policy, task, session)
        parts = each.next_update()
        each.next_update = lambda: parts  # type: ignore[method-assign]
        with FlopCounterMode(display=False) as counter:
            each.train()
    lengths = [part["prompt_ids"].shape[1] + part["completion_ids"].shape[1] for part in parts]
    shape = policy.shape
    masked = sum(3 * 4.0 * shape.layers * shape.attention_width * n * (n - 1) / 2 for n in lengths)
    fillers = sum(not part["tool_mask"].any() for part in parts) * shape.update(2, heads=0)
    (amounts,) = (amounts for phase, amounts in session.charges if phase == "update")
    return counter.get_total_flops() - masked - fillers, amounts["flops"], amounts["trained_tokens"]


def test_an_update_costs_what_is_booked_for_it(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the head computed for every position, or rows without an advantage trained on, this would be far off."""
    settings = SIZES | {"micro_batch_size": 1}
    algorithm = GRPO(GRPOConfig(**settings))
    algorithm.credit = sevenths  # type: ignore[method-assign]
    counted, booked, _ = update_flops(tiny, algorithm, monkeypatch)
    assert booked == pytest.approx(counted, rel=0.05)


def test_rollouts_without_an_advantage_are_neither_computed_nor_booked(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = RFT(RFTConfig(**SIZES | {"micro_batch_size": 1}))
    algorithm.credit = lambda batch: torch.eye(len(batch.rollouts))[1] * 3  # type: ignore[method-assign]
    counted, booked, tokens = update_flops(tiny, algorithm, monkeypatch)
    assert booked == pytest.approx(counted, rel=0.05)
    assert 0 < tokens < 61


def test_leaving_rows_out_changes_neither_loss_nor_weights(
    load_tiny: Callable[[], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(batch: Any) -> torch.Tensor:
        return torch.arange(len(batch.rollouts)) % 2 * 1.5

    found = []
    for everything in (False, True):
        policy = load_tiny()
        if everything:
            monkeypatch.setattr("algorithms.micro_batches.Row.has_gradient", True)
        each = credited(small_trainer(policy, tmp_path), half)
        each.train()
        weights = torch.cat([parameter.detach().flatten() for parameter in policy.model.parameters()])
        found.append((each.session.steps[0]["loss"], weights))  # type: ignore[attr-defined]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert float((found[0][1] - found[1][1]).norm() / found[1][1].norm()) < 1e-4


def test_an_update_without_any_advantage_leaves_the_weights(tiny: LanguageModel, tmp_path: Path) -> None:
    each = credited(small_trainer(tiny, tmp_path), lambda batch: torch.zeros(len(batch.rollouts)))
    before = tiny.state_hash()
    each.train()
    assert tiny.state_hash() == before
    assert each.credited is not None
    assert each.session.charges[-1][1]["trained_tokens"] <= 60, "one rollout has two actions of 30 tokens at most"  # type: ignore[attr-defined]
