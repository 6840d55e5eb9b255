"""Who beats whom: the one place where the report asks the statistics how experiments compare.

All comparisons of a setting are one family, corrected together by Holm: every pair of the plotted experiments, and each
other experiment against the best. So the leaderboard, the matrix and the answer can never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from benchmarks.analysis.comparison import ALPHA, common_seeds, solved_difference
from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.statistics import holm
from benchmarks.records.index import Index


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more of the test problems one experiment solves than another, on the problems and seeds of both."""

    effect: float
    low: float
    high: float
    """95 % interval, not corrected."""
    p_holm: float
    """Of no difference at all, corrected for the setting's family of comparisons."""
    detectable: float
    """The smallest difference that a repetition would see with a probability of 80 %, before the correction."""
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    """Seeds that only one of them has."""

    @property
    def decided(self) -> bool:
        """Whether the difference can be told from zero after the correction."""
        return self.p_holm < ALPHA

    def turned(self) -> Difference:
        """The same, seen from the other side."""
        return Difference(-self.effect, -self.high, -self.low, self.p_holm, self.detectable, self.seeds, self.left_out)


Pairs = dict[tuple[int, int], Difference]
"""By the places of two experiments, the better one (the lower place) first."""


def judge(experiments: Sequence[Experiment], plotted: Sequence[int], index: Index) -> tuple[Pairs, int]:
    """Compare the experiments of one setting.

    Args:
        experiments: with the same fingerprint, from best to worst.
        plotted: places of those of which every pair is compared; the others are compared with the best alone.
        index: remembers what an earlier call has computed of the very same records.

    Returns:
        The differences (without the pairs that share no seed), and how many comparisons they were corrected for.
    """
    wanted = [*combinations(plotted, 2)]
    wanted += [(0, place) for place in range(1, len(experiments)) if place not in plotted]
    found = {pair: _numbers(experiments[pair[0]], experiments[pair[1]], index) for pair in wanted}
    kept = {pair: numbers for pair, numbers in found.items() if numbers}
    corrected = holm([p_value for _, _, _, p_value, _ in kept.values()])
    pairs: Pairs = {}
    for (pair, (effect, low, high, _, detectable)), p_holm in zip(kept.items(), corrected, strict=True):
        one, other = (experiments[place] for place in pair)
        seeds = common_seeds(one, other)
        left_out = sorted(one.runs.keys() ^ other.runs.keys())
        pairs[pair] = Difference(effect, low, high, p_holm, detectable, tuple(seeds), tuple(left_out))
    return pairs, len(kept)


def _numbers(one: Experiment, other: Experiment, index: Index) -> list[float]:
    runs = [[complete.run for complete in side.runs.values()] for side in (one, other)]
    found = index.recall(key := index.key("difference", runs), 0, 5)
    if found is None:
        fresh = solved_difference(one, other)
        found = [] if fresh is None else [fresh.value, fresh.low, fresh.high, fresh.p_value, fresh.detectable]
        index.remember(key, found)
    return found
