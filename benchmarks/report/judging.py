"""Who beats whom: the one place where the report asks the statistics how experiments compare.

All comparisons of a setting are one family: every pair of the plotted experiments, and each other experiment against
the best. Their intervals hold at once, so that leaderboard, matrix and answer can never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from benchmarks.analysis.comparison import Standing, simultaneous, solved_difference, standing_of, trains
from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.statistics import expected_difference


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more of the test problems one experiment solves than another."""

    effect: float
    low: float
    high: float
    """Simultaneous with all comparisons of the setting, at 95 %."""
    standing: Standing
    """Seen from the one with the lower place: first, second, equivalent or undecided."""
    seeds: int
    """The fewer of both."""

    @property
    def decided(self) -> bool:
        """Whether the difference can be told from zero."""
        return self.standing in ("first", "second")

    def turned(self) -> Difference:
        """The same, seen from the other side."""
        return Difference(-self.effect, -self.high, -self.low, self.standing, self.seeds)


Pairs = dict[tuple[int, int], Difference]
"""By the places of two experiments, the better one (the lower place) first."""


def judge(experiments: Sequence[Experiment], plotted: Sequence[int]) -> tuple[Pairs, float | None]:
    """Compare the experiments of one setting.

    Args:
        experiments: with the same fingerprint, from best to worst.
        plotted: places of those of which every pair is compared; the others are compared with the best alone.

    Returns:
        The differences, and the one that this design finds in 80 % (None with one seed).
    """
    wanted = [*combinations(plotted, 2)]
    wanted += [(0, place) for place in range(1, len(experiments)) if place not in plotted]
    pairs: Pairs = {}
    for one, other in wanted:
        found = solved_difference(experiments[one], experiments[other])
        low, high = found.interval(simultaneous(len(wanted)))
        seeds = min(len(experiments[place].runs) for place in (one, other))
        pairs[one, other] = Difference(found.value, low, high, standing_of(found, len(wanted)), seeds)
    trained = [experiments[place] for place in plotted if trains(experiments[place])]
    tables = [experiment.matrix("solved", list(experiment.runs)) for experiment in trained]
    design = expected_difference(tables, min(map(len, tables), default=0))
    return pairs, design.detectable(simultaneous(len(wanted))) if design else None
