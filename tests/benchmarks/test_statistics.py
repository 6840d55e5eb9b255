"""Intervals, p-values and detectable effects over seeds and problems, against simulated records with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from simulation import World, experiment

from benchmarks.analysis.statistics import (
    DIFFERENCES,
    accuracy_interval,
    detectable_factor,
    estimate_mean,
    estimate_seeds,
    holm,
    paired_gain_interval,
)

EXPERIMENTS = 300
TABLES = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.sampled_from([0, 0.5, 1.0]))


def simulate(rng, seeds, problems, samples=2, mean=0.5):
    difficulty, luck = rng.normal(mean, 1.2, problems), rng.normal(0, 0.3, seeds)
    return rng.binomial(samples, 1 / (1 + np.exp(difficulty[None, :] - luck[:, None]))) / samples


@pytest.mark.parametrize("world", [World(luck=0.1), World(luck=0.6), World(seeds=5), World(shared_luck=0.5)], ids=str)
def test_intervals_cover_nothing_is_found_where_nothing_is_and_power_is_80_percent(world):
    # simulation.py holds 2,000 experiments to tighter bounds; three standard errors of 300 are added to them here.
    figures = experiment(world, EXPERIMENTS)
    assert 0.90 <= figures.coverage <= 0.995
    assert 0.90 <= figures.accuracy_coverage <= 0.995
    assert figures.false_positives <= 0.10
    assert 0.69 <= figures.power <= 0.91
    assert 0.69 <= figures.power_shifted <= 0.91


def test_a_percentile_bootstrap_covers_too_seldom_where_seeds_differ_as_the_docstring_says():
    rng, world = np.random.default_rng(2), World(luck=0.6)
    hits = []
    for _ in range(EXPERIMENTS):
        difference = np.subtract(*world.play(rng)[::-1])
        rows, columns = rng.integers(3, size=(300, 3)), rng.integers(113, size=(300, 113))
        means = [difference[np.ix_(*chosen)].mean() for chosen in zip(rows, columns, strict=True)]
        low, high = np.quantile(means, [0.025, 0.975])
        hits.append(low <= world.truth() <= high)
    assert np.mean(hits) < 0.88


def test_one_seed_covers_too_seldom_when_seeds_differ_as_the_docstring_warns():
    rng, world = np.random.default_rng(2), World(seeds=1)
    answers = [world.compare(rng) for _ in range(EXPERIMENTS)]
    assert np.mean([answer.low <= world.truth() <= answer.high for answer in answers]) < 0.8


def test_with_problems_that_do_not_matter_it_is_students_interval_of_the_seeds_means():
    luck = np.random.default_rng(3).normal(0, 0.1, 5)
    table = np.repeat(luck[:, None], 200, axis=1) + np.random.default_rng(4).normal(0, 1e-9, (5, 200))
    answer, expected = estimate_mean(table, DIFFERENCES), stats.ttest_1samp(luck, 0)
    assert answer.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert (answer.low, answer.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)
    assert answer.degrees_of_freedom == pytest.approx(4)


def test_with_seeds_that_agree_it_is_students_interval_of_the_problems():
    problems = np.random.default_rng(3).normal(0.1, 0.3, 40).clip(-1, 1)
    answer, expected = estimate_mean(np.tile(problems, (3, 1)), DIFFERENCES), stats.ttest_1samp(problems, 0)
    assert answer.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert (answer.low, answer.high) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)


def test_seeds_alone_give_students_interval():
    values = [0.1, 0.2, 0.25, 0.05]
    answer, expected = estimate_seeds(values, DIFFERENCES), stats.ttest_1samp(values, 0)
    assert answer.p_value == pytest.approx(expected.pvalue)
    assert (answer.low, answer.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert estimate_seeds([0.3], DIFFERENCES).low == -1
    assert estimate_seeds([0.3, 0.3], DIFFERENCES).p_value == 1


def test_the_p_value_is_small_exactly_where_the_interval_excludes_zero():
    rng, sides = np.random.default_rng(7), set()
    for shift in np.linspace(0, 0.3, 60):
        answer = estimate_mean((rng.normal(shift, 0.5, (4, 30)) + rng.normal(0, 0.1, (4, 1))).clip(-1, 1), DIFFERENCES)
        assert (answer.p_value < 0.05) == (answer.low > 0 or answer.high < 0)
        sides.add(answer.p_value < 0.05)
    assert sides == {True, False}


@pytest.mark.parametrize("common", [0.9, -0.9, 0.02, -0.02, 0.0])
def test_where_nothing_varies_the_p_value_still_agrees_with_the_interval(common):
    answer = estimate_mean(np.full((3, 20), common), DIFFERENCES)
    assert (answer.p_value < 0.05) == (answer.low > 0 or answer.high < 0)
    assert (answer.p_value < 0.05) == (abs(common) > 0.5)


@pytest.mark.parametrize("freedom", [2.0, 4.0, 11.5])
def test_the_detectable_effect_is_found_by_a_repetition_in_80_percent(freedom):
    rng, quantile = np.random.default_rng(0), stats.t.ppf(0.975, freedom)
    first, second = np.sqrt(rng.chisquare(freedom, (2, 200_000)) / freedom)
    found = np.abs(detectable_factor(freedom) * first + rng.normal(size=200_000)) > quantile * second
    assert found.mean() == pytest.approx(0.8, abs=0.005)


def test_with_many_seeds_the_detectable_effect_is_the_textbooks():
    assert detectable_factor(1e6) == pytest.approx(1.96 + 0.84, abs=0.005)


def test_holm_multiplies_the_smallest_by_the_familys_size_and_keeps_the_order():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_whose_means_agree_by_luck_are_not_taken_for_certainty():
    table = np.array([[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]])
    answer = estimate_mean(table - 0.5, DIFFERENCES)
    assert answer.high - answer.low > 0.5


def test_the_noise_of_single_cells_is_counted_once():
    noise = np.random.default_rng(8).normal(0, 0.1, (40, 40))
    assert estimate_mean(noise, DIFFERENCES).standard_error == pytest.approx(0.1 / 40, rel=0.25)


def test_one_problem_says_nothing_of_others():
    assert accuracy_interval([[0.5], [1.0]]) == (0.0, 1.0)


def test_with_one_seed_the_interval_is_that_of_resampled_problems():
    solved = np.repeat([[0.0, 1.0]], 50, axis=1).reshape(1, 100)
    low, high = accuracy_interval(solved)
    half_width = stats.t.ppf(0.975, 99) * 0.5 / np.sqrt(100)
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.001)


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
    low, high = accuracy_interval(solved)
    assert 0 <= low <= high <= 1
    low, high = paired_gain_interval(solved[:, ::-1], solved)
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


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_an_impossible_level_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        accuracy_interval(np.eye(3), level)
