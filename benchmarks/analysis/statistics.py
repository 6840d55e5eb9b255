"""How sure a mean is: intervals, p-values and the smallest effect that could have been seen, over seeds and problems.

Every run of an experiment answers the same test problems, so the results form a table, seeds x problems, whose cells
depend on each other along both sides: a hard problem is hard for every seed, a lucky seed is lucky on every problem.
Taking single answers, or single problems, for independent gives intervals that are too narrow. A difference between two
algorithms is such a table too: x[i, j] is what one solved more than the other with seed i on problem j.

Method: crossed random effects, x[i, j] = mean + seed_i + problem_j + rest_ij. With S seeds, P problems and the mean
squares of the two-way table, A (seeds), B (problems) and E (rest), the variance of the grand mean is

    V = (A + max(B - E, 0)) / (S P)

and the interval reaches q sqrt(V) to each side, with Cochran's (1964, Biometrics 20, 191-195) mean of the quantiles of
Student's t, each weighted by its part of the variance:

    q = (A t(S - 1) + max(B - E, 0) t(P - 1)) / (A + max(B - E, 0))

P-values and detectable effects take Student's t with the degrees of freedom that have this quantile. Where seeds differ
these are nearly S - 1: with three seeds a 95% interval reaches 4.3 standard errors to each side, not 2. Satterthwaite's
degrees of freedom were tried too, and covered in 92% with three seeds; a bootstrap over seeds and problems (Owen 2007,
arXiv:0712.1111) knows nothing of few seeds and held the truth in less than 88% where seeds differ much. simulation.py
measures coverage, false positives and power on simulated records; docs/statistics.md shows the figures.

**With one seed** nothing is known of training again: V is then that of the problems alone, and every number speaks of
other problems for this one trained policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
POWER = 0.8
SHARES = (0.0, 1.0)
DIFFERENCES = (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and how sure it is, in the unit of the values."""

    value: float
    low: float
    high: float
    """The interval at the level that was asked for; infinite only where values have no bounds and nothing varied."""
    p_value: float
    """Of the hypothesis that the mean is 0, two-sided."""
    standard_error: float
    degrees_of_freedom: float
    detectable: float
    """The smallest true mean that a repetition would tell from 0 (at 1 - level) with a probability of 80%."""
    seeds: int
    problems: int
    """0 where the values were one number a seed."""


