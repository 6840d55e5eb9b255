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
from benchmarks.analysis.statistics import DIFFERENCES, Contrast, expected_difference
from benchmarks.records.index import Index


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


def judge(experiments: Sequence[Experiment], plotted: Sequence[int], index: Index) -> tuple[Pairs, float | None]:
    """Compare the experiments of one setting.

    Args:
        experiments: with the same fingerprint, from best to worst.
        plotted: places of those of which every pair is compared; the others are compared with the best alone.
        index: remembers what an earlier call has computed of the very same records.

    Returns:
        The differences, and the one that this design finds in 80 % (None with one seed).
    """
    wanted = [*combinations(plotted, 2)]
    wanted += [(0, place) for place in range(1, len(experiments)) if place not in plotted]
    pairs: Pairs = {}
    for one, other in wanted:
        found = _contrast(experiments[one], experiments[other], index)
        low, high = found.interval(simultaneous(len(wanted)))
        seeds = min(len(experiments[place].runs) for place in (one, other))
        pairs[one, other] = Difference(found.value, low, high, standing_of(found, len(wanted)), seeds)
    return pairs, _detectable([experiments[place] for place in plotted], len(wanted), index)


def _contrast(one: Experiment, other: Experiment, index: Index) -> Contrast:
    runs = [[complete.run for complete in side.runs.values()] for side in (one, other)]
    found = index.recall(key := index.key("difference", runs), 6)
    if found is None:
        fresh = solved_difference(one, other)
        found = [fresh.value, fresh.seed_variance, fresh.seed_freedom, fresh.problem_variance]
        found += [fresh.problems, fresh.seeds]
        index.remember(key, found)
    value, seed_variance, freedom, problem_variance, problems, seeds = found
    return Contrast(value, seed_variance, freedom, problem_variance, int(problems), int(seeds), DIFFERENCES)


def _detectable(experiments: Sequence[Experiment], pairs: int, index: Index) -> float | None:
    trained = [experiment for experiment in experiments if trains(experiment)]
    runs = [[complete.run for complete in experiment.runs.values()] for experiment in trained]
    found = index.recall(key := index.key(f"detectable {pairs}", runs), 0, 1)
    if found is None:
        tables = [experiment.matrix("solved", list(experiment.runs)) for experiment in trained]
        design = expected_difference(tables, min(map(len, tables), default=0))
        found = [design.detectable(simultaneous(pairs))] if design else []
        index.remember(key, found)
    return found[0] if found else None
