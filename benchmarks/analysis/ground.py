"""Where a test of a claim looks: which experiments it means, which are on record, and which runs are missing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from benchmarks.analysis.experiments import Experiment
from benchmarks.config.presets import own_defaults

SIZES = ("task.test", "task.val", "task.count", "task.problems_per_level")
"""How many problems there are: no other task than with other sizes."""


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

    def at(self, **settings: Any) -> Select:
        """The same with more settings."""
        return replace(self, settings=self.settings | settings)

    def words(self) -> tuple[str, ...]:
        """Overrides of such a run."""
        values = {key: json.dumps(value).strip('"') for key, value in self.settings.items()}
        return (f"+algo={self.algo}", *(f"{key}={value}" for key, value in values.items()))


@dataclass(frozen=True, slots=True)
class MissingRuns:
    """Runs that would decide a test."""

    words: tuple[str, ...]
    """Overrides with the algorithm and all but task, policy, budget and seed."""
    task: str
    budget: str
    seeds: int
    """Runs are made for 0 up to this; those that are on record are not made again."""
    fine: bool
    """Whether their curves need FINE checkpoints."""
    hours: float | None
    """CPU hours of those that are not on record; None where no record tells what such a run takes."""


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

    def match(self, task: str, selects: Sequence[Select]) -> list[Experiment | None]:
        """For each selection an experiment, all in one setting but for the settings of the task that selections name.

        Of several settings the one nearest to the task's preset is taken, sizes apart, then the one with most runs and
        most test problems; of several experiments the one with most runs and the finest curve. Never the best results.
        """
        names, preset = (task, self.policy, self.budget), own_defaults("tasks", task)
        free = {key for select in selects for key in select.settings if key.startswith("task.")}
        settings: dict[str, list[Experiment]] = defaultdict(list)
        for experiment in self.experiments:
            about = experiment.first.summary
            if (about["task"], about["policy"], about["budget"]) == names:
                settings[_setting(experiment, free)].append(experiment)
        best: tuple[tuple[int, ...], list[Experiment | None]] = ((0, 0, 0, 0), [None] * len(selects))
        for _, group in sorted(settings.items()):
            fitting = [[e for e in group if select.fits(e)] for select in selects]
            found = [max(es, key=_rank) if es else None for es in fitting]
            there = [e for e in found if e is not None]
            fewest = min((len(e.runs) for e in there), default=0)
            own = group[0].first.config
            departures = sum(
                own.get(f"task.{key}", value) != value
                for key, value in preset.items()
                if f"task.{key}" not in {*free, *SIZES}
            )
            rank = (len(there), -departures, fewest, group[0].first.summary["n_test"])
            if rank > best[0]:
                best = (rank, found)
        return best[1]

    def alike(self, experiment: Experiment) -> list[Experiment]:
        """All experiments in its setting."""
        return [e for e in self.experiments if e.fingerprint == experiment.fingerprint]

    def missing(
        self,
        task: str,
        selects: Sequence[Select],
        seeds: int,
        there: Sequence[Experiment | None] = (),
        fine: bool = False,
        more: tuple[str, ...] = (),
    ) -> list[MissingRuns]:
        """Runs of each selection with so many seeds, and what those not `there` would take."""
        complete = [len(e.runs) if e is not None else 0 for e in there] or [0] * len(selects)
        return [
            MissingRuns((*s.words(), *more), task, self.budget, seeds, fine, self._hours(s, task, seeds - done))
            for s, done in zip(selects, complete, strict=True)
        ]

    def _hours(self, select: Select, task: str, runs: int) -> float | None:
        alike = [e for e in self.experiments if e.algo == select.algo and e.first.summary["policy"] == self.policy]
        same = [e for e in alike if (e.first.summary["task"], e.first.summary["budget"]) == (task, self.budget)]
        near = same or [e for e in alike if e.first.summary["budget"] == self.budget]
        found = [run.summary for e in near for run in e.runs.values()]
        if not found:
            return None
        each = fmean((run.get("cpu_s") or run["wall_s"]) + run["evaluate_wall_s"] for run in found)
        return max(runs, 0) * each / 3600


def _setting(experiment: Experiment, free: set[str]) -> str:
    if not free:
        return experiment.fingerprint
    kept = {key: value for key, value in experiment.setting.items() if key not in free}
    return json.dumps(kept, sort_keys=True, default=str)


def _rank(experiment: Experiment) -> tuple[int, int, str]:
    return (len(experiment.runs), len(experiment.first.curve), experiment.id)


def more_problems(experiment: Experiment, ratio: int, split: str) -> tuple[str, ...]:
    """Overrides that give an experiment so many times the problems of a split; none where its task has not so many."""
    config = experiment.first.config
    evaluated = config.get(f"evaluate.{split}_problems")
    words = (f"evaluate.{split}_problems={ratio * int(evaluated)}",) if evaluated else ()
    for key in ("task.count", "task.problems_per_level"):
        if count := config.get(key):
            return (*words, f"{key}={ratio * int(count)}")
    share = ratio * float(config.get(f"task.{split}") or 1)
    return (*words, f"task.{split}={share:g}") if share <= 0.5 else ()
