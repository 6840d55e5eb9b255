"""Intervals, p-values and detectable effects over seeds and problems, against simulated records with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from simulation import World, experiment, ways

from benchmarks.analysis.statistics import (
    DIFFERENCES,
    UNBOUNDED,
    Contrast,
    accuracy_interval,
    combine,
    contrast,
    contrast_of_runs,
    expected_difference,
    paired_gain_interval,
)

EXPERIMENTS = 300
TABLES = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.sampled_from([0, 0.5, 1.0]))


def simulate(rng, seeds, problems, samples=2, mean=0.5):
    difficulty, luck = rng.normal(mean, 1.2, problems), rng.normal(0, 0.3, seeds)
    return rng.binomial(samples, 1 / (1 + np.exp(difficulty[None, :] - luck[:, None]))) / samples


@pytest.mark.parametrize(
    "world",
    [World(luck=0.6), World(seeds=10), World(luck=0.15, luck_ratio=4.0), World(accuracy=0.01), World(accuracy=0.95)],
    ids=str,
)
def test_intervals_cover_nothing_is_found_where_nothing_is_and_the_design_finds_what_it_says(world):
    # The proofs hold 2,000 experiments to tighter bounds; three standard errors of 300 are added to them here.
    figures = experiment(world, EXPERIMENTS)
    assert figures.coverage >= 0.90
    assert figures.gain_coverage >= 0.90
    assert figures.accuracy_coverage >= 0.90
    assert figures.false_positives <= 0.10
    assert 0.58 <= figures.power <= 0.88


def test_seed_variance_pooled_over_arms_covers_too_seldom_where_one_arm_hardly_varies_as_the_docstring_says():
    rng, world = np.random.default_rng(2), World(luck=0.01, luck_ratio=60.0)
    truth, hits = world.truth(1, world.skill) - world.truth(0), {"paired": 0, "pooled": 0, "welch": 0}
    for _ in range(1000):
        for name, found in ways(*world.play(rng, (0.0, world.skill))).items():
            low, high = found.interval()
            hits[name] += low <= truth <= high
    assert hits["pooled"] < 928 < hits["welch"]


def test_one_seed_covers_too_seldom_when_seeds_differ_as_the_docstring_warns():
    rng, world = np.random.default_rng(2), World(seeds=1)
    truth, hits = world.truth(1, world.skill) - world.truth(0), []
    for _ in range(EXPERIMENTS):
        one, other = world.play(rng, (0.0, world.skill))
        low, high = contrast([other, one], [1, -1], DIFFERENCES).interval()
        hits.append(low <= truth <= high)
    assert np.mean(hits) < 0.8


def test_with_problems_that_do_not_matter_it_is_welchs_interval_of_the_seeds_means():
    rng = np.random.default_rng(3)
    lucks = [rng.normal(0.5, 0.1, 5), rng.normal(0.4, 0.02, 4)]
    arms = [np.repeat(luck[:, None], 200, axis=1) + rng.normal(0, 1e-9, (len(luck), 200)) for luck in lucks]
    answer = contrast(arms, [1, -1], DIFFERENCES)
    expected = stats.ttest_ind(*lucks, equal_var=False)
    assert answer.interval() == pytest.approx(tuple(expected.confidence_interval()), rel=1e-6)
    assert answer.seed_freedom == pytest.approx(expected.df)
    again = contrast_of_runs(lucks, [1, -1], DIFFERENCES)
    assert again.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_with_seeds_that_agree_it_is_students_interval_of_the_problems():
    problems = np.random.default_rng(3).normal(0.1, 0.3, 40).clip(-1, 1)
    expected = stats.ttest_1samp(problems, 0).confidence_interval()
    assert contrast([np.tile(problems, (3, 1))], [1], DIFFERENCES).interval() == pytest.approx(tuple(expected))


def test_the_variance_is_that_of_the_two_way_table_written_out():
    # Independent of the code: components from the mean squares of each arm and of the paired difference.
    rng = np.random.default_rng(9)
    one, other = rng.random((4, 30)), rng.random((6, 30)) + rng.normal(0, 0.1, (6, 1))
    answer = contrast([one, other], [1, -1], UNBOUNDED)
    seed, rest = 0.0, 0.0
    for table in (one, other):
        means = table.mean(1)
        seed += means.var(ddof=1) / len(table)
        fitted = means[:, None] + table.mean(0)[None, :] - table.mean()
        rest += ((table - fitted) ** 2).sum() / ((len(table) - 1) * 29) / len(table)
    over = max((one.mean(0) - other.mean(0)).var(ddof=1) - rest, 0) / 30
    assert (answer.seed_variance, answer.problem_variance) == pytest.approx((seed, over))
    quantile = (seed * stats.t.ppf(0.975, answer.seed_freedom) + over * stats.t.ppf(0.975, 29)) / (seed + over)
    assert answer.quantile() == pytest.approx(quantile)


def test_the_starting_policy_measured_once_adds_no_seeds_and_its_draws_count_once():
    rng = np.random.default_rng(1)
    start, final = (rng.random((1, 50)) < 0.5) * 1.0, (rng.random((4, 50)) < 0.7) * 1.0
    once, copied = (contrast([final, np.repeat(start, n, axis=0)], [1, -1], DIFFERENCES) for n in (1, 4))
    assert once == copied
    assert once.seed_freedom == pytest.approx(3)


def test_seeds_alone_say_nothing_where_there_is_one_or_they_do_not_differ():
    assert contrast_of_runs([[0.3], [0.1]], [1, -1], DIFFERENCES).interval() == DIFFERENCES
    assert contrast_of_runs([[0.3, 0.3]], [1], DIFFERENCES).interval() == DIFFERENCES


def test_problem_variance_that_is_known_from_elsewhere_widens_what_runs_show():
    runs = [[0.5, 0.52, 0.51], [0.4, 0.41, 0.43]]
    alone = contrast_of_runs(runs, [1, -1], DIFFERENCES)
    both = contrast_of_runs(runs, [1, -1], DIFFERENCES, 0.03**2, 113)
    assert both.standard_error == pytest.approx(np.hypot(alone.standard_error, 0.03))


def test_a_weighted_sum_of_independent_contrasts_adds_their_variances():
    parts = [Contrast(value, 0.01, 4.0, 0.02, 40, 3, DIFFERENCES) for value in (0.1, 0.4)]
    slope = combine(parts, [-1, 2], UNBOUNDED)
    assert slope.value == pytest.approx(0.7)
    assert (slope.seed_variance, slope.problem_variance) == pytest.approx((0.05, 0.1))
    assert slope.seed_freedom == pytest.approx(0.05**2 / ((0.01**2 + 0.04**2) / 4))


def test_what_a_design_detects_is_found_in_80_percent():
    rng, design = np.random.default_rng(0), Contrast(0.0, 0.02**2, 4.0, 0.0, 0, 3, UNBOUNDED)
    errors = 0.02 * np.sqrt(rng.chisquare(4, 200_000) / 4)
    found = design.detectable() + 0.02 * rng.normal(size=200_000) > stats.t.ppf(0.975, 4) * errors
    assert found.mean() == pytest.approx(0.8, abs=0.005)


def test_with_many_seeds_the_detectable_effect_is_the_textbooks():
    assert Contrast(0.0, 1.0, 1e6, 0.0, 0, 3, UNBOUNDED).detectable() == pytest.approx(1.96 + 0.84, abs=0.005)


def test_the_expected_spread_of_a_difference_is_that_of_all_arms_and_not_one_pairs_luck():
    rng = np.random.default_rng(4)
    world = World(seeds=4, luck=0.1, taste=1.5)
    true = np.var([np.subtract(*(t.mean() for t in world.play(rng, (0.0, 0.0)))) for _ in range(1500)])
    pooled = [expected_difference(world.play(rng, (0.0,) * 6), 4).standard_error ** 2 for _ in range(300)]
    assert np.mean(pooled) == pytest.approx(true, rel=0.12)
    assert expected_difference([np.eye(3)], 3) is None
    assert expected_difference([np.eye(3)[:1], np.eye(3)], 3) is None


def test_seeds_help_against_seed_variance_and_never_against_that_of_problems():
    few = Contrast(0.0, 0.04**2, 4.0, 0.001**2, 113, 3, DIFFERENCES)
    assert few.with_design(10).detectable() < 0.7 * few.detectable()
    hard = Contrast(0.0, 0.001**2, 4.0, 0.04**2, 113, 3, DIFFERENCES)
    assert hard.with_design(1000).detectable() > 0.99 * hard.detectable()
    assert hard.with_design(3, 4).detectable() == pytest.approx(hard.detectable() / 2, rel=0.01)


def test_seeds_whose_means_agree_by_luck_are_not_taken_for_certainty():
    table = np.array([[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]])
    low, high = contrast([table - 0.5], [1], DIFFERENCES).interval()
    assert high - low > 0.5


def test_the_noise_of_single_cells_is_counted_once():
    noise = np.random.default_rng(8).normal(0, 0.1, (40, 40))
    assert contrast([noise], [1], DIFFERENCES).standard_error == pytest.approx(0.1 / 40, rel=0.25)


def test_one_problem_says_nothing_of_others():
    assert accuracy_interval([[0.5], [1.0]]) == (0.0, 1.0)


def test_with_one_seed_the_interval_is_clopper_and_pearsons_at_the_effective_number_of_problems():
    solved = np.repeat([[0.0, 1.0]], 50, axis=1).reshape(1, 100)
    answers = 0.25 * stats.norm.ppf(0.975) ** 2 / (stats.t.ppf(0.975, 99) ** 2 * 0.25 / 99)
    expected = stats.beta.ppf(0.025, answers / 2, answers / 2 + 1)
    assert accuracy_interval(solved) == pytest.approx((expected, 1 - expected))


def test_near_the_ends_the_interval_is_no_narrower_than_for_independent_answers_and_does_not_fall():
    def spread_out(count):
        solved = np.zeros(300)
        solved[:count] = 1
        return solved.reshape(100, 3).T

    exact = [stats.beta.ppf(0.025, 4, 297), stats.beta.ppf(0.975, 5, 296)]
    low, high = accuracy_interval(np.resize([0.0], (1, 300)) + (np.arange(300) < 4))
    assert (low, high) == pytest.approx(exact, abs=2e-4)
    assert low <= exact[0]
    assert high >= exact[1]
    for width in (1, 3):
        tables = [spread_out(count).reshape(width, -1) for count in range(0, 301, 3)]
        limits = np.array([accuracy_interval(table) for table in tables])
        assert (np.diff(limits, axis=0) >= -1e-12).all()
    assert accuracy_interval(1 - spread_out(4)) == pytest.approx(
        [1 - x for x in accuracy_interval(spread_out(4))[::-1]]
    )


def test_answers_that_agree_better_than_chance_are_no_more_than_independent_ones():
    # Every problem solved in one of two samples: hardly any variance, though 600 coin flips have some.
    solved = np.full((3, 100), 0.5)
    solved[0, 0] = 1.0
    exact = stats.beta.ppf(0.975, 301 * 1.0 + 1, 600 - 301)
    assert accuracy_interval(solved, samples=2)[1] == pytest.approx(exact, abs=1e-3)


def test_more_samples_behind_each_cell_narrow_only_what_independent_answers_bound():
    solved = np.array([[0.5, 0.5, 0.5, 0.5, 0.25, 0.75]])
    widths = [high - low for low, high in (accuracy_interval(solved, samples=n) for n in (1, 4, 16))]
    assert widths[0] > widths[1] >= widths[2]


def test_seeds_that_differ_widen_the_interval():
    agree = np.full((4, 200), 0.5)
    agree[:, ::2] = 0.6
    differ = agree + np.array([[-0.4], [-0.2], [0.2], [0.4]])
    width = [high - low for low, high in (accuracy_interval(agree), accuracy_interval(differ))]
    assert width[1] > 4 * width[0]


def test_problems_are_resampled_jointly_for_all_seeds():
    one = (np.random.default_rng(4).random((1, 100)) < 0.5).astype(float)
    copies = np.repeat(one, 6, axis=0)
    # Six seeds that agree on every problem know no more about the problems than one does.
    assert accuracy_interval(copies) == pytest.approx(accuracy_interval(one), abs=0.005)


def test_pairing_cancels_what_is_hard_for_both():
    rng = np.random.default_rng(5)
    base = rng.random(100) * 0.8 + rng.normal(0, 1e-3, (3, 100)) + 0.01
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
    # Sixteen answers to a problem say no more about other problems.
    assert accuracy_interval(np.zeros((3, 50)), samples=16)[1] == pytest.approx(0.0711, abs=1e-4)
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


def test_arms_with_other_problems_are_refused():
    with pytest.raises(ValueError, match="paired"):
        paired_gain_interval(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_an_impossible_level_is_refused(level):
    for interval in (
        lambda: accuracy_interval(np.eye(3), level),
        lambda: paired_gain_interval(np.eye(3), np.ones((3, 3)), level),
    ):
        with pytest.raises(ValueError, match="level"):
            interval()
