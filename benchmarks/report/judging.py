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


def judge(experiments: Sequence[Experiment], plotted: Sequence[int]) -> tuple[Pairs, int]:
    """Compare the experiments of one setting.

    Args:
        experiments: with the same fingerprint, from best to worst.
        plotted: places of those of which every pair is compared; the others are compared with the best alone.

    Returns:
        The differences (without the pairs that share no seed), and how many comparisons they were corrected for.
    """
    wanted = [*combinations(plotted, 2)]
    wanted += [(0, place) for place in range(1, len(experiments)) if place not in plotted]
    found = {pair: solved_difference(experiments[pair[0]], experiments[pair[1]]) for pair in wanted}
    kept = {pair: estimate for pair, estimate in found.items() if estimate}
    corrected = holm([estimate.p_value for estimate in kept.values()])
    pairs: Pairs = {}
    for (pair, estimate), p_holm in zip(kept.items(), corrected, strict=True):
        one, other = (experiments[place] for place in pair)
        seeds, left_out = tuple(common_seeds(one, other)), tuple(sorted(one.runs.keys() ^ other.runs.keys()))
        pairs[pair] = Difference(
            estimate.value, estimate.low, estimate.high, p_holm, estimate.detectable, seeds, left_out
        )
    return pairs, len(kept)
