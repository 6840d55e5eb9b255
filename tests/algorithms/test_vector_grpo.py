"""Vector GRPO: identities with GRPO and GDPO, laws of its credit, and spans that find their tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import A_AND_B, batch_of, rollout

from algorithms.gdpo import GDPO, GDPOConfig
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.vector_grpo import VectorGRPO, VectorGRPOConfig, discounted
from policies.language_model import LanguageModel
from tasks.api import Component
from tasks.wordle import Wordle, WordleConfig

ONE = (Component(name="a", weight=1.0, low=-1, high=1, about=""),)
NUMBERS = st.floats(-1, 1, width=32)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=8, max_size=8)


def vector(**settings: Any) -> VectorGRPO:
    return VectorGRPO(VectorGRPOConfig(**settings))


@given(st.lists(NUMBERS, min_size=8, max_size=8))
def test_with_one_component_and_one_turn_it_is_grpo(rewards: list[float]) -> None:
    batch = batch_of(*(rollout((r,), components=ONE) for r in rewards), group_size=4, components=ONE)
    ours = vector(batch_step=False).credit(batch)
    theirs = GRPO(GRPOConfig()).credit(batch)
    torch.testing.assert_close(ours, theirs[:, None] * batch.action_mask, rtol=0, atol=1e-6)


@given(PAIRS)
def test_with_one_turn_and_no_spans_it_is_gdpo(rewards: list[tuple[float, float]]) -> None:
    batch = batch_of(*(rollout(pair) for pair in rewards), group_size=4)
    ours = vector().credit(batch)
    theirs = GDPO(GDPOConfig()).credit(batch)
    torch.testing.assert_close(ours, theirs[:, None] * batch.action_mask, rtol=0, atol=1e-5)


@given(PAIRS)
def test_gdpo_is_trls_normalize_then_sum(rewards: list[tuple[float, float]]) -> None:
    from trl.trainer.utils import nanstd

    batch = batch_of(*(rollout(pair) for pair in rewards), group_size=4)
    grouped = batch.rewards.view(-1, 4, 2)
    normal = (grouped - grouped.nanmean(1, keepdim=True)) / (nanstd(grouped, dim=1, keepdim=True) + 1e-4)
    scores = (normal.view(-1, 2) * batch.weights).nansum(1)
    expected = (scores - scores.nanmean()) / (nanstd(scores) + 1e-4)
    torch.testing.assert_close(GDPO(GDPOConfig()).credit(batch), expected, rtol=0, atol=1e-5)


@given(PAIRS, st.integers(1, 3), st.sampled_from(["a", "b", "both"]))
def test_after_the_batch_step_credit_has_an_rms_of_1_however_little_the_spans_cover(
    pairs: list[tuple[float, float]], turns: int, narrow: str
) -> None:
    spans = {name: (1, 2) for name in ("a", "b") if narrow in (name, "both")}
    rollouts = [rollout(*[pair] * (1 + index % turns), spans=spans) for index, pair in enumerate(pairs)]
    batch = batch_of(*rollouts, group_size=4)
    credit, before = vector().credit(batch), vector(batch_step=False).credit(batch)
    size = float((credit.square().sum(1) / batch.action_mask.sum(1)).sum() / (len(rollouts) - 1)) ** 0.5
    assert size == pytest.approx(1, abs=0.02) or float(before.abs().max()) < 0.02
    factor = credit.sum() / before.sum() if before.sum().abs() > 0.1 else None
    assert factor is None or torch.allclose(credit, before * factor, atol=1e-3), "it is scaled and not shifted"


def test_tokens_that_no_component_judges_get_no_credit_from_the_batch_step() -> None:
    spans = {"a": (0, 1), "b": (0, 1)}
    rollouts = [rollout((1, 0), spans=spans), rollout((0, 0), spans=spans), rollout((1, 1), (0, 0), spans=spans)]
    credit = vector().credit(batch_of(*rollouts, rollout((0, 1), spans=spans), group_size=4))
    outside = torch.tensor([0, 1, 1, 1, 0, 1, 1, 1]).bool()
    assert credit[:, outside].abs().sum() == 0
    assert credit[:, ~outside].abs().sum() > 0


def test_the_outcome_baseline_compares_rollouts_whose_block_before_went_alike() -> None:
    """Component b's span follows a's: b is compared among those that got a right, and among those that did not."""
    spans = {"a": (0, 1), "b": (1, 3)}
    right = [rollout((1, 0.8), spans=spans), rollout((1, 0.4), spans=spans)]
    wrong = [rollout((0, -0.2), spans=spans), rollout((0, -0.6), spans=spans)]
    settings: dict[str, Any] = {"batch_step": False, "scale_rewards": False}
    credit = vector(baseline="outcome", **settings).credit(batch_of(*right, *wrong, group_size=4))
    assert credit[:, 1].tolist() == pytest.approx([0.1, -0.1, 0.1, -0.1]), "half of b's .2, .2: its weight is .5"
    assert credit[:, 0].tolist() == pytest.approx([0.5, 0.5, -0.5, -0.5]), "the first block compares with the group"
    plain = vector(**settings).credit(batch_of(*right, *wrong, group_size=4))
    assert plain[:, 1].tolist() == pytest.approx([0.35, 0.15, -0.15, -0.35])


def test_the_outcome_of_a_later_turn_is_what_the_turn_before_achieved() -> None:
    first = [(1.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 0.0)]
    second = [0.5, 0.1, -0.1, -0.5, 0.0]
    rollouts = [rollout(a, (b, 0)) for a, b in zip(first, second, strict=True)]
    batch = batch_of(*rollouts, group_size=5)
    settings: dict[str, Any] = {"batch_step": False, "scale_rewards": False, "discount": 0.0}
    credit = vector(baseline="outcome", **settings).credit(batch)
    assert credit[:4, 4].tolist() == pytest.approx([0.2, -0.2, 0.2, -0.2])
    assert credit[4, 4] == pytest.approx(0.0), "alone with its outcome it is compared with the group, whose mean is 0"
    assert torch.equal(credit[:, 0], vector(**settings).credit(batch)[:, 0])


def test_returns_are_discounted_sums_of_what_is_still_to_come() -> None:
    rewards = torch.tensor([[[1.0], [2.0], [4.0]], [[1.0], [2.0], [math.nan]]])
    assert discounted(rewards, 0.5).nan_to_num(-9)[..., 0].tolist() == [[3, 4, 4], [2, 2, -9]]


def test_credit_goes_only_to_the_tokens_of_a_components_span() -> None:
    left, right = {"a": (0, 1), "b": (1, 3)}, {"a": (0, 1), "b": (1, 3)}
    batch = batch_of(rollout((1, 0), spans=left), rollout((0, 0), spans=right), group_size=2)
    credit = vector(batch_step=False).credit(batch)
    assert credit[0, 0] > 0 > credit[1, 0]
    assert credit[:, 1:].abs().sum() == 0


def test_a_span_that_cuts_a_token_takes_the_whole_token() -> None:
    batch = batch_of(rollout((1, 0), spans={"a": (1, 2)}), rollout((0, 0), spans={"a": (1, 2)}), group_size=2)
    wide = type(batch)(**{f: getattr(batch, f) for f in batch.__slots__} | {"token_ends": lambda ids: [2, 2, 3]})
    assert wide.span_mask()[0, :, 0].tolist() == [True, False, False, False]


def test_a_turn_that_others_did_not_reach_has_no_advantage() -> None:
    batch = batch_of(rollout((0, 0), (1, 1)), rollout((0, 0)), group_size=2)
    credit = vector(batch_step=False, discount=0.0).credit(batch)
    assert credit.abs().sum() == 0


def test_a_later_fault_is_not_blamed_on_an_earlier_turn_without_discount() -> None:
    good, bad = rollout((0, 0), (0, 0)), rollout((0, 0), (-1, 0))
    credit = vector(batch_step=False, discount=0.0).credit(batch_of(good, bad, group_size=2))
    assert credit[:, :3].abs().sum() == 0
    assert credit[0, 4] > 0 > credit[1, 4]


def test_the_state_baseline_compares_rollouts_of_other_groups_in_the_same_state() -> None:
    one = [rollout((1, 0), knowledge=["start"]), rollout((1, 0), knowledge=["start"])]
    other = [rollout((0, 0), knowledge=["start"]), rollout((0, 0), knowledge=["start"])]
    batch = batch_of(*one, *other, group_size=2)
    assert vector(batch_step=False).credit(batch).abs().sum() == 0
    credit = vector(batch_step=False, baseline="state").credit(batch)
    assert bool((credit[:2, :3] > 0).all())
    assert bool((credit[2:, :3] < 0).all())


def test_a_state_seen_once_falls_back_to_the_group() -> None:
    batch = batch_of(rollout((1, 0)), rollout((0, 1)), group_size=2)
    both = [vector(batch_step=False, baseline=name).credit(batch) for name in ("group", "state")]
    assert torch.equal(*both)


@given(PAIRS, st.integers(1, 3), st.sampled_from(["group", "state", "outcome"]))
def test_credit_is_finite_whatever_the_rewards(pairs: list[tuple[float, float]], turns: int, baseline: str) -> None:
    rollouts = [rollout(*[pair] * (1 + index % turns)) for index, pair in enumerate(pairs)]
    credit = vector(baseline=baseline).credit(batch_of(*rollouts, group_size=4))
    assert bool(torch.isfinite(credit).all())


def test_a_reward_that_is_not_a_number_takes_part_in_nothing() -> None:
    batch = batch_of(rollout((math.nan, 1)), rollout((1, 0)), rollout((0, 0)), rollout((0, 1)), group_size=4)
    credit = vector(batch_step=False).credit(batch)
    assert bool(torch.isfinite(credit).all())
    without = batch_of(rollout((1 / 3, 1)), rollout((1, 0)), rollout((0, 0)), rollout((0, 1)), group_size=4)
    assert credit[0, 0] == pytest.approx(float(vector(batch_step=False).credit(without)[0, 0]), abs=1e-5)


def test_groups_without_variance_get_no_credit() -> None:
    batch = batch_of(*[rollout((0.5, 0.5))] * 4, group_size=4)
    assert vector().credit(batch).abs().sum() == 0


def test_spans_of_real_actions_are_found_in_the_sampled_tokens(tiny: LanguageModel) -> None:
    task = Wordle(WordleConfig())
    tiny.instructions = task.instructions
    from algorithms.batch import build_batch
    from policies.api import Sampling

    rollouts, _ = tiny.play(task, task.problems("train")[:4], 4, Sampling(), 0)
    batch = build_batch(rollouts, 4, task.components, torch.device("cpu"), tiny.chat.token_ends)
    mask = batch.span_mask()
    valid = [component.name for component in task.components].index("valid")
    checked = 0
    for b, each in enumerate(rollouts):
        for turn in each.turns:
            if "valid" in turn.verdict.spans:
                low, high = turn.verdict.spans["valid"]
                chosen = mask[b, turn.start : turn.end, valid]
                ids = torch.tensor(each.completion_ids[turn.start : turn.end])[chosen]
                assert tiny.chat.text(ids.tolist()) == turn.action[low:high]
                checked += 1
    assert checked > 20


def test_components_keep_their_order() -> None:
    batch = batch_of(rollout((1, 0)), rollout((0, 1)), group_size=2)
    assert [component.name for component in batch.components] == [component.name for component in A_AND_B]
