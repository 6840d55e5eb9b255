"""Simulated comparisons with known truth: do intervals cover, is nothing found where nothing is, is power 80%?

Run by hand, it makes 2,000 experiments per regime and prints the figures of docs/statistics.md; the tests run fewer.

The world is the one of real records. The log-odds that run (algorithm a, seed i) solves problem j are

    skill_a + difficulty_j + taste_aj + luck_ai

with difficulty_j ~ N(-0.3, 1.3), the same for both algorithms; taste_aj ~ N(0, taste / sqrt 2), what suits an algorithm
about a problem; luck_ai ~ N(0, luck), what training again changes; each problem is played `samples` times. The truth is
the expected difference in accuracy over all problems, tastes and lucks, by Gauss-Hermite quadrature.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.analysis.statistics import DIFFERENCES, Estimate, accuracy_interval, estimate_mean

EASE, SPREAD = -0.3, 1.3
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
SKILLS = np.linspace(-12, 12, 2401)


@dataclass(frozen=True)
class World:
    """What is simulated."""

    seeds: int = 3
    luck: float = 0.3
    taste: float = 0.5
    skill: float = 0.8
    """How much better the second algorithm is, in log-odds; 0 with taste 0 is an A/A experiment."""
    problems: int = 113
    samples: int = 2
    shared_luck: float = 0.0
    """Share of luck's variance that a seed's number gives to both algorithms."""

    def accuracy(self, skill: float | np.ndarray) -> np.ndarray:
        """Expected accuracy of an algorithm."""
        spread = np.sqrt(SPREAD**2 + self.taste**2 / 2 + self.luck**2)
        odds = EASE + np.asarray(skill)[..., None] + spread * NODES
        return (1 / (1 + np.exp(-odds))) @ (WEIGHTS / WEIGHTS.sum())

    def truth(self) -> float:
        """Expected difference in accuracy, second minus first."""
        return float(self.accuracy(self.skill) - self.accuracy(0.0))

    def with_effect(self, effect: float) -> World:
        """The same world with this expected difference, or the largest possible one."""
        return replace(self, skill=float(np.interp(effect, self.accuracy(SKILLS) - self.accuracy(0.0), SKILLS)))

    def play(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Shares solved by the first and the second algorithm: two float64 [seeds, problems]."""
        difficulty = rng.normal(EASE, SPREAD, self.problems)
        common = np.sqrt(self.shared_luck) * rng.normal(0, self.luck, (self.seeds, 1))
        played = []
        for skill in (0.0, self.skill):
            taste = rng.normal(0, self.taste / np.sqrt(2), self.problems)
            luck = common + np.sqrt(1 - self.shared_luck) * rng.normal(0, self.luck, (self.seeds, 1))
            chance = 1 / (1 + np.exp(-(skill + difficulty + taste + luck)))
            played.append(rng.binomial(self.samples, chance) / self.samples)
        return played[0], played[1]

    def compare(self, rng: np.random.Generator) -> Estimate:
        """One experiment's answer."""
        first, second = self.play(rng)
        return estimate_mean(second - first, DIFFERENCES)


@dataclass(frozen=True)
class Figures:
    """What many experiments showed, as shares."""

    coverage: float
    """Of 95% intervals for the difference, that hold the truth."""
    accuracy_coverage: float
    """Of 95% intervals for the second algorithm's accuracy."""
    false_positives: float
    """Of comparisons of an algorithm with itself, p < 0.05."""
    power: float
    """Of repetitions in a world whose true difference is what the experiment called detectable, p < 0.05. Where that is
    more than the scale from 0 to 1 has room for, the largest possible difference."""
    power_shifted: float
    """The same on a scale without ends: repetitions without a difference, to which the detectable one is added."""
    half_width: float
    """Median half width of the difference's interval."""
    detectable: float
    """Median."""


def experiment(world: World, experiments: int, seed: int = 0) -> Figures:
    """Simulate comparisons in one world."""
    rng = np.random.default_rng(seed)
    truth, accuracy = world.truth(), float(world.accuracy(world.skill))
    covered, held, wide, effects, found, shifted = [], [], [], [], [], []
    for _ in range(experiments):
        first, second = world.play(rng)
        answer = estimate_mean(second - first, DIFFERENCES)
        covered.append(answer.low <= truth <= answer.high)
        low, high = accuracy_interval(second)
        held.append(low <= accuracy <= high)
        wide.append((answer.high - answer.low) / 2)
        effects.append(answer.detectable)
        found.append(world.with_effect(answer.detectable).compare(rng).p_value < 0.05)
        first, second = replace(world, skill=0.0).play(rng)
        unbounded = (-np.inf, np.inf)
        shifted.append(estimate_mean(second - first + answer.detectable, unbounded).p_value < 0.05)
    same = replace(world, skill=0.0, taste=0.0)
    false = [same.compare(rng).p_value < 0.05 for _ in range(experiments)]
    means = (float(np.mean(values)) for values in (covered, held, false, found, shifted))
    return Figures(*means, float(np.median(wide)), float(np.median(effects)))


def worlds() -> Iterator[World]:
    """The regimes of the proof: seeds, and how much they differ."""
    for luck in (0.0, 0.1, 0.3, 0.6):
        for seeds in (3, 5, 10):
            yield World(seeds=seeds, luck=luck)
    # Seeds whose number gives both algorithms the same luck, a single play, and a test set like GSM8K's.
    yield World(shared_luck=0.5)
    yield World(samples=1)
    yield World(problems=1319, samples=1, luck=0.1)
    yield World(seeds=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000)
    experiments = parser.parse_args().experiments
    columns = ("covers", "acc.", "A/A", "power", "shifted", "half", "detect.")
    print(f"{experiments} experiments a row; shares in %, half width and detectable difference in points")
    print(f"{'seeds':>5} {'luck':>5} {'shared':>6} {'problems':>10}  " + " ".join(f"{name:>7}" for name in columns))
    for number, world in enumerate(worlds()):
        figures = experiment(world, experiments, number)
        numbers = (figures.coverage, figures.accuracy_coverage, figures.false_positives, figures.power)
        numbers = (*numbers, figures.power_shifted, figures.half_width, figures.detectable)
        size = f"{world.problems} x {world.samples}"
        shown = " ".join(f"{100 * value:7.1f}" for value in numbers)
        print(f"{world.seeds:5} {world.luck:5.1f} {world.shared_luck:6.1f} {size:>10}  {shown}", flush=True)


if __name__ == "__main__":
    main()
