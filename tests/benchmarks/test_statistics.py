"""Bootstrap intervals over seeds and problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.statistics import accuracy_interval, paired_gain_interval

EXPERIMENTS = 300
TABLES = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.sampled_from([0, 0.5, 1.0]))


def solve_rate(difficulty, luck):
    """Chance of solving, [seeds, problems], from problems' difficulties and seeds' luck, in log-odds."""
    return 1 / (1 + np.exp(difficulty[None, :] - luck[:, None]))


def simulate(rng, seeds, problems, samples=2, mean=0.5):
    difficulty, luck = rng.normal(mean, 1.2, problems), rng.normal(0, 0.3, seeds)
    return rng.binomial(samples, solve_rate(difficulty, luck)) / samples


def expected(mean):
    rng = np.random.default_rng(99)
    return solve_rate(rng.normal(mean, 1.2, 2000), rng.normal(0, 0.3, 2000)).mean()


def test_the_accuracy_interval_covers_the_truth_about_as_often_as_it_says_with_five_seeds():
    rng, truth = np.random.default_rng(0), expected(0.5)
    intervals = [accuracy_interval(simulate(rng, 5, 60), draws=400) for _ in range(EXPERIMENTS)]
    coverage = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.88 <= coverage <= 0.99
    assert np.mean([high - low for low, high in intervals]) < 0.25


def test_the_gain_interval_covers_the_truth_about_as_often_as_it_says_with_five_seeds():
    rng, truth = np.random.default_rng(1), expected(0.5) - expected(1.5)
    hits = []
    for _ in range(EXPERIMENTS):
        difficulty, luck = rng.normal(0.5, 1.2, 60), rng.normal(0, 0.3, 5)
        final = rng.binomial(2, solve_rate(difficulty, luck)) / 2
        base = rng.binomial(2, solve_rate(difficulty + 1, rng.normal(0, 0.3, 5))) / 2
        low, high = paired_gain_interval(base, final, draws=400)
        hits.append(low <= truth <= high)
    assert 0.88 <= np.mean(hits) <= 0.99


def test_one_seed_covers_too_seldom_when_seeds_differ_as_the_docstring_warns():
    rng, truth = np.random.default_rng(2), expected(0.5)
    intervals = [accuracy_interval(simulate(rng, 1, 200), draws=400) for _ in range(EXPERIMENTS)]
    assert np.mean([low <= truth <= high for low, high in intervals]) < 0.8


def test_the_same_input_gives_the_same_interval_and_another_seed_nearly_the_same():
    solved = simulate(np.random.default_rng(3), 5, 100)
    first = accuracy_interval(solved)
    assert accuracy_interval(solved.copy()) == first
    other = accuracy_interval(solved, seed=1)
    assert other != first
    assert other == pytest.approx(first, abs=0.02)


def test_with_one_seed_the_interval_is_that_of_resampled_problems():
    solved = np.repeat([[0.0, 1.0]], 50, axis=1).reshape(1, 100)
    low, high = accuracy_interval(solved)
    half_width = 1.96 * 0.5 / np.sqrt(100)
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.015)


def test_seeds_that_differ_widen_the_interval():
    agree = np.full((4, 200), 0.5)
    agree[:, ::2] = 0.6
    differ = agree + np.array([[-0.4], [-0.2], [0.2], [0.4]])
    width = [high - low for low, high in (accuracy_interval(agree), accuracy_interval(differ))]
    assert width[1] > 10 * width[0]


def test_problems_are_resampled_jointly_for_all_seeds():
    one = (np.random.default_rng(4).random((1, 100)) < 0.5).astype(float)
    copies = np.repeat(one, 6, axis=0)
    # Six seeds that agree on every problem know no more about the problems than one does.
    assert accuracy_interval(copies) == pytest.approx(accuracy_interval(one), abs=0.005)


def test_pairing_cancels_what_is_hard_for_both():
    rng = np.random.default_rng(5)
    base = rng.random((3, 100)) * 0.9
    low, high = paired_gain_interval(base, base + 0.1 + rng.normal(0, 1e-3, base.shape).clip(-0.05, 0))
    assert high - low < 0.01
    accuracy = accuracy_interval(base)
    assert accuracy[1] - accuracy[0] > 0.05


def test_a_gain_is_minus_the_gain_the_other_way_round():
    rng = np.random.default_rng(6)
    base, final = simulate(rng, 3, 50, mean=1.5), simulate(rng, 3, 50)
    low, high = paired_gain_interval(base, final)
    assert paired_gain_interval(final, base) == pytest.approx((-high, -low))
    assert low > 0


def test_nothing_solved_is_not_taken_for_certainty():
    # Clopper and Pearson's upper bound for 0 of 50.
    assert accuracy_interval(np.zeros((3, 50))) == (0.0, pytest.approx(0.0711, abs=1e-4))
    assert accuracy_interval(np.ones((3, 50))) == (pytest.approx(1 - 0.0711, abs=1e-4), 1.0)
    assert paired_gain_interval(np.zeros((3, 50)), np.zeros((3, 50))) == pytest.approx((-0.0711, 0.0711), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_every_interval_is_finite_ordered_and_in_range(solved):
    low, high = accuracy_interval(solved, draws=50)
    assert 0 <= low <= high <= 1
    low, high = paired_gain_interval(solved[:, ::-1], solved, draws=50)
    assert -1 <= low <= high <= 1


@pytest.mark.parametrize(
    "solved", [[], [0.5], np.zeros((0, 3)), np.zeros((3, 0)), [[np.nan, 0.5]], [[1.5]], [[-0.1]], [[np.inf]]]
)
def test_what_is_no_table_of_shares_is_refused(solved):
    with pytest.raises(ValueError, match=r"shape|number in \[0, 1\]"):
        accuracy_interval(solved)


def test_unpaired_tables_are_refused():
    with pytest.raises(ValueError, match="paired"):
        paired_gain_interval(np.zeros((2, 3)), np.zeros((1, 3)))


@pytest.mark.parametrize("wrong", [{"level": 0.0}, {"level": 1.0}, {"level": float("nan")}, {"draws": 0}])
def test_an_impossible_level_or_number_of_draws_is_refused(wrong):
    with pytest.raises(ValueError, match="level"):
        accuracy_interval(np.eye(3), **wrong)
