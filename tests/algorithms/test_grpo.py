"""GRPO's credit by hand, and what the trainer refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.batch import RolloutBatch, build_batch
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.trainer import check_advantages
from policies.api import Rollout, Turn
from tasks.api import Component, Problem, Verdict

COMPONENTS = (
    Component(name="a", weight=1.0, low=-1, high=1, about=""),
    Component(name="b", weight=0.5, low=-1, high=1, about=""),
)


def rollout(*turns: tuple[float, float]) -> Rollout:
    """A rollout of turns of three tokens each, with one environment token between."""
    out = Rollout(problem=Problem(id="p", split="train"), group=0, prompt_ids=[1])
    for a, b in turns:
        start = len(out.completion_ids)
        verdict = Verdict(rewards={"a": a, "b": b}, feedback="", spans={}, solved=False)
        out.turns.append(Turn(action="", verdict=verdict, start=start, end=start + 3))
        out.completion_ids += [5, 6, 7, 8]
        out.mask += [1, 1, 1, 0]
    return out


def batch_of(*rollouts: Rollout, group_size: int) -> RolloutBatch:
    return build_batch(rollouts, group_size, COMPONENTS, torch.device("cpu"))


def test_the_advantage_is_the_summed_reward_centred_and_scaled_in_its_group() -> None:
    batch = batch_of(rollout((1, 0), (0, 1)), rollout((0, 0)), rollout((1, 1)), rollout((1, 1)), group_size=2)
    advantages = GRPO(GRPOConfig()).credit(batch)
    std = torch.tensor([1.5, 0.0]).std()
    expected = 0.75 / (std + 1e-4)
    torch.testing.assert_close(advantages, torch.tensor([expected, -expected, 0.0, 0.0]))


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)), min_size=4, max_size=4))
def test_advantages_of_a_group_sum_to_zero(rewards: list[tuple[float, float]]) -> None:
    batch = batch_of(*(rollout(pair) for pair in rewards), group_size=4)
    advantages = GRPO(GRPOConfig()).credit(batch)
    assert bool(torch.isfinite(advantages).all())
    assert abs(float(advantages.sum())) < 1e-3


def test_a_batch_knows_which_turn_wrote_a_token() -> None:
    batch = batch_of(rollout((1, 0), (0, 1)), rollout((0, 0)), group_size=2)
    assert batch.turn_of_token.tolist() == [[0, 0, 0, -1, 1, 1, 1, -1], [0, 0, 0, -1, -1, -1, -1, -1]]
    assert batch.action_mask.sum() == 9
    assert batch.turn_rewards[0].tolist() == [[1, 0], [0, 1]]
    assert bool(batch.turn_rewards[1, 1].isnan().all())
    assert batch.rewards.tolist() == [[1, 1], [0, 0]]


def test_a_broken_group_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of groups"):
        batch_of(rollout((1, 0)), rollout((1, 0)), rollout((1, 0)), group_size=2)


@pytest.mark.parametrize("shape", [(3,), (2, 7), (1, 8), (2, 8, 1)])
def test_an_advantage_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    batch = batch_of(rollout((1, 0), (0, 1)), rollout((0, 0)), group_size=2)
    with pytest.raises(ValueError, match="shape"):
        check_advantages(torch.zeros(shape), batch)


def test_an_advantage_that_is_not_a_number_is_refused() -> None:
    batch = batch_of(rollout((1, 0), (0, 1)), rollout((0, 0)), group_size=2)
    with pytest.raises(ValueError, match="not finite"):
        check_advantages(torch.tensor([0.0, torch.nan]), batch)