def accuracy_interval(solved: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """An interval for the accuracy on problems, and from seeds, like these.

    Args:
        solved: float [seeds, problems], in [0, 1]: the share of a problem's samples that a seed solved.
        level: share of such intervals that hold the truth, in (0, 1).

    Returns:
        (low, high), finite, 0 <= low <= high <= 1.

    Raises:
        ValueError: not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    estimate = estimate_mean(_shares(solved), SHARES, level, detect=False)
    return estimate.low, estimate.high


def paired_gain_interval(base: ArrayLike, final: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """An interval for the mean of `final - base`, paired by seed and problem.

    How hard a problem is cancels in the difference, so that this is narrower than two separate intervals suggest.

    Args:
        base: float [seeds, problems], in [0, 1]: before training.
        final: float [seeds, problems], in [0, 1]: after it, in the same order of seeds and problems.
        level: share of such intervals that hold the truth, in (0, 1).

    Returns:
        (low, high), finite, -1 <= low <= high <= 1.

    Raises:
        ValueError: shapes that differ or are not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    before, after = _shares(base), _shares(final)
    if before.shape != after.shape:
        raise ValueError(f"base {before.shape} and final {after.shape} must have one shape: they are paired")
    estimate = estimate_mean(after - before, DIFFERENCES, level, detect=False)
    return estimate.low, estimate.high


def estimate_mean(
    values: ArrayLike, bounds: tuple[float, float], level: float = 0.95, *, detect: bool = True
) -> Estimate:
    """The mean of values over seeds and problems, with what is known of it.

    Args:
        values: float [seeds, problems]: outcomes, or paired differences of outcomes.
        bounds: the least and the greatest possible value.
        level: share of such intervals that hold the truth, in (0, 1).
        detect: whether `detectable` is wanted, which takes longer than all the rest; NaN otherwise.

    Returns:
        The interval lies within the bounds. Where all cells are equal, see `_unvaried`; with a single problem the
        interval is all that is possible, since one problem says nothing of others.

    Raises:
        ValueError: not [seeds, problems], empty, not finite, or a level outside (0, 1).
    """
    matrix = _finite(values, 2)
    _check_level(level)
    seeds, problems = matrix.shape
    mean = float(matrix.mean())
    if problems == 1:
        return Estimate(mean, *bounds, 1.0, math.inf, 0.0, math.inf, seeds, problems)
    if (matrix == matrix[0, 0]).all():
        return _unvaried(float(matrix[0, 0]), bounds, level, seeds, problems)
    variance, of_seeds = _variance_of_mean(matrix)
    freedom = _degrees_of_freedom(of_seeds, seeds - 1, problems - 1, level)
    return _student(mean, variance, freedom, bounds, level, seeds, problems, detect)


def estimate_seeds(values: ArrayLike, bounds: tuple[float, float], level: float = 0.95) -> Estimate:
    """The mean over seeds of values that have no problems below them, such as points of a learning curve.

    It speaks of training again, and of the problems that were played, not of others.

    Args:
        values: float [seeds].
        bounds: the least and the greatest possible value.
        level: share of such intervals that hold the truth, in (0, 1).

    Returns:
        Student's interval. With one seed, or where seeds do not differ at all, nothing is known: the bounds.

    Raises:
        ValueError: not [seeds], empty, not finite, or a level outside (0, 1).
    """
    vector = _finite(values, 1)
    _check_level(level)
    mean, seeds = float(vector.mean()), len(vector)
    if (vector == vector[0]).all():
        return Estimate(mean, *bounds, 1.0, math.inf, 0.0, math.inf, seeds, 0)
    return _student(mean, float(vector.var(ddof=1)) / seeds, seeds - 1.0, bounds, level, seeds, 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for a family of tests, in the same order (Holm 1979, Scand. J. Statist. 6, 65-70).

    The chance that any true hypothesis of the family falls below alpha is at most alpha, whatever their dependence.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


@lru_cache(maxsize=8192)
def detectable_factor(degrees_of_freedom: float, level: float = 0.95, power: float = POWER) -> float:
    """Detectable effect over standard error: k with P(|k s + Z| > t s') = power.

    s and s' are the standard errors, over the true one, that this experiment and its repetition estimate: independent,
    sqrt(chi2_df / df). Z is a standard normal, t Student's quantile. The textbook's k, which takes s for exact, keeps
    its promise only with many degrees of freedom: with two it is 5.7, and what it calls detectable is found in 63%.

    Raises:
        ValueError: degrees of freedom that are not above 0, or level or power outside (0, 1).
    """
    from scipy.special import gammaincinv, ndtr, stdtrit

    if not (degrees_of_freedom > 0 and 0 < level < 1 and 0 < power < 1):
        raise ValueError(f"degrees_of_freedom={degrees_of_freedom} must be above 0, {level=} and {power=} in (0, 1)")
    # 32 x 32 of Gauss's points, exact to 5e-5: a hundred times a hundred evenly spaced ones are exact to 5e-4.
    points, weights = np.polynomial.legendre.leggauss(32)
    errors = np.sqrt(gammaincinv(degrees_of_freedom / 2, (points + 1) / 2) * 2 / degrees_of_freedom)
    shares = np.outer(weights, weights) / 4
    hurdles = float(stdtrit(degrees_of_freedom, (1 + level) / 2)) * errors

    def found(factor: float) -> float:
        effects = factor * errors[:, None]
        return float(np.sum(shares * (ndtr(effects - hurdles) + ndtr(-effects - hurdles))))

    low, high = 0.0, 1.0
    while found(high) < power:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high


def _student(
    mean: float,
    variance: float,
    freedom: float,
    bounds: tuple[float, float],
    level: float,
    seeds: int,
    problems: int,
    detect: bool = True,
) -> Estimate:
    from scipy.special import stdtr, stdtrit

    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    p_value = 2 * float(stdtr(freedom, -abs(mean) / error))
    # Rounded, so that a table of many rows solves for few factors; it moves a factor by less than 1%.
    detectable = detectable_factor(float(f"{freedom:.3g}"), level) * error if detect else math.nan
    # A mean of decimals may pass a bound by a rounding error.
    low, high = min(max(mean - half, bounds[0]), mean), max(min(mean + half, bounds[1]), mean)
    return Estimate(mean, low, high, p_value, error, freedom, detectable, seeds, problems)


def _variance_of_mean(values: Matrix) -> tuple[float, float]:
    """Variance of the grand mean of values [seeds, problems], not all equal, and the part of it that seeds have."""
    seeds, problems = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    by_problem = seeds * float(columns.var(ddof=1))
    if seeds == 1:
        return by_problem / problems, 0.0
    by_seed = problems * float(rows.var(ddof=1))
    residuals = values - rows[:, None] - columns + values.mean()
    rest = float(np.square(residuals).sum()) / ((seeds - 1) * (problems - 1))
    if by_seed < 1e-12 * max(by_problem, rest):
        # Seeds whose means agree to the last digit, though their cells differ: luck, which must not pass for certainty.
        by_seed = rest
    total = by_seed + max(by_problem - rest, 0.0)
    return total / (seeds * problems), by_seed / total


def _degrees_of_freedom(of_seeds: float, seeds: int, problems: int, level: float) -> float:
    """Those with which Student's t has Cochran's quantile; `of_seeds` is the part of the variance that seeds have."""
    from scipy.special import stdtridf, stdtrit

    if seeds == 0 or of_seeds == 0:
        return float(problems)
    if of_seeds == 1:
        return float(seeds)
    tail = (1 + level) / 2
    quantile = float(of_seeds * stdtrit(seeds, tail) + (1 - of_seeds) * stdtrit(problems, tail))
    return float(stdtridf(tail, quantile))


def _unvaried(common: float, bounds: tuple[float, float], level: float, seeds: int, problems: int) -> Estimate:
    """What is known where all cells are equal (nothing solved, say), and a variance of 0 would claim certainty.

    A problem unlike all P seen ones has a probability of at most b = 1 - ((1 - level) / 2)^(1/P) (Clopper and Pearson
    1934, none of P), and may reach either bound: the interval is c + b (bound - c) around the common value c.
    """
    unseen = 1 - ((1 - level) / 2) ** (1 / problems)
    low, high = (common + unseen * (bound - common) for bound in bounds)
    against = bounds[0] if common > 0 else bounds[1]
    # The level at which the interval would reach 0.
    p_value = min(1.0, 2 * (1 - common / (common - against)) ** problems) if common else 1.0
    return Estimate(common, low, high, p_value, 0.0, problems - 1.0, max(high - common, common - low), seeds, problems)


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
