"""How sure a mean or a difference is: variance over seeds and over problems, intervals, and what a design can detect.

The runs of an experiment (an *arm*) answer the same test problems, so an arm is a table, seeds x problems, whose cells
depend on each other along both sides: a hard problem is hard for every seed, a lucky seed is lucky on every problem.
Taking single answers for independent gives intervals that are too narrow.

Model, for arm a, seed i, problem j: crossed random effects with an interaction,

    x_a[i, j] = mean_a + problem_j + taste_aj + luck_ai + rest_aij       (rest: seed x problem, and sampling of answers)

A *contrast* is sum_a w_a mean(x_a): one arm's accuracy (w = 1), a difference (1, -1), a gain over the starting policy.
The arms share problems, so problem_j cancels where the weights sum to 0. Seeds are not paired: seed 3 of one algorithm
has nothing of seed 3 of another but the order in which problems are drawn. With S_a seeds, P problems, R_a the variance
of the S_a row means, and E_a the residual mean square of the two-way table:

    seed variance     sum_a v_a,   v_a = w_a^2 R_a / S_a,   degrees of freedom f = (sum v_a)^2 / sum(v_a^2 / (S_a - 1))
    problem variance  C = max(var_j(sum_a w_a mean_i x_a[i, j]) - sum_a w_a^2 E_a / S_a, 0) / P,   with P - 1
    interval          value +- q sqrt(seed + C),   q = (seed t(f) + C t(P - 1)) / (seed + C)

f is Welch's and Satterthwaite's, q Cochran's (1964, Biometrics 20, 191-195) mean of Student's quantiles. Paired seeds
(f = S - 1) and pooled seed variance (f = 2(S - 1)) were simulated beside it: the first is wider with few seeds, the
second covers in 91% where one arm hardly varies. docs/statistics.md has the figures.

An arm with one row, or with equal rows (the starting policy, measured once), adds no seed variance: **with one seed the
interval speaks of other problems for this one trained policy**, and nothing is known of training again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
LEVEL, POWER = 0.95, 0.8
SHARES = (0.0, 1.0)
DIFFERENCES = (-1.0, 1.0)
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of arms' means, and what its variance is made of; in the unit of the values."""

    value: float
    seed_variance: float
    seed_freedom: float
    """0 where nothing is known of training again."""
    problem_variance: float
    problems: int
    """0 where the values have no problems below them."""
    seeds: int
    """The fewest of an arm that was trained more than once; 1 where none was."""
    bounds: tuple[float, float]
    """The least and the greatest possible value."""

    @property
    def standard_error(self) -> float:
        """Of the value."""
        return math.sqrt(self.seed_variance + self.problem_variance)

    def quantile(self, level: float = LEVEL) -> float:
        """Standard errors from the value to either end of its interval."""
        from scipy.special import stdtrit

        tail, total = (1 + level) / 2, self.seed_variance + self.problem_variance
        parts = [(self.seed_variance, self.seed_freedom), (self.problem_variance, self.problems - 1)]
        return sum(float(stdtrit(freedom, tail)) * part / total for part, freedom in parts if part > 0)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """(low, high) within the bounds; the bounds themselves where nothing is known.

        Where nothing varied (nothing solved, say) a variance of 0 would claim certainty. A problem unlike all P seen
        ones has a probability of at most b = 1 - ((1 - level) / 2)^(1/P) (Clopper and Pearson 1934, none of P), and may
        reach either bound: the interval is then value + b (bound - value).
        """
        _check_level(level)
        least, most = self.bounds
        if self.standard_error == 0 and self.problems > 1:
            unseen = _unseen(self.problems, level)
            return self.value + unseen * (least - self.value), self.value + unseen * (most - self.value)
        if self.standard_error == 0 or self.problems == 1:
            return self.bounds
        half = self.quantile(level) * self.standard_error
        # A mean of decimals may pass a bound by a rounding error.
        return min(max(self.value - half, least), self.value), max(min(self.value + half, most), self.value)

    def detectable(self, level: float = LEVEL, power: float = POWER) -> float:
        """The true distance from a threshold that an experiment with these variances tells from it with this power.

        Noncentral t with the degrees of freedom that have `quantile`. Wants expected variances (`expected_difference`):
        those of one experiment with few seeds are themselves a matter of luck.
        """
        from scipy.special import nctdtrinc, stdtridf

        if self.standard_error == 0:
            return math.inf
        quantile = self.quantile(level)
        # Above a million degrees of freedom Student's t is normal, and its functions lose their digits.
        freedom = min(float(stdtridf((1 + level) / 2, quantile)), 1e6) if self.seed_variance else self.problems - 1.0
        return float(nctdtrinc(freedom, 1 - power, quantile)) * self.standard_error

    def with_design(self, seeds: int, problems_ratio: float = 1.0) -> Contrast:
        """The same with so many seeds an arm and times the problems (taken to leave seed variance as it is)."""
        freedom = self.seed_freedom * (seeds - 1) / max(self.seeds - 1, 1)
        variance = self.seed_variance * self.seeds / seeds
        over_problems = self.problem_variance / problems_ratio
        return Contrast(self.value, variance, freedom, over_problems, self.problems, seeds, self.bounds)


