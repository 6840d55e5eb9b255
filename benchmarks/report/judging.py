"""The one place where the report asks the statistics how two experiments compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reading import Run
from benchmarks.statistics import paired_gain_interval


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one experiment solves than another, on the problems and seeds that both have."""

    effect: float
    low: float
    high: float
    """95 % interval."""
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    """Seeds that only one of them has."""

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def difference(ours: Sequence[Run], theirs: Sequence[Run]) -> Difference | None:
    """Accuracy of `ours` minus that of `theirs`, paired by seed and problem; None where nothing can be paired."""
    left = {run.about["seed"]: run.final for run in ours if run.final}
    right = {run.about["seed"]: run.final for run in theirs if run.final}
    seeds = sorted(left.keys() & right.keys())
    if not seeds or any(left[seed].keys() != right[seed].keys() for seed in seeds):
        return None
    problems = sorted(left[seeds[0]])
    a, b = ([[side[seed][problem] for problem in problems] for seed in seeds] for side in (left, right))
    low, high = paired_gain_interval(b, a)
    cells = len(seeds) * len(problems)
    effect = (sum(map(sum, a)) - sum(map(sum, b))) / cells
    return Difference(effect, low, high, tuple(seeds), tuple(sorted(left.keys() ^ right.keys())))
