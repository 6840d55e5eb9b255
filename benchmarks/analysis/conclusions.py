"""How a test of a claim is judged: what the records say, and what would decide where they do not.

One rule for all. A test has an effect with an interval, a side of a threshold that the claim says it lies on, and a
smallest effect of interest.

    equivalent  the 90% interval lies inside +- the smallest effect of interest: too small to matter on either side
    supported   the 95% interval lies wholly on the claimed side
    refuted     the interval lies wholly on the other side, at level 1 - 0.05 / n with n the claim's deciding tests
    undecided   anything else, or fewer seeds than the claim asks for, or costs that were not equal

in this order, but that a threshold at or beyond the smallest effect of interest is looked at first.

All tests of a claim must be supported for the claim to be, so that none needs a correction; a single one refutes it, so
that the chance of a wrong one among n is held down. `undecided` says nothing of the effect, but what would decide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.ground import Ground, MissingRuns, Select, more_problems
from benchmarks.analysis.statistics import LEVEL, Contrast
from tasks.errors import BadInput, require

Conclusion = Literal["supported", "refuted", "equivalent", "undecided"]
WITHIN = 0.9
"""Level of the interval that must lie inside the smallest effect of interest: two tests at 5% each."""
MOST_SEEDS = 30
"""More than this nobody will run."""
FINE = 24
"""Checkpoints of a curve that is fine enough."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one test on one task says."""

    test: str
    task: str
    decides: bool
    unit: str
    claimed: str
    """Side and threshold, fixed beforehand."""
    conclusion: Conclusion = "undecided"
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    """The distance from the threshold that this design finds in 80%, from the spread expected of its setting."""
    seeds: int = 0
    runs: list[str] = field(default_factory=list)
    note: str = ""
    missing: list[MissingRuns] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a test measured."""

    least: Contrast
    """The effect where what lies between two measurements is taken as low as it can be, and"""
    most: Contrast
    """as high; the same where nothing is left open."""
    design: Contrast | None = None
    """Variances that are expected of such an experiment; None: those of `least`."""
    barred: str = ""
    """Why it cannot decide; empty where it can."""
    note: str = ""
    value: float | None = None
    """The effect where it is not the middle of both."""

    @property
    def effect(self) -> float:
        """The effect itself."""
        return (self.least.value + self.most.value) / 2 if self.value is None else self.value


@dataclass(kw_only=True)
class ClaimTest:
    """What all tests state."""

    kind: str
    test: str
    """The question, in words."""
    tasks: list[str]
    decides: bool = True
    """False: reported, and no part of the conclusion."""
    side: str = "above"
    """Of the threshold, on which the claim says the effect lies: above or below."""
    threshold: float = 0.0
    smallest: float | None = 0.02
    """The smallest effect of interest, in the effect's unit; None where no effect is too small to matter."""

    def __post_init__(self) -> None:
        require(self.side in ("above", "below"), f"side={self.side}: use above or below")
        require(bool(self.tasks), "tasks: name at least one")

    unit = "solved"
    fine = False
    """Whether it looks at curves, which then need FINE checkpoints."""

    def selects(self) -> list[Select]:
        """Whose runs it needs."""
        raise NotImplementedError

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        """What the chosen experiments, one a selection, show.

        Raises:
            BadInput: their records do not hold what the test looks at.
        """
        raise NotImplementedError

    def choose(self, ground: Ground, task: str) -> list[Experiment | None]:
        """An experiment for each selection."""
        return ground.match(task, self.selects())

    def judge(self, ground: Ground, task: str) -> Judgement:
        """What the records say on one task."""
        selects, chosen = self.selects(), self.choose(ground, task)
        found = [experiment for experiment in chosen if experiment is not None]
        seeds = min((len(e.runs) for e in found), default=0)
        runs = [run.record.name for e in found for run in e.runs.values()]
        claimed = f"{self.side} {self.threshold:g}"
        judged = Judgement(self.test, task, self.decides, self.unit, claimed, seeds=seeds, runs=runs)
        lacking = sorted({s.algo for s, e in zip(selects, chosen, strict=True) if e is None})
        if lacking or seeds < ground.seeds:
            why = f"no runs of {', '.join(lacking)}" if lacking else f"{seeds} of {ground.seeds} seeds"
            return replace(judged, note=why, missing=ground.missing(task, selects, ground.seeds, chosen, self.fine))
        try:
            measured = self.measure(ground, task, found)
        except BadInput as error:
            return replace(judged, note=str(error))
        judged = replace(judged, low=measured.least.interval()[0], high=measured.most.interval()[1])
        judged = replace(judged, effect=measured.effect, detectable=(measured.design or measured.least).detectable())
        if measured.barred:
            return replace(judged, note="; ".join(filter(None, (measured.barred, measured.note))))
        conclusion = self.conclude(measured, 1 - (1 - LEVEL) / ground.tests)
        why, missing = self._decide(ground, task, measured, chosen) if conclusion == "undecided" else ("", [])
        return replace(
            judged, conclusion=conclusion, note="; ".join(filter(None, (measured.note, why))), missing=missing
        )

    def conclude(self, measured: Measured, strict: float) -> Conclusion:
        """The module's rule."""
        least, most, above = measured.least, measured.most, self.side == "above"
        low, high = least.interval()[0], most.interval()[1]
        zone = self.smallest or 0.0
        inside = -zone < least.interval(WITHIN)[0] and most.interval(WITHIN)[1] < zone
        if inside and abs(self.threshold) < zone:
            return "equivalent"
        if low > self.threshold if above else high < self.threshold:
            return "supported"
        if most.interval(strict)[1] < self.threshold if above else least.interval(strict)[0] > self.threshold:
            return "refuted"
        return "equivalent" if inside else "undecided"

    def _decide(
        self, ground: Ground, task: str, measured: Measured, chosen: Sequence[Experiment | None]
    ) -> tuple[str, list[MissingRuns]]:
        """What would decide it in four of five cases if the effect is as large as it looks, and the runs for that."""
        least, most, selects = measured.least, measured.most, self.selects()
        seeds = min(len(e.runs) for e in chosen if e is not None)
        ends = [
            self.conclude(replace(measured, least=end, most=end), 1 - (1 - LEVEL) / ground.tests)
            for end in (least, most)
        ]
        if least != most and "undecided" not in ends:
            return "a finer curve would decide it", ground.missing(task, selects, seeds, fine=True)
        design = measured.design or least
        goals = [(abs(measured.effect - self.threshold), LEVEL)]
        if self.smallest is not None:
            goals.append((self.smallest - abs(measured.effect), WITHIN))

        def found(count: int, ratio: int) -> bool:
            """Whether a design with so many seeds, and times the problems, tells it or finds it too small to matter."""
            planned = design.with_design(count, ratio)
            return any(planned.detectable(level) <= distance for distance, level in goals)

        first = next(e for e in chosen if e is not None)
        enough = next((n for n in range(seeds + 1, MOST_SEEDS + 1) if found(n, 1)), None)
        larger = [(n, ratio) for n in (seeds, 10, MOST_SEEDS) if n >= seeds for ratio in (2, 4, 8) if found(n, ratio)]
        split = "val" if self.fine else "test"
        # Runs with other problems are all new ones; with more seeds only some are.
        if larger and (enough is None or larger[0][0] < enough - seeds):
            (count, ratio), words = larger[0], more_problems(first, larger[0][1], split)
            why = f"more {split} problems are the way: {ratio} times as many, with {count} seeds, would decide it"
            if words:
                return why, ground.missing(task, selects, count, fine=self.fine, more=words)
            if enough is None:
                return f"{why}; the task has no more", []
        if enough is None:
            return f"neither {MOST_SEEDS} seeds nor 8 times the problems would decide an effect of this size", []
        why = f"{enough} seeds would decide an effect of this size"
        return why, ground.missing(task, selects, enough, chosen, self.fine)