def contrast(arms: Sequence[ArrayLike], weights: Sequence[float], bounds: tuple[float, float]) -> Contrast:
    """A weighted sum of the means of arms that answer the same problems.

    Args:
        arms: each float [seeds, problems]; seeds may differ in number, problems not.
        weights: one an arm.
        bounds: the least and the greatest possible value of the sum.

    Raises:
        ValueError: not [seeds, problems], empty, not finite, or other problems.
    """
    tables = [_finite(arm, 2) for arm in arms]
    problems = tables[0].shape[1]
    if any(table.shape[1] != problems for table in tables):
        raise ValueError(f"arms of {[table.shape[1] for table in tables]} problems must have the same: they are paired")
    by_problem = np.sum([weight * table.mean(0) for table, weight in zip(tables, weights, strict=True)], axis=0)
    parts, rest_of_mean = [], 0.0
    for table, weight in zip(tables, weights, strict=True):
        if len(table) > 1 and problems > 1 and (table != table[0]).any():
            of_rows, rest = _row_variance(table)
            parts.append((weight**2 * of_rows / len(table), len(table)))
            rest_of_mean += weight**2 * rest / len(table)
    over_problems = float(by_problem.var(ddof=1)) if problems > 1 else 0.0
    problem_variance = max(over_problems - rest_of_mean, 0.0) / problems
    if over_problems < 1e-24:
        problem_variance = 0.0  # What is left of equal decimals.
    return _contrast(float(by_problem.mean()), parts, problem_variance, problems, bounds)


def contrast_of_runs(
    arms: Sequence[ArrayLike],
    weights: Sequence[float],
    bounds: tuple[float, float],
    problem_variance: float = 0.0,
    problems: int = 0,
) -> Contrast:
    """The same of values that are one number a run, such as points of a learning curve.

    Args:
        arms: each float [seeds].
        weights, bounds: as for `contrast`.
        problem_variance: what other problems would add to the variance of the sum, known from elsewhere.
        problems: from how many problems it is known.

    Raises:
        ValueError: not [seeds], empty, or not finite.
    """
    vectors = [_finite(arm, 1) for arm in arms]
    value = float(sum(weight * vector.mean() for vector, weight in zip(vectors, weights, strict=True)))
    pairs = [(vector, weight) for vector, weight in zip(vectors, weights, strict=True) if (vector != vector[0]).any()]
    parts = [(weight**2 * float(vector.var(ddof=1)) / len(vector), len(vector)) for vector, weight in pairs]
    return _contrast(value, parts, problem_variance, problems, bounds)


def combine(contrasts: Sequence[Contrast], weights: Sequence[float], bounds: tuple[float, float]) -> Contrast:
    """A weighted sum of contrasts that share neither seeds nor problems."""
    pairs = list(zip(contrasts, weights, strict=True))
    variances = [(weight**2 * c.seed_variance, c.seed_freedom) for c, weight in pairs]
    value = sum(weight * c.value for c, weight in pairs)
    problem_variance = sum(weight**2 * c.problem_variance for c, weight in pairs)
    seed_variance, freedom = _welch(variances)
    problems, seeds = min(c.problems for c in contrasts), min(c.seeds for c in contrasts)
    return Contrast(value, seed_variance, freedom, problem_variance, problems, seeds, bounds)


def expected_difference(arms: Sequence[ArrayLike], seeds: int) -> Contrast | None:
    """How much a difference between two of these arms is expected to vary: a contrast of value 0, to plan with.

    Seed variance is the mean over the arms (by degrees of freedom), problem variance the arm x problem interaction of
    all arms, so that neither is one pair's luck. Arms that were trained once or not at all are left out.

    Args:
        arms: each float [seeds, problems], of the same problems.
        seeds: of the design.

    Returns:
        None where fewer than two arms say anything of training again.
    """
    tables = [np.asarray(arm, dtype=np.float64) for arm in arms]
    tables = [table for table in tables if len(table) > 1 and (table != table[0]).any()]
    problems = tables[0].shape[1] if tables else 0
    if len(tables) < 2 or problems < 2 or seeds < 2:
        return None
    counts = np.array([len(table) for table in tables])
    of_rows, rests = np.array([_row_variance(table) for table in tables]).T
    means = np.array([table.mean(0) for table in tables])
    left = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    interaction = float(np.square(left).sum()) / ((len(tables) - 1) * (problems - 1)) - float(np.mean(rests / counts))
    of_seed = float(np.average(of_rows, weights=counts - 1))
    # Welch's, as their harmonic mean over experiments with two equal variances; 2 (S - 1) is their most.
    freedom = 2.0 * seeds * (seeds - 1) / (seeds + 1)
    variances = (2 * of_seed / seeds, freedom, 2 * max(interaction, 0.0) / problems)
    return Contrast(0.0, *variances, problems, seeds, DIFFERENCES)


