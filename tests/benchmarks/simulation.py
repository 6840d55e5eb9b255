"""Simulated experiments with known truth: do intervals cover, is nothing found where nothing is, is power 80%?

`main` simulates 2,000 experiments a row and prints the figures of docs/statistics.md; the tests run fewer.

The world is the one of real records. The log-odds that run (algorithm a, seed i) solves problem j are

    ease + skill_a + difficulty_j + taste_aj + luck_ai + mix_aij

with difficulty_j ~ N(0, 1.3), the same for all algorithms; taste_aj ~ N(0, taste / sqrt 2), what suits an algorithm
about a problem; luck_ai ~ N(0, luck_a), what training again changes on all problems, and mix_aij ~ N(0, mix) on single
ones (seed x problem); each problem is played `samples` times. `ease` is such that the first algorithm has the stated
accuracy. The starting policy, over which gains are taken, has neither luck nor mix and is measured once a seed. The
truth is the expected accuracy over all problems, tastes, lucks and mixes, by Gauss-Hermite quadrature.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis.statistics import (
    DIFFERENCES,
    UNBOUNDED,
    Contrast,
    Matrix,
    accuracy_interval,
    contrast,
    contrast_of_runs,
    expected_difference,
    paired_gain_interval,
)

SPREAD = 1.3
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
ODDS = np.linspace(-14, 14, 2801)
POOL = 6
"""Algorithms whose records the expected variance of a design comes from."""


def expected(odds: float | Matrix, spread: float) -> Matrix:
    """Mean accuracy where log-odds are normal."""
    chances: Matrix = 1 / (1 + np.exp(-(np.asarray(odds)[..., None] + spread * NODES)))
    return np.asarray(chances @ (WEIGHTS / WEIGHTS.sum()))


@dataclass(frozen=True)
class World:
    """What is simulated."""

    seeds: int = 3
    luck: float = 0.3
    luck_ratio: float = 1.0
    """The second algorithm's luck over the first's."""
    taste: float = 0.5
    mix: float = 0.5
    skill: float = 0.45
    """How much better the second algorithm is, in log-odds."""
    accuracy: float = 0.43
    """The first algorithm's."""
    problems: int = 113
    samples: int = 2
    shared_luck: float = 0.0
    """Share of luck's variance that a seed's number gives to both algorithms."""

    def spread(self, place: int) -> float:
        """Standard deviation of log-odds of the first algorithm (0), the second (1) or the starting policy (-1)."""
        luck, mix = (0.0, 0.0) if place < 0 else (self.luck * (self.luck_ratio if place else 1.0), self.mix)
        return float(np.sqrt(SPREAD**2 + self.taste**2 / 2 + luck**2 + mix**2))

    def truth(self, place: int, skill: float = 0.0) -> float:
        """Expected accuracy."""
        return float(expected(ease(self) + skill, self.spread(place)))

    def play(self, rng: np.random.Generator, skills: tuple[float, ...], start: bool = False) -> list[Matrix]:
        """Shares solved by algorithms with these skills, float64 [seeds, problems]; the starting policy last."""
        difficulty = rng.normal(ease(self), SPREAD, self.problems)
        common = np.sqrt(self.shared_luck) * rng.normal(0, self.luck, (self.seeds, 1))
        played = []
        for place, skill in enumerate((*skills, 0.0) if start else skills):
            taste, noise = rng.normal(0, self.taste / np.sqrt(2), self.problems), np.zeros((self.seeds, 1))
            if place < len(skills):
                own = rng.normal(0, self.luck * (self.luck_ratio if place % 2 else 1.0), (self.seeds, 1))
                noise = common + np.sqrt(1 - self.shared_luck) * own
                noise = noise + rng.normal(0, self.mix, (self.seeds, self.problems))
            chance = 1 / (1 + np.exp(-(skill + difficulty + taste + noise)))
            played.append(rng.binomial(self.samples, chance) / self.samples)
        return played


@cache
def ease(world: World) -> float:
    """Log-odds that give the first algorithm its accuracy."""
    return float(np.interp(world.accuracy, expected(ODDS, world.spread(0)), ODDS))


@dataclass(frozen=True)
class Figures:
    """What many experiments showed: shares, then median half width and detectable difference."""

    coverage: float
    """Of 95% intervals for the difference, that hold the truth."""
    gain_coverage: float
    """Of 95% intervals for the second algorithm's gain over the starting policy."""
    accuracy_coverage: float
    """Of 95% intervals for the second algorithm's accuracy."""
    false_positives: float
    """Of comparisons between algorithms of the same skill, intervals without 0."""
    found: float
    """Of comparisons of the two algorithms, intervals on the right side of 0."""
    power: float
    """Of comparisons whose true difference is what the records of POOL algorithms called detectable, those that found
    it (on a scale without ends: nothing, to which the detectable difference is added)."""
    power_low: float
    """The same in the quarter of experiments that called the least detectable, and"""
    power_high: float
    """in the quarter that called the most."""
    half_width: float
    detectable: float


