"""How a test of a claim is judged: which records it looks at, and when they support or refute it.

One rule for all. A test has an effect, an interval, and a side of a threshold that the claim says it lies on.

    supported   the 95% interval lies wholly on the claimed side
    refuted     the interval lies wholly on the other side, at level 1 - 0.05 / n with n the claim's deciding tests
    undecided   anything else, or fewer seeds than the claim asks for, or costs that were not equal

All tests of a claim must be supported for the claim to be, so that none needs a correction; a single one refutes it, so
that the chance of a wrong one among n is held down. `undecided` names what is missing.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.statistics import POWER, Estimate, detectable_factor
from tasks.errors import require

Verdict = Literal["supported", "refuted", "undecided"]
LEVEL = 0.95
MOST_SEEDS = 30


@dataclass(kw_only=True)
class Select:
    """Which experiments: an algorithm, and values of its configuration by dotted key."""

    algo: str
    settings: dict[str, Any] = field(default_factory=dict)

    def fits(self, experiment: Experiment) -> bool:
        """Whether this is such an experiment."""
        return experiment.algo == self.algo and all(
            experiment.first.config.get(key) == value for key, value in self.settings.items()
        )

    def words(self) -> tuple[str, ...]:
        """Overrides of such a run."""
        values = {key: json.dumps(value) for key, value in self.settings.items()}
        return (f"+algo={self.algo}", *(f"{key}={value}" for key, value in values.items()))


@dataclass(frozen=True, slots=True)
class Need:
    """Runs that would decide a test."""

    words: tuple[str, ...]
    """Overrides with the algorithm and all but task, policy, budget and seed."""
    task: str
    seeds: int
    budget: str | None = None
    """Where it is not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test on one task says."""

    test: str
    task: str
    verdict: Verdict
    decides: bool
    unit: str
    claimed: str
    """Side and threshold, fixed beforehand."""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    """The smallest distance from the threshold that a repetition would see with a probability of 80%."""
    seeds: int = 0
    runs: list[str] = field(default_factory=list)
    note: str = ""
    needs: list[Need] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a test looks."""

    experiments: Sequence[Experiment]
    policy: str
    budget: str
    seeds: int
    """The fewest that decide."""
    tests: int
    """Deciding tests of the claim."""

    @property
    def strict(self) -> float:
        """Level of a refutation."""
        return 1 - (1 - LEVEL) / self.tests

    def match(self, task: str, selects: Sequence[Select]) -> tuple[list[Experiment | None], list[int]]:
        """For each selection an experiment, all in one setting, and the seeds that they share.

        Of several settings or experiments those with most runs are taken, never those with the best results.
        """
        names = (task, self.policy, self.budget)
        settings: dict[str, list[Experiment]] = defaultdict(list)
        for experiment in self.experiments:
            about = experiment.first.summary
            if (about["task"], about["policy"], about["budget"]) == names:
                settings[experiment.fingerprint].append(experiment)
        best: tuple[tuple[int, int], list[Experiment | None], list[int]] = ((0, 0), [None] * len(selects), [])
        for _, group in sorted(settings.items()):
            fitting = [[e for e in group if select.fits(e)] for select in selects]
            found = [max(es, key=lambda e: (len(e.runs), e.id)) if es else None for es in fitting]
            seeds = [set(e.runs) for e in found if e is not None]
            shared = sorted(set.intersection(*seeds)) if seeds else []
            rank = (len(seeds), len(shared))
            if rank > best[0]:
                best = (rank, found, shared)
        return best[1], best[2]


@dataclass(kw_only=True)
class Test:
    """What all tests state."""

    kind: str
    test: str
    """The question, in words."""
    tasks: list[str]
    decides: bool = True
    """False: reported, and no part of the verdict."""
    side: str = "above"
    """Of the threshold, on which the claim says the effect lies: above or below."""
    threshold: float = 0.0

    def __post_init__(self) -> None:
        require(self.side in ("above", "below"), f"side={self.side}: use above or below")
        require(bool(self.tasks), "tasks: name at least one")

    def findings(self, ground: Ground) -> list[Finding]:
        """One finding a task."""
        return [self.look(ground, task) for task in self.tasks]

    def look(self, ground: Ground, task: str) -> Finding:
        """What the records say on one task."""
        raise NotImplementedError

    def judge(
        self,
        ground: Ground,
        task: str,
        selects: Sequence[Select],
        chosen: Sequence[Experiment | None],
        seeds: Sequence[int],
        measure: Callable[[float], tuple[Estimate, Estimate]],
        unit: str,
        note: Callable[[], str] = str,
        barred: Callable[[], str] = str,
    ) -> Finding:
        """A finding by the module's rule.

        Args:
            ground, task: where.
            selects, chosen, seeds: which experiments, what was found of them, and their shared seeds.
            measure: at a level, the estimate that must lie on the claimed side, and the one that must not lie on the
                other; they differ only where what was measured leaves a range.
            unit: of the effect.
            note: what else should be said.
            barred: why the runs cannot decide; empty where they can.
        """
        claimed = f"{self.side} {self.threshold:g}"
        runs = [e.runs[seed].record.name for e in chosen if e is not None for seed in seeds]
        about: dict[str, Any] = {"test": self.test, "task": task, "decides": self.decides, "unit": unit}
        about["claimed"] = claimed
        lacking = [select.algo for select, experiment in zip(selects, chosen, strict=True) if experiment is None]
        if lacking or len(seeds) < ground.seeds:
            why = f"no runs of {', '.join(lacking)}" if lacking else f"{len(seeds)} of {ground.seeds} seeds"
            needs = [Need(select.words(), task, ground.seeds) for select in selects]
            return Finding(**about, verdict="undecided", seeds=len(seeds), runs=runs, note=why, needs=needs)
        toward, against = measure(LEVEL)
        _, strictly = measure(ground.strict)
        above = self.side == "above"
        supported = toward.low > self.threshold if above else toward.high < self.threshold
        refuted = strictly.high < self.threshold if above else strictly.low > self.threshold
        why_not = barred()
        verdict: Verdict = "undecided"
        if (supported or refuted) and not why_not:
            verdict = "supported" if supported else "refuted"
        needs, notes = [], [text for text in (why_not, note()) if text]
        if verdict == "undecided" and not why_not:
            enough = seeds_to_tell(toward, self.threshold)
            if enough is None:
                notes.append(f"more than {MOST_SEEDS} seeds would be needed")
            else:
                needs = [Need(select.words(), task, max(enough, len(seeds) + 1)) for select in selects]
        value = (toward.value + against.value) / 2
        interval = (min(toward.low, against.low), max(toward.high, against.high))
        return Finding(
            **about,
            verdict=verdict,
            effect=value,
            low=interval[0],
            high=interval[1],
            detectable=toward.detectable,
            seeds=len(seeds),
            runs=runs,
            note="; ".join(notes),
            needs=needs,
        )


def seeds_to_tell(estimate: Estimate, threshold: float) -> int | None:
    """Seeds with which an effect as large as the one seen would be told from the threshold in 80%; None: too many."""
    distance = abs(estimate.value - threshold)
    if not math.isfinite(estimate.standard_error):
        return estimate.seeds + 2
    for seeds in range(max(estimate.seeds, 2), MOST_SEEDS + 1):
        error = estimate.standard_error * math.sqrt(estimate.seeds / seeds)
        if detectable_factor(float(seeds - 1), LEVEL, POWER) * error <= distance:
            return seeds
    return None
