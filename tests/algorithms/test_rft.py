"""Rejection-sampling fine-tuning: only solved rollouts are imitated, each of their tokens alike."""

from __future__ import annotations

import torch
from rollouts import batch_of, rollout

from algorithms.rft import RFT, RFTConfig


def test_only_solved_rollouts_are_imitated() -> None:
    batch = batch_of(rollout((1, 0), solved=True), rollout((1, 0)), rollout((0, 0)), rollout((0, 1)), group_size=4)
    assert RFT(RFTConfig()).credit(batch).tolist() == [4.0, 0.0, 0.0, 0.0]


def test_the_mean_over_all_tokens_becomes_the_mean_over_solved_ones() -> None:
    batch = batch_of(rollout((1, 0), (1, 0), solved=True), rollout((1, 0), solved=True), rollout((0, 0)), group_size=3)
    credit = RFT(RFTConfig()).credit(batch)
    negative_logprobs = torch.rand(batch.action_mask.shape)
    over_all = (credit[:, None] * negative_logprobs * batch.action_mask).sum() / batch.action_mask.sum()
    torch.testing.assert_close(over_all, negative_logprobs[:2][batch.action_mask[:2]].mean())


def test_nothing_solved_means_nothing_learned() -> None:
    batch = batch_of(rollout((1, 0)), rollout((0, 0)), group_size=2)
    assert RFT(RFTConfig()).credit(batch).tolist() == [0.0, 0.0]
