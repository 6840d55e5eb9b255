"""The training rollouts that a record keeps with the advantage of every token."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from stub_session import StubSession

from algorithms.batch import build_batch
from algorithms.credit_samples import FIRST, LAST, credit_rows
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.vector_grpo import VectorGRPO, VectorGRPOConfig
from policies.api import Sampling
from tasks.wordle import Wordle, WordleConfig


@pytest.fixture
def batch(tiny):
    wordle = Wordle(WordleConfig())
    tiny.instructions = wordle.instructions
    rollouts, _ = tiny.play(wordle, wordle.problems("train")[:3], 6, Sampling(), 0)
    return build_batch(rollouts, 6, wordle.components, torch.device("cpu"), tiny.chat.token_ends)


def test_the_group_with_the_widest_spread_gives_its_two_best_and_two_worst(batch):
    advantages = torch.zeros(18)
    advantages[0:6] = torch.tensor([0.1, -0.1, 0.0, 0.0, 0.0, 0.0])
    advantages[6:12] = torch.tensor([0.3, 2.0, -1.0, 0.0, 1.0, -2.0])
    rows = credit_rows(batch, advantages, 7)
    assert list(dict.fromkeys(row["rollout"] for row in rows)) == [7, 10, 8, 11]
    assert {row["problem"] for row in rows} == {batch.rollouts[6].problem.id}
    assert {row["update"] for row in rows} == {7}


def test_rows_hold_the_action_its_tokens_and_the_advantage_of_each(batch):
    advantages = torch.arange(batch.action_mask.numel(), dtype=torch.float32).view(batch.action_mask.shape)
    for row in credit_rows(batch, advantages, 1):
        rollout = batch.rollouts[row["rollout"]]
        turn = rollout.turns[row["turn"]]
        assert row["action"] == turn.action
        assert row["advantages"] == advantages[row["rollout"], turn.start : turn.end].tolist()
        pieces = [row["action"][start:end] for start, end in pairwise([0, *row["ends"]])]
        assert "".join(pieces) == turn.action
        assert len(pieces) == turn.end - turn.start
        assert json.loads(row["rewards"]) == dict(turn.verdict.rewards)


@pytest.mark.parametrize(("algorithm", "config"), [(GRPO, GRPOConfig), (VectorGRPO, VectorGRPOConfig)])
def test_training_keeps_the_first_and_the_last_update(tiny, tmp_path, algorithm, config):
    wordle = Wordle(WordleConfig())
    tiny.instructions = wordle.instructions
    session = StubSession(tiny, wordle, tmp_path, updates=2)
    algorithm(config(problems_per_update=2, group_size=4, micro_batch_size=8)).improve(tiny, wordle, session)
    assert {row["update"] for row in session.kept[FIRST]} == {1}
    assert {row["update"] for row in session.kept[LAST]} == {2}
    values = [value for row in session.kept[LAST] for value in row["advantages"]]
    assert min(values) < 0 < max(values)
    by_turn = [len(set(row["advantages"])) for row in session.kept[LAST]]
    # One number a rollout, or one a component's span: what the strip is there to show.
    assert (max(by_turn) == 1) == (algorithm is GRPO)
