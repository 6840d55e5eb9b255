"""What accuracy costs: learning curves over any cost axis, cost to target, and who is on the accuracy-cost front.

Axes are the ledger's: rollouts, tokens, flops, updates, seconds, device_seconds (of the CPU, or of the GPU where there
is one, so that other work on the machine does not count), and joules or dollars where they were measured. A curve has
one row per evaluation on val problems; what happened between two evaluations nobody saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tasks.errors import BadInput

Matrix = NDArray[np.float64]


def curve_frame(runs: Mapping[int, Sequence[Mapping[str, Any]]], axis: str, metric: str = "solved") -> pd.DataFrame:
    """Learning curves of one experiment.

    Args:
        runs: by seed, rows of curve.parquet.
        axis: rollouts, tokens, flops, updates, seconds, device_seconds, joules or dollars.
        metric: a val metric, or `reward/COMPONENT`.

    Returns:
        Columns seed (int), cost (float, in the axis's unit, ascending per seed) and level (float).

    Raises:
        BadInput: the curves have no such axis or metric, or hold it without a number.
    """
    rows = []
    for seed, curve in runs.items():
        for row in curve:
            cost, level = row.get(f"spent/{axis}"), row.get(metric)
            if cost is None or level is None or not (np.isfinite(cost) and np.isfinite(level)):
                there = sorted(name for name in row if row[name] is not None)
                raise BadInput(
                    f"the curve of seed {seed} has no spent/{axis} or no {metric}; it has {', '.join(there)}"
                )
            rows.append((seed, float(cost), float(level)))
    return pd.DataFrame(rows, columns=["seed", "cost", "level"]).sort_values(["seed", "cost"], ignore_index=True)


def levels_at(curves: pd.DataFrame, costs: ArrayLike) -> pd.DataFrame:
    """Level of every seed at given costs, interpolated between evaluations.

    Args:
        curves: as `curve_frame` returns.
        costs: float [costs].

    Returns:
        float [costs, seeds]; NaN beyond what a seed has spent, since nobody knows how it would have gone on.
    """
    at = np.asarray(costs, dtype=np.float64)
    columns = {}
    for seed, curve in curves.groupby("seed"):
        spent = curve["cost"].to_numpy()
        inside = at <= spent[-1] * (1 + 1e-9)
        columns[seed] = np.where(inside, np.interp(at, spent, curve["level"].to_numpy()), np.nan)
    return pd.DataFrame(columns, index=at)


def first_crossing(costs: Matrix, levels: Matrix, target: float) -> float:
    """The cost at which levels, interpolated, first reach a target; the last cost where they never do."""
    above = np.flatnonzero(levels >= target)
    if not len(above):
        return float(costs[-1])
    end = int(above[0])
    if end == 0:
        return float(costs[0])
    share = (target - levels[end - 1]) / (levels[end] - levels[end - 1])
    return float(costs[end - 1] + share * (costs[end] - costs[end - 1]))


def cost_to_target(curves: pd.DataFrame, target: float) -> pd.Series[float]:
    """Per seed the cost of the first evaluation that reached the target; infinite where none did.

    It lies at most one checkpoint above the true cost: `budget.checkpoints` sets how far that is.
    """
    reached = {seed: float(curve.loc[curve["level"] >= target, "cost"].min()) for seed, curve in curves.groupby("seed")}
    return pd.Series(reached).fillna(np.inf)


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


def front_probability(
    accuracies: Mapping[str, Matrix], costs: Mapping[str, Matrix], draws: int = 4000, seed: int = 0
) -> pd.Series[float]:
    """Probability of being on the accuracy-cost front: that nobody else is as good and as cheap, and better in one.

    Accuracy and cost of an algorithm are drawn together: problems are resampled jointly for all algorithms; the mean
    over seeds moves along the seeds' own deviations by Student's t with seeds - 1 degrees of freedom, in accuracy and
    in log cost alike. With one seed only problems vary.

    Args:
        accuracies: by algorithm float [seeds, problems], the same problems for all.
        costs: by algorithm float [seeds], at least 0.
        draws: joint draws.
        seed: of the draws.

    Returns:
        float [algorithms], in [0, 1].
    """
    rng = np.random.default_rng(seed)
    names = list(accuracies)
    problems = accuracies[names[0]].shape[1]
    weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=draws) / problems
    drawn = []
    for name in names:
        by_seed = weights @ accuracies[name].T
        paid = np.broadcast_to(np.log1p(costs[name]), by_seed.shape)
        seeds = by_seed.shape[1]
        push = np.zeros((draws, seeds))
        if seeds > 1:
            scale = np.sqrt(rng.chisquare(seeds - 1, (draws, 1)) / (seeds - 1) * seeds * (seeds - 1))
            push = rng.normal(size=(draws, seeds)) / scale
        drawn.append(
            [values.mean(1) + (push * (values - values.mean(1, keepdims=True))).sum(1) for values in (by_seed, paid)]
        )
    accuracy, cost = np.array(drawn).transpose(1, 0, 2)
    as_good = (accuracy[:, None] >= accuracy) & (cost[:, None] <= cost)
    better = (accuracy[:, None] > accuracy) | (cost[:, None] < cost)
    return pd.Series(1 - (as_good & better).any(0).mean(1), index=names)
