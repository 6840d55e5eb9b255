"""GRPO's credit by hand, and what the trainer refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import batch_of, rollout

from algorithms.grpo import GRPO, GRPOConfig
from algorithms.trainer import check_advantages


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