def accuracy_interval(solved: ArrayLike, level: float = LEVEL, samples: int = 1) -> tuple[float, float]:
    """An interval for the accuracy on problems, and from seeds, like these: Korn and Graubard's limits.

    Clopper and Pearson's limits at the effective number of answers (1998, Survey Methodology 24, 193-201),

        n = min(p (1 - p) z^2 / (q^2 V), S P samples),   z = the normal quantile,

    so that it is as wide as `Contrast.interval` in the middle, lopsided near 0 and 1, and nowhere narrower than if all
    answers were independent. It never excludes what it would hold had nothing, or everything, been solved (`_unseen`),
    so that an upper limit does not fall where one problem more is solved.

    Args:
        solved: float [seeds, problems], in [0, 1]: the share of a problem's samples that a seed solved.
        level: share of such intervals that hold the truth, in (0, 1).
        samples: answers behind each cell.

    Returns:
        (low, high), finite, 0 <= low <= high <= 1.

    Raises:
        ValueError: not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    from scipy.special import betaincinv, ndtri

    table = _shares(solved)
    _check_level(level)
    rows = table[:1] if (table == table[0]).all() else table
    if rows.shape[1] == 1:
        return SHARES
    own = contrast([rows], [1.0], SHARES)
    share, tail = min(max(own.value, 0.0), 1.0), (1 - level) / 2
    answers = float(rows.size * samples)
    if own.standard_error > 0:
        binomial = share * (1 - share) * float(ndtri(1 - tail)) ** 2
        answers = min(answers, binomial / (own.quantile(level) * own.standard_error) ** 2)
    unseen, hits, misses = _unseen(rows.shape[1], level), answers * share, answers * (1 - share)
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return min(low, 1 - unseen, share), max(high, unseen, share)


def paired_gain_interval(base: ArrayLike, final: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """An interval for the mean of `final - base`, paired by problem: how hard a problem is cancels.

    Args:
        base: float [seeds, problems], in [0, 1]: before training. Rows may be equal: the policy measured once.
        final: float [seeds, problems], in [0, 1]: after it.
        level: share of such intervals that hold the truth, in (0, 1).

    Returns:
        (low, high), finite, -1 <= low <= high <= 1.

    Raises:
        ValueError: other problems, not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    return contrast([_shares(final), _shares(base)], [1.0, -1.0], DIFFERENCES).interval(level)


def _row_variance(table: Matrix) -> tuple[float, float]:
    """Variance of the rows' means, and the residual mean square, of a table with at least two rows and columns."""
    seeds, problems = table.shape
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    residuals = table - rows[:, None] - columns + table.mean()
    rest = float(np.square(residuals).sum()) / ((seeds - 1) * (problems - 1))
    of_rows = float(rows.var(ddof=1))
    # Seeds whose means agree to the last digit, though their cells differ: luck, which must not pass for certainty.
    return (rest / problems if of_rows < 1e-12 * rest else of_rows), rest


def _contrast(
    value: float,
    parts: Sequence[tuple[float, int]],
    problem_variance: float,
    problems: int,
    bounds: tuple[float, float],
) -> Contrast:
    """From (variance, seeds) of each arm that was trained more than once."""
    seed_variance, freedom = _welch([(variance, seeds - 1.0) for variance, seeds in parts])
    seeds = min((seeds for _, seeds in parts), default=1)
    return Contrast(value, seed_variance, freedom, problem_variance, problems, seeds, bounds)


def _welch(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of variances, each known with so many degrees of freedom, and those of the sum."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / freedom for variance, freedom in parts if variance > 0)
    return total, total**2 / spread if spread else 0.0


def _unseen(problems: int, level: float) -> float:
    return float(1 - ((1 - level) / 2) ** (1 / problems))


def _shares(values: ArrayLike) -> Matrix:
    matrix = _finite(values, 2)
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError("every value must be a number in [0, 1]")
    return matrix


def _finite(values: ArrayLike, dimensions: int) -> Matrix:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or 0 in array.shape:
        expected = "[seeds, problems]" if dimensions == 2 else "[seeds]"
        raise ValueError(f"shape {array.shape} must be {expected}, with at least one of each")
    if not np.isfinite(array).all():
        raise ValueError("every value must be a finite number, such as a number in [0, 1]")
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie in (0, 1)")
