"""What it cost to get halfway: the target that a setting's algorithms are held to, and what each seed paid for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.report.axes import shared_axes

Curves = Mapping[int, Sequence[Mapping[str, Any]]]
"""Learning curves by seed."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A target between two levels of accuracy on val, and what it cost."""

    start: float
    """Of the untouched policy, over all runs."""
    target: float
    """Halfway from there"""
    best: float
    """to the best final mean."""
    axes: list[str]
    """The costs that all measured."""
    costs: dict[str, dict[str, dict[int, float]]]
    """By experiment's label, cost axis and seed; infinite where the target was missed."""


def reach(experiments: Mapping[str, Curves]) -> Reached | None:
    """What the experiments of one setting, by label, paid for the halfway target.

    None where no mean curve rose, so that there is no way to halve, or where no cost was measured by all.
    """
    curves = [curve for by_seed in experiments.values() for curve in by_seed.values()]
    axes = shared_axes(curves)
    if not axes or not all("solved" in point for curve in curves for point in curve):
        return None
    start = fmean(curve[0]["solved"] for curve in curves)
    best = max(fmean(curve[-1]["solved"] for curve in by_seed.values()) for by_seed in experiments.values())
    if best <= start:
        return None
    target = (start + best) / 2
    costs = {label: _costs(by_seed, target, axes) for label, by_seed in experiments.items()}
    return Reached(start, target, best, axes, costs)


def _costs(by_seed: Curves, target: float, axes: Sequence[str]) -> dict[str, dict[int, float]]:
    from benchmarks.analysis.efficiency import cost_to_target, curve_frame

    reached = cost_to_target(curve_frame(by_seed, axes[0]), target)
    costs: dict[str, dict[int, float]] = {axis: {} for axis in axes}
    for seed, curve in by_seed.items():
        # The evaluation that got there is the same whatever cost is counted in.
        row = next((row for row in curve if row[f"spent/{axes[0]}"] == reached[seed]), None)
        for axis in axes:
            costs[axis][seed] = math.inf if row is None else float(row[f"spent/{axis}"])
    return costs
