"""Value heads: what they learn, from which states, and that the policy gets no gradient from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from rollouts import batch_of, rollout
from stub_session import StubSession

from algorithms.batch import RolloutBatch, build_batch
from algorithms.value_heads import ValueHeads
from algorithms.vector_grpo import VectorGRPO, VectorGRPOConfig
from policies.api import Sampling
from policies.language_model import LanguageModel
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig

CONFIG = VectorGRPOConfig(baseline="heads", batch_step=False, scale_rewards=False)


def with_states(batch: RolloutBatch, states: list[float]) -> RolloutBatch:
    """The batch, its first turn in states of one number each."""
    hidden = torch.full((*batch.turn_rewards.shape[:2], 1), torch.nan)
    hidden[:, 0, 0] = torch.tensor(states)
    return type(batch)(**{f: getattr(batch, f) for f in batch.__slots__} | {"hidden": hidden})


def test_heads_begin_as_the_mean_of_each_component() -> None:
    returns = torch.tensor([[[1.0, 4.0]], [[3.0, math.nan]]])
    heads = ValueHeads(torch.zeros(2, 1, 3), returns, 0.01)
    assert heads.predict(torch.randn(5, 2, 3))[0, 0].tolist() == [2.0, 4.0]


def test_heads_learn_what_the_state_tells() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(64, 2, 3)
    hidden[::2, 1] = torch.nan
    returns = torch.stack([hidden[..., 0] - 1, 2 * hidden[..., 2]], -1)
    returns[5, 0, 1] = torch.nan
    heads = ValueHeads(hidden, returns, 0.05)
    for _ in range(50):
        heads.learn(hidden, returns)
    error = (heads.predict(hidden) - returns).abs()
    assert error.nan_to_num(0.0).max() < 0.05
    assert bool(heads.predict(hidden)[::2, 1].isnan().all())


def test_the_outcome_of_an_update_is_not_in_its_own_baseline() -> None:
    algorithm = VectorGRPO(CONFIG)
    batch = with_states(batch_of(rollout((1, 0)), rollout((0, 0)), group_size=2), [1.0, -1.0])
    first = algorithm.credit(batch)
    # Both were predicted as the mean of the component, 1/2; only then the heads learned.
    assert first[0, 0] == pytest.approx(0.5, abs=1e-6)
    assert first[1, 0] == pytest.approx(-0.5, abs=1e-6)
    assert algorithm.credit(batch)[0, 0] < 0.5


def test_a_return_that_was_predicted_earns_no_credit() -> None:
    algorithm = VectorGRPO(CONFIG)
    batch = with_states(batch_of(rollout((1, 0)), rollout((0, 0)), group_size=2), [1.0, -1.0])
    for _ in range(200):
        credit = algorithm.credit(batch)
    assert credit.abs().max() < 0.02


@pytest.mark.parametrize("turns", [1, 3])
def test_kept_states_are_those_from_which_the_actions_were_drawn(tiny: LanguageModel, turns: int) -> None:
    task = Wordle(WordleConfig(max_turns=turns))
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("train")[:3], 2, Sampling(hidden=True), 1)
    batch = build_batch(rollouts, 2, task.components, tiny.device, tiny.chat.token_ends)
    assert batch.hidden is not None
    for b, each in enumerate(rollouts):
        ids = each.prompt_ids + each.completion_ids
        with torch.no_grad():
            states = tiny.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        for t, turn in enumerate(each.turns):
            expected = states[len(each.prompt_ids) + turn.start - 1]
            torch.testing.assert_close(batch.hidden[b, t], expected, atol=1e-4, rtol=0)
        assert bool(batch.hidden[b, len(each.turns) :].isnan().all())


def test_states_are_not_kept_unless_asked_for(tiny: LanguageModel) -> None:
    task = Wordle(WordleConfig(max_turns=1))
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("train")[:1], 2, Sampling(), 1)
    assert build_batch(rollouts, 2, task.components, tiny.device, tiny.chat.token_ends).hidden is None


def test_training_with_heads_moves_the_policy_and_the_heads(tiny: LanguageModel, tmp_path: Path) -> None:
    task = Wordle(WordleConfig(max_turns=2))
    tiny.instructions, before = task.instructions, tiny.state_hash()
    config = VectorGRPOConfig(
        baseline="heads", learning_rate=1e-3, problems_per_update=2, group_size=4, micro_batch_size=4
    )
    algorithm = VectorGRPO(config)
    algorithm.improve(tiny, task, StubSession(tiny, task, tmp_path, updates=2))
    assert tiny.state_hash() != before
    assert algorithm.heads is not None
    assert bool(algorithm.heads.linear.weight.abs().sum() > 0)


def test_a_learning_rate_of_the_heads_out_of_range_is_refused() -> None:
    with pytest.raises(BadInput, match=r"algo\.head_learning_rate=0"):
        VectorGRPOConfig(head_learning_rate=0.0)
