"""What each experiment gained over its starting policy: at temperature 1 and at T*, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.analysis.experiments import SOLVED_TSTAR, Experiment
from benchmarks.analysis.statistics import paired_gain_interval
from benchmarks.analysis.table import SHARPENING, gain_cell, sharpens

METRICS = ("solved", SOLVED_TSTAR)
Interval = tuple[float, float, float]
"""A gain and the ends of its 95% interval, paired by problem."""


@dataclass(frozen=True, slots=True)
class Gains:
    """Of one experiment."""

    name: str
    gain: Interval
    gain_tstar: Interval | None
    """None where the records do not say."""
    sharpening: bool | None
    """Whether a gain at temperature 1 is not shown at T*."""


def gains_of(experiment: Experiment, name: str) -> Gains:
    """An experiment's gains, with the intervals of the table."""
    seeds = list(experiment.runs)
    found: list[Interval] = []
    for metric in METRICS:
        if metric == SOLVED_TSTAR and not all(run.tstar[0] for run in experiment.runs.values()):
            return Gains(name, found[0], None, None)
        before, after = experiment.base_matrix(seeds, metric), experiment.matrix(metric, seeds)
        found.append((float((after - before).mean()), *paired_gain_interval(before, after)))
    return Gains(name, found[0], found[1], sharpens(found[0][1], found[1][1]))


def gain_rows(gains: Sequence[Gains]) -> list[tuple[str, ...]]:
    """Cells for people: name, gain, gain at T*, and what to make of it."""
    return [
        (each.name, gain_cell(*each.gain), gain_cell(*each.gain_tstar) if each.gain_tstar else "–", _word(each))
        for each in gains
    ]


def _word(gains: Gains) -> str:
    return SHARPENING if gains.sharpening else ""
