"""Experiments as numbers that can be compared: one algorithm in one setting, over its seeds, read from records."""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.analysis.table import by_experiment
from benchmarks.records.index import Index, read_index
from benchmarks.records.reading import Damaged, Run, is_number, read
from benchmarks.records.record import Record
from benchmarks.wording import one_line
from tasks.errors import BadInput

Matrix = NDArray[np.float64]
SETTING = ("task", "policy", "warmstart", "budget", "evaluate")
"""Groups of the configuration in which experiments must agree to be compared."""
SAMPLES = "samples.parquet"
SOLVED_TSTAR = "solved_tstar"
"""A metric: solved at the temperature that is best on val for each policy."""
MEASURING_ONLY = ("budget.checkpoints",)
"""Settings that change when is measured, not what is spent or found."""


@dataclass(frozen=True)
class CompleteRun:
    """One complete, undamaged record."""

    record: Record
    run: Run
    """What was read of it."""

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return self.run.about

    @cached_property
    def config(self) -> dict[str, Any]:
        """By dotted key, such as `algo.learning_rate`.

        Raises:
            Damaged: config.yaml cannot be read.
        """
        config = read(self.record, "config.yaml", lambda: self.record.read_yaml("config.yaml"))
        if not isinstance(config, dict):
            raise Damaged("config.yaml: must be a mapping")
        return flat(config)

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Rows of curve.parquet: `spent/AXIS`, val metrics, `reward/COMPONENT`."""
        rows: list[dict[str, float]] = json.loads(self.run.curve)
        return rows

    def outcomes(self, metric: str) -> list[float]:
        """Per test problem, by id, the mean over its samples of `solved`, `solved_tstar`, `score`, or a task's metric.

        Raises:
            BadInput: the record has no such metric.
        """
        if metric == "solved":
            return self.run.final
        if metric == SOLVED_TSTAR:
            return self._at_tstar(1)
        column = metric if metric == "score" else f"metric/{metric}"
        names = self.record.column_names(SAMPLES)
        if column not in names:
            there = [name.removeprefix("metric/") for name in names if name.startswith("metric/")]
            raise BadInput(f"--metric {metric}: {self.record.name} has {', '.join(dict.fromkeys([*there, 'score']))}")
        columns = self.record.read_columns(SAMPLES, ["stage", "problem", column])
        found: dict[str, list[float]] = defaultdict(list)
        for stage, problem, value in zip(columns["stage"], columns["problem"], columns[column], strict=True):
            if not is_number(value):
                raise BadInput(f"--metric {metric}: {self.record.name} has a sample for which it is no finite number")
            if stage == "final":
                found[problem].append(value)
        return [float(np.mean(found[problem])) for problem in self.run.problems]

    def base_outcomes(self, metric: str = "solved") -> list[float]:
        """The same before improving, of `solved` or `solved_tstar`.

        Raises:
            BadInput: the record has no outcomes at T*.
        """
        return self._at_tstar(0) if metric == SOLVED_TSTAR else self.run.base

    def _at_tstar(self, stage: int) -> list[float]:
        if not (found := self.run.tstar[stage]):
            raise BadInput(f"{SOLVED_TSTAR}: {self.record.name} has no outcomes at T*")
        return found


@dataclass(frozen=True)
class Experiment:
    """One algorithm with one configuration, over its complete seeds."""

    runs: dict[int, CompleteRun]
    """By seed, ascending."""
    fingerprint: str
    """Of `setting`: experiments may be compared where it is the same."""

    @cached_property
    def first(self) -> CompleteRun:
        """One run, for what all have in common."""
        return next(iter(self.runs.values()))

    @property
    def algo(self) -> str:
        """The algorithm's name."""
        return str(self.first.summary["algo"])

    @property
    def id(self) -> str:
        """The experiment's hash."""
        return str(self.first.summary["experiment"])

    @cached_property
    def setting(self) -> dict[str, Any]:
        """All that experiments must agree in: by dotted key, with the task's version and its test problems."""
        config = self.first.config
        same = {key: value for key, value in config.items() if key.split(".")[0] in SETTING}
        about = {"task version": self.first.summary["task_version"], "test problems": self.first.run.problems}
        about["samples a test problem"] = self.first.summary["test_samples"]
        return {**{key: value for key, value in same.items() if key not in MEASURING_ONLY}, **about}

    def matrix(self, metric: str, seeds: Sequence[int]) -> Matrix:
        """Outcomes float64 [seeds, problems], problems by id.

        Raises:
            BadInput: a record has no such metric.
        """
        return np.array([self.runs[seed].outcomes(metric) for seed in seeds])

    def base_matrix(self, seeds: Sequence[int], metric: str = "solved") -> Matrix:
        """Shares solved (or solved at T*) before improving, float64 [seeds, problems]."""
        return np.array([self.runs[seed].base_outcomes(metric) for seed in seeds])

    def cost(self, axis: str) -> Matrix:
        """What each run spent, float64 [seeds]; NaN where that could not be measured."""
        column = {"tokens": "tokens_generated", "seconds": "wall_s", "joules": "energy_j"}.get(axis, axis)
        values = [run.summary.get(column) for run in self.runs.values()]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def read_experiments(directory: Path) -> tuple[list[Experiment], list[tuple[str, str]]]:
    """Every experiment with a complete run, by algorithm and hash; and (name, reason) of the records set aside.

    Raises:
        BadInput: there is no such directory.
    """
    index = read_index(directory)
    groups, aside = by_experiment(index)
    experiments = []
    for runs in groups:
        complete = [run for run in runs if run.status == "complete"]
        aside += [(run.name, f"{run.status}, not complete") for run in runs if run.status != "complete"]
        try:
            if complete:
                experiments.append(experiment_of(complete, index))
        except Damaged as damage:
            aside += [(run.name, str(damage)) for run in complete]
    index.save()
    return sorted(experiments, key=lambda experiment: (experiment.algo, experiment.id)), sorted(aside)


