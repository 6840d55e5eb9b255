"""Correlations of reward components within groups, and with what is solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import batch_of, rollout

from algorithms.grpo import GRPO, GRPOConfig
from algorithms.reward_correlation import reward_correlations

NUMBERS = st.integers(-4, 4).map(lambda n: n / 4)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), min_size=8, max_size=8)


@given(ROWS)
def test_they_are_pearsons_of_deviations_from_the_groups_means(rows: list[tuple[float, float, bool]]) -> None:
    batch = batch_of(*(rollout((a, b), solved=solved) for a, b, solved in rows), group_size=4)
    a, b, solved = (np.array(column, float).reshape(2, 4) for column in zip(*rows, strict=True))
    parts = {"a": a, "b": b, "sum": a + 0.5 * b, "solved": solved}
    centred = {name: (part - part.mean(1, keepdims=True)).ravel() for name, part in parts.items()}
    expected = {
        f"corr/{one}_{other}": float(np.corrcoef(centred[one], centred[other])[0, 1])
        for one, other in (("a", "b"), ("sum", "solved"))
        if centred[one].std() > 1e-6 < centred[other].std()
    }
    assert reward_correlations(batch) == pytest.approx(expected, abs=1e-5)


def test_a_difference_between_groups_is_no_correlation() -> None:
    easy = [rollout((1, 1), solved=True), rollout((1, 1), solved=True)]
    hard = [rollout((0, 0)), rollout((0, 0))]
    assert reward_correlations(batch_of(*easy, *hard, group_size=2)) == {}


def test_a_constant_component_has_no_correlation_and_the_others_keep_theirs() -> None:
    batch = batch_of(rollout((1, 0.3), solved=True), rollout((0, 0.3)), group_size=2)
    assert reward_correlations(batch) == {"corr/sum_solved": pytest.approx(1)}


def test_the_ledgers_row_has_them() -> None:
    batch = batch_of(rollout((1, 0), solved=True), rollout((0, 1)), group_size=2)
    facts = GRPO(GRPOConfig()).facts(batch)
    assert facts["corr/a_b"] == pytest.approx(-1)
    assert facts["corr/sum_solved"] == pytest.approx(1)
    assert not torch.tensor(list(facts.values())).isnan().any()