def experiment(world: World, experiments: int, seed: int = 0) -> Figures:
    """Simulate comparisons in one world."""
    rng = np.random.default_rng(seed)
    second = world.truth(1, world.skill)
    truth, gain = second - world.truth(0), second - world.truth(-1)
    hits: list[tuple[bool, ...]] = []
    numbers: list[tuple[float, float]] = []
    for _ in range(experiments):
        one, other, start = world.play(rng, (0.0, world.skill), start=True)
        low, high = contrast([other, one], [1, -1], DIFFERENCES).interval()
        least, most = accuracy_interval(other, samples=world.samples)
        worst, best = paired_gain_interval(start, other)
        tables = world.play(rng, (0.0,) * POOL)
        nothing = contrast(tables[:2], [1, -1], UNBOUNDED)
        ends, design = nothing.interval(), expected_difference(tables, world.seeds)
        detectable = np.inf if design is None else design.detectable()
        again = contrast(world.play(rng, (0.0, 0.0)), [1, -1], UNBOUNDED)
        found = again.value + detectable > again.quantile() * again.standard_error
        inside = (low <= truth <= high, worst <= gain <= best, least <= second <= most)
        hits.append((*inside, not ends[0] <= 0 <= ends[1], low > 0, found))
        numbers.append(((high - low) / 2, detectable))
    half_widths, called = np.array(numbers).T
    outer = [np.array([row[-1] for row in hits])[chosen].mean() for chosen in _outer_quarters(called)]
    shares = [float(share) for share in (*np.mean(hits, axis=0), *outer)]
    return Figures(*shares, float(np.median(half_widths)), float(np.median(called)))  # type: ignore[call-arg]


def _outer_quarters(values: Matrix) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    order = np.argsort(values, kind="stable")
    quarter = max(len(order) // 4, 1)
    return order[:quarter], order[-quarter:]


def worlds() -> Iterator[World]:
    """The regimes of the proof."""
    for seeds in range(1, 11):
        yield World(seeds=seeds)
    for luck in (0.0, 0.6):
        for seeds in (3, 10):
            yield World(seeds=seeds, luck=luck)
    # One whose seeds differ four times as much; near both ends; what seeds share; no mix; many samples, many problems.
    for seeds in (3, 5, 10):
        yield World(seeds=seeds, luck=0.15, luck_ratio=4.0)
    for accuracy in (0.01, 0.95):
        for seeds in (1, 3, 5, 10):
            yield World(seeds=seeds, accuracy=accuracy)
    yield World(seeds=5, shared_luck=0.5)
    yield World(seeds=5, mix=0.0)
    yield World(seeds=5, samples=16)
    yield World(seeds=5, problems=1319, samples=1, luck=0.1)


def choices(world: World, experiments: int, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Coverage, median half width and power of three ways to take seed variance: why it is Welch's."""
    rng = np.random.default_rng(seed)
    truth = world.truth(1, world.skill) - world.truth(0)
    shown: dict[str, list[tuple[bool, float, bool]]] = {}
    for _ in range(experiments):
        one, other = world.play(rng, (0.0, world.skill))
        for name, found in ways(one, other).items():
            low, high = found.interval()
            shown.setdefault(name, []).append((low <= truth <= high, (high - low) / 2, low > 0))
    columns = {name: list(zip(*rows, strict=True)) for name, rows in shown.items()}
    return {name: (np.mean(c[0]), float(np.median(c[1])), np.mean(c[2])) for name, c in columns.items()}


def ways(one: Matrix, other: Matrix) -> dict[str, Contrast]:
    """The same difference with its seed variance from paired seeds, pooled over both arms, and Welch's."""
    welch = contrast([other, one], [1, -1], UNBOUNDED)
    paired = contrast([other - one], [1], UNBOUNDED)
    of_arms = [contrast_of_runs([arm.mean(1)], [1], UNBOUNDED).seed_variance for arm in (one, other)]
    freedom = 2.0 * (len(one) - 1)
    about = (welch.problem_variance, welch.problems, welch.seeds, UNBOUNDED)
    return {"paired": paired, "pooled": Contrast(welch.value, sum(of_arms), freedom, *about), "welch": welch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000)
    experiments = parser.parse_args().experiments
    print(f"{experiments} experiments a row; shares in %, half width and detectable difference in points")
    about = f"{'seeds':>5} {'luck':>9} {'mix':>4} {'acc.':>4} {'problems':>9} "
    heads = ("covers", "gain", "accuracy", "A/A", "found", "power", "1st", "4th", "half", "detect.")
    print(about + " ".join(f"{name:>8}" for name in heads))
    for number, world in enumerate(worlds()):
        figures = experiment(world, experiments, number)
        shown = " ".join(f"{100 * getattr(figures, name):8.1f}" for name in Figures.__dataclass_fields__)
        print(f"{_about(world)} {shown}", flush=True)
    print(f"\nseed variance from paired seeds, pooled, and Welch's: coverage, half width, found\n{about}")
    chosen = [World(seeds=s, luck=a, luck_ratio=r) for a, r in ((0.3, 1.0), (0.01, 60.0)) for s in (2, 3, 5, 10)]
    for number, world in enumerate(chosen):
        found = choices(world, experiments, number)
        shown = "   ".join(f"{name} " + " ".join(f"{100 * v:5.1f}" for v in values) for name, values in found.items())
        print(f"{_about(world)} {shown}", flush=True)


def _about(world: World) -> str:
    shared = f"{world.luck:g}" if not world.shared_luck else f"{world.luck:g} shared"
    luck = shared if world.luck_ratio == 1 else f"{world.luck:g}, {world.luck * world.luck_ratio:g}"
    size = f"{world.problems} x {world.samples}"
    return f"{world.seeds:5} {luck:>9} {world.mix:4.1f} {world.accuracy:4.2f} {size:>9}"


if __name__ == "__main__":
    main()
