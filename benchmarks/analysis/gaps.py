"""How far two experiments are apart: on the test problems, on val at equal cost, and in the time to a target."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from benchmarks.analysis.efficiency import curve_frame, first_crossing, levels_at
from benchmarks.analysis.experiments import SOLVED_TSTAR, Experiment, Matrix
from benchmarks.analysis.statistics import DIFFERENCES, UNBOUNDED, Contrast, contrast, contrast_of_runs
from tasks.errors import require

START = ("solved", SOLVED_TSTAR)
"""Metrics that are also measured before improving, by test problem: what a gain can be taken of."""


def after(experiment: Experiment, metric: str) -> Matrix:
    """What each seed reached, float64 [seeds, problems]."""
    return experiment.matrix(metric, list(experiment.runs))


def before(experiment: Experiment, metric: str) -> Matrix:
    """The same of the policy that each seed began with."""
    require(metric in START, f"metric={metric}: no record has it of the policy before improving")
    return experiment.base_matrix(list(experiment.runs), metric)


def gap(first: Experiment, second: Experiment | None, metric: str) -> Contrast:
    """First minus second, or minus the policy that first began with, on the test problems."""
    arms = [after(first, metric), before(first, metric) if second is None else after(second, metric)]
    reach = max(1.0, *(float(np.abs(arm).max()) for arm in arms))
    return contrast(arms, [1, -1], DIFFERENCES if reach == 1 else (-2 * reach, 2 * reach))


def curve_gap(
    first: Experiment, second: Experiment, axis: str, metric: str, share: float = 1.0
) -> tuple[Contrast, Contrast]:
    """First's level at a share of a cost minus second's at the cost: as low, and as high, as evaluations leave it."""
    curves = [curve_frame({s: run.curve for s, run in e.runs.items()}, axis, metric) for e in (first, second)]
    ends = [float(curve.groupby("seed")["cost"].max().min()) for curve in curves]
    cost = min(ends[1], ends[0] / share)
    around = []
    for _, own in curves[0].groupby("seed"):
        under, over = own[own["cost"] <= share * cost * (1 + 1e-9)], own[own["cost"] >= share * cost * (1 - 1e-9)]
        around.append([under["level"].iloc[-1], over["level"].iloc[0]])
    others = levels_at(curves[1], [cost]).iloc[0].to_numpy()
    about = (val_variance(first, second, metric), int(first.first.summary["n_test"]))
    least, most = (
        contrast_of_runs([[pick(pair) for pair in around], others], [1, -1], DIFFERENCES, *about) for pick in (min, max)
    )
    return least, most


def time_gap(first: Experiment, second: Experiment, metric: str) -> Contrast:
    """Log of the second's updates to target minus log of the first's: above 0 where the first is faster.

    The target lies halfway from the start to the lower of the two final means, so that both reach it. Times t are those
    of the mean curve over seeds, interpolated; a seed's own number is its jackknife pseudo-value S log t - (S - 1)
    log t_without. Other problems shift a curve by what they shift the difference on the test problems.

    Raises:
        BadInput: one of them did not learn, so that there is nothing to time.
    """
    curves = [curve_frame({s: run.curve for s, run in e.runs.items()}, "updates", metric) for e in (first, second)]
    end = min(float(curve.groupby("seed")["cost"].max().min()) for curve in curves)
    grid = np.unique(np.concatenate([[end], *(curve["cost"][curve["cost"] <= end] for curve in curves)]))
    levels = [levels_at(curve, grid) for curve in curves]
    start = float(np.mean([level.iloc[0].mean() for level in levels]))
    target = (start + min(float(level.iloc[-1].mean()) for level in levels)) / 2
    require(target > start, f"nothing to time: {metric} on val ended no higher than it began")

    def log_time(level: pd.DataFrame, goal: float) -> float:
        return math.log(max(first_crossing(grid, level.mean(axis=1).to_numpy(), goal), 1.0))

    def by_seed(level: pd.DataFrame) -> list[float]:
        seeds, whole = level.shape[1], log_time(level, target)
        return [seeds * whole - (seeds - 1) * log_time(level.drop(columns=seed), target) for seed in level]

    shift = math.sqrt(val_variance(first, second, metric))
    moved = [log_time(levels[1], goal) for goal in (target - shift, target + shift)]
    problems = first.first.summary["n_test"]
    times = [by_seed(level) for level in levels]
    return contrast_of_runs(times, [-1, 1], UNBOUNDED, ((moved[1] - moved[0]) / 2) ** 2, problems)


def val_variance(first: Experiment, second: Experiment, metric: str) -> float:
    """What other val problems would add to the variance of a difference between two curves.

    Curves have no outcomes by problem: the variance over problems is that of the same difference on the test problems.
    """
    config, tested = first.first.config, int(first.first.summary["n_test"])
    val, test = (float(config.get(f"task.{split}") or 0) for split in ("val", "test"))
    there = tested * val / test if val and test else math.inf
    wanted = float(config.get("evaluate.val_problems") or there)
    require(wanted < math.inf, "the configuration does not say how many val problems the curve is of")
    return gap(first, second, metric).problem_variance * tested / min(there, wanted)
