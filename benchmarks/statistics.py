"""How sure a number is: bootstrap intervals over seeds and problems.

Every run of an experiment answers the same test problems, so the results form a table, seeds x problems, whose cells
depend on each other along both sides: a hard problem is hard for every seed, a lucky seed is lucky on every problem.
Resampling single answers would take them for independent and give intervals that are too narrow.

Method: percentile bootstrap that draws rows and columns apart, for crossed random effects (Owen 2007, "The pigeonhole
bootstrap", arXiv:0712.1111). With x [seeds, problems], s* and p* drawn with replacement,

    mean* = 1 / (S P) * sum over i in s*, j in p* of x[i, j]

and the interval lies between the (1 - level) / 2 and (1 + level) / 2 quantiles of mean*. McCullagh (2000, Bernoulli 6,
285-301) showed that no bootstrap is exact here; this one errs towards width in the noise of single cells, and towards
narrowness in the spread over seeds, which it takes for (S - 1) / S of its variance. Simulated with 100 problems, two
samples each, and seeds that vary by 0.3 in log-odds, a 95% interval covered the truth in 71% of 300 experiments with
one seed, 90% with two, 92% with three and 95% with five (89% with five seeds and 500 problems, where the seeds' spread
is nearly all there is).

**With one to three seeds the resampling of seeds is weak.** With one seed it is absent: the interval then speaks of
other problems for this one trained policy, and says nothing about training it again. With two or three there are only
3 or 10 distinct draws, and the spread over seeds is understated; five seeds are the least that deserve trust.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def accuracy_interval(solved: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """An interval for the accuracy on problems, and from seeds, like these.

    With one to three seeds the resampling of seeds is weak: see the module's docstring.

    Args:
        solved: float [seeds, problems], in [0, 1]: the share of a problem's samples that a seed solved.
        level: share of the resampled means inside, in (0, 1).
        draws: resamples.
        seed: of the resampling; the same input and seed give the same interval.

    Returns:
        (low, high), finite, 0 <= low <= high <= 1. Where all cells are equal, see `_interval`.

    Raises:
        ValueError: not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    return _interval(_checked(solved), (0.0, 1.0), level, draws, seed)


def paired_gain_interval(
    base: ArrayLike, final: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """An interval for the mean of `final - base`, paired by seed and problem.

    How hard a problem is cancels in the difference, so that this is narrower than two separate intervals suggest. With
    one to three seeds the resampling of seeds is weak: see the module's docstring.

    Args:
        base: float [seeds, problems], in [0, 1]: before training.
        final: float [seeds, problems], in [0, 1]: after it, in the same order of seeds and problems.
        level: share of the resampled means inside, in (0, 1).
        draws: resamples.
        seed: of the resampling; the same input and seed give the same interval.

    Returns:
        (low, high), finite, -1 <= low <= high <= 1. Where all differences are equal, see `_interval`.

    Raises:
        ValueError: shapes that differ or are not [seeds, problems], empty, not finite, or outside [0, 1].
    """
    before, after = _checked(base), _checked(final)
    if before.shape != after.shape:
        raise ValueError(f"base {before.shape} and final {after.shape} must have one shape: they are paired")
    return _interval(after - before, (-1.0, 1.0), level, draws, seed)


def _checked(values: ArrayLike) -> Matrix:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"shape {matrix.shape} must be [seeds, problems], with at least one of each")
    # Written so that NaN fails too.
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise ValueError("every value must be a number in [0, 1]")
    return matrix


def _interval(values: Matrix, bounds: tuple[float, float], level: float, draws: int, seed: int) -> tuple[float, float]:
    """The percentile interval of the mean of values [seeds, problems].

    Where all cells are equal (nothing solved, say) every resample is the same, and the bootstrap would claim certainty.
    There, a problem unlike all P seen ones has a probability of at most b = 1 - ((1 - level) / 2)^(1/P) (Clopper and
    Pearson 1934, none of P), and may reach either bound: the interval is c + b (bound - c) around the common value c.
    """
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level={level} must lie in (0, 1) and draws={draws} be at least 1")
    tail = (1 - level) / 2
    seeds, problems = values.shape
    common = float(values[0, 0])
    if (values == common).all():
        unseen = 1 - tail ** (1 / problems)
        return common + unseen * (bounds[0] - common), common + unseen * (bounds[1] - common)
    row_sums = _resample(problems, draws, (seed, 0)) @ values.T
    # One seed resampled is itself: its row stays, and only problems vary.
    means = (_resample(seeds, draws, (seed, 1)) * row_sums).sum(axis=1) / (seeds * problems)
    low, high = np.quantile(means, [tail, 1 - tail])
    # Sums of decimals may pass a bound by a rounding error.
    return max(float(low), bounds[0]), min(float(high), bounds[1])


@lru_cache(maxsize=4)  # A table asks for the same draws once per experiment; 1,319 problems take 21 MB.
def _resample(items: int, draws: int, seed: tuple[int, int]) -> Matrix:
    """How often each item is drawn, `items` times with replacement: float64 [draws, items]."""
    chosen = np.random.default_rng(seed).integers(items, size=(draws, items)) + items * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * items).reshape(draws, items).astype(np.float64)
    counts.flags.writeable = False
    return counts
