"""Summaries of many runs beyond the mean: IQM, probability of improvement, performance profiles, and a bootstrap.

IQM, probability of improvement and profiles are those of Agarwal et al. (2021, arXiv:2108.13264). Their package,
rliable, resamples runs within tasks and takes test problems for given; here the problems are a sample too, so both are
drawn: the pigeonhole bootstrap (Owen 2007, arXiv:0712.1111). Its percentile intervals are too narrow with fewer than
five seeds, which is why means, and every verdict, use `benchmarks.analysis.statistics` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of scores, any shape; a lucky or broken run does not move it."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.ravel(np.asarray(scores, dtype=np.float64)), 0.25))


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """How often a run of the first scores above a run of the second; a tie is half.

    Args:
        first, second: scores of runs, float [runs]; the numbers of runs may differ.
    """
    above = np.subtract.outer(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    return float(np.mean(np.sign(above) + 1) / 2)


def performance_profile(costs: pd.DataFrame, taus: ArrayLike) -> pd.DataFrame:
    """For each algorithm the share of workloads on which it needs at most tau times the best one's cost.

    Args:
        costs: float [workloads, algorithms]: cost to target, infinite where it was missed.
        taus: float [taus], at least 1.

    Returns:
        float [taus, algorithms], in [0, 1]. A workload that nobody solves counts as missed by all (Dolan and More 2002,
        arXiv:cs/0102001; AlgoPerf, arXiv:2306.07179).
    """
    ratios = costs.div(costs.min(axis=1).replace(np.inf, np.nan), axis=0).fillna(np.inf)
    taus = np.asarray(taus, dtype=np.float64)
    return pd.DataFrame({name: (ratios[name].to_numpy() <= taus[:, None]).mean(1) for name in costs}, index=taus)


def bootstrap_interval(
    statistic: Callable[..., float], samples: Sequence[Matrix], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a statistic of several algorithms' outcomes on the same problems.

    Args:
        statistic: of arrays like `samples`.
        samples: per algorithm float [seeds, problems]; problems are drawn jointly for all, seeds for each alone.
        level: share of the resampled statistics inside.
        draws: resamples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    problems = samples[0].shape[1]
    values = []
    for _ in range(draws):
        columns = rng.integers(problems, size=problems)
        drawn = [sample[rng.integers(len(sample), size=len(sample))][:, columns] for sample in samples]
        values.append(statistic(*drawn))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