def experiment_of(complete: Sequence[Run], index: Index) -> Experiment:
    """The complete runs of one experiment, one a seed.

    Raises:
        Damaged: their configuration cannot be read.
    """
    runs = {run.about["seed"]: CompleteRun(Record(index.directory / run.name), run) for run in complete}
    found = index.recall(key := index.key("setting", [complete]), 4)
    if found is None:
        first = Experiment(runs, "")
        text = json.dumps(first.setting, sort_keys=True, default=str)
        # The index keeps numbers: four of 32 bits.
        digest = hashlib.sha256(text.encode()).digest()
        found = [float(int.from_bytes(digest[place : place + 4], "big")) for place in (0, 4, 8, 12)]
        index.remember(key, found)
    return Experiment(dict(sorted(runs.items())), "".join(f"{int(number):08x}" for number in found))


def say_set_aside(aside: Sequence[tuple[str, str]]) -> None:
    """Name on standard error the records that entered nothing, and how many they are."""
    for name, reason in aside:
        print(f"set aside {one_line(name)}: {reason}", file=sys.stderr)
    if aside:
        print(f"{len(aside)} records set aside", file=sys.stderr)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping by dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def differing(experiments: Sequence[Experiment]) -> list[str]:
    """In which settings experiments differ, as `key: value | value`; empty where they may be compared."""
    if len({experiment.fingerprint for experiment in experiments}) == 1:
        return []
    keys = dict.fromkeys(key for experiment in experiments for key in experiment.setting)
    lines = []
    for key in keys:
        values = list(dict.fromkeys(_shown(key, experiment.setting.get(key)) for experiment in experiments))
        if len(values) > 1:
            lines.append(f"{key}: {' | '.join(values)}")
    return lines


def _shown(key: str, value: Any) -> str:
    # Problems are too many to show; which set they are is what matters.
    return (
        f"{len(value)} ({zlib.crc32(repr(value).encode()):08x})"
        if key == "test problems" and value is not None
        else str(value)
    )


def hyper_parameters(experiments: Sequence[Experiment]) -> dict[str, list[Any]]:
    """Settings that all the algorithms have and in which they differ: values by name, in the experiments' order."""
    configs = [
        {key: value for key, value in experiment.first.config.items() if key.startswith("algo.")}
        for experiment in experiments
    ]
    shared = [key for key in configs[0] if all(key in config for config in configs) and key != "algo.name"]
    values = {key.removeprefix("algo."): [config[key] for config in configs] for key in shared}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}
