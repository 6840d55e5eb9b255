"""Experiments as numbers that can be compared: one algorithm in one setting, over its seeds, read from records."""

from __future__ import annotations

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

from benchmarks.reading import Damaged, read, read_run
from benchmarks.record import Record, records
from benchmarks.wording import one_line
from tasks.errors import BadInput

Matrix = NDArray[np.float64]
SETTING = ("task", "policy", "warmstart", "budget", "evaluate")
"""Groups of the configuration in which experiments must agree to be compared."""
MEASURING_ONLY = ("budget.checkpoints",)
"""Settings that change when is measured, not what is spent or found."""


@dataclass(frozen=True)
class CompleteRun:
    """One complete, undamaged record."""

    record: Record
    summary: dict[str, Any]
    config: dict[str, Any]
    """By dotted key, such as `algo.learning_rate`."""
    solved: dict[str, float]
    """Per test problem the share of its samples that were solved after improving, and"""
    solved_base: dict[str, float]
    """before it."""

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """Rows of curve.parquet: `spent/AXIS`, val metrics, `reward/COMPONENT`."""
        return self.record.read_rows("curve.parquet")

    def outcomes(self, metric: str) -> dict[str, float]:
        """Per test problem the mean over its samples of `solved`, `score`, or one of the task's metrics.

        Raises:
            BadInput: the record has no such metric.
        """
        if metric == "solved":
            return self.solved
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.record.folder / "samples.parquet") as file:
            names = file.schema_arrow.names
            column = metric if metric == "score" else f"metric/{metric}"
            if column not in names:
                there = [name.removeprefix("metric/") for name in names if name.startswith("metric/")]
                raise BadInput(
                    f"--metric {metric}: {self.record.name} has {', '.join(dict.fromkeys([*there, 'score']))}"
                )
            rows = file.read(columns=["stage", "problem", column]).to_pylist()
        found: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if row["stage"] == "final":
                found[row["problem"]].append(row[column])
        return {problem: float(np.mean(values)) for problem, values in found.items()}


@dataclass(frozen=True)
class Experiment:
    """One algorithm with one configuration, over its complete seeds."""

    runs: dict[int, CompleteRun]
    """By seed, ascending."""

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
        about = {"task version": self.first.summary["task_version"], "test problems": tuple(sorted(self.first.solved))}
        about["samples a test problem"] = self.first.summary["test_samples"]
        return {**{key: value for key, value in same.items() if key not in MEASURING_ONLY}, **about}

    def matrix(self, metric: str, seeds: Sequence[int]) -> Matrix:
        """Outcomes float64 [seeds, problems], problems by id.

        Raises:
            BadInput: a record has no such metric.
        """
        problems = sorted(self.first.solved)
        rows = [self.runs[seed].outcomes(metric) for seed in seeds]
        return np.array([[row[problem] for problem in problems] for row in rows])

    def base_matrix(self, seeds: Sequence[int]) -> Matrix:
        """Shares solved before improving, float64 [seeds, problems]."""
        problems = sorted(self.first.solved_base)
        return np.array([[self.runs[seed].solved_base[problem] for problem in problems] for seed in seeds])

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
    found: dict[str, dict[int, CompleteRun]] = defaultdict(dict)
    aside = []
    for record in records(directory):
        try:
            run = _read_complete(record)
        except Damaged as damage:
            aside.append((record.name, str(damage)))
            continue
        if run is None:
            aside.append((record.name, f"{record.status}, not complete"))
            continue
        experiment, seed = found[run.summary["experiment"]], run.summary["seed"]
        first = next(iter(experiment.values()), run)
        if seed in experiment:
            aside.append((record.name, f"same experiment and seed as {experiment[seed].record.name}"))
        elif run.solved.keys() != first.solved.keys():
            aside.append((record.name, f"other test problems than {first.record.name}, a run of the same experiment"))
        else:
            experiment[seed] = run
    experiments = [Experiment(dict(sorted(runs.items()))) for runs in found.values()]
    return sorted(experiments, key=lambda experiment: (experiment.algo, experiment.id)), aside


def say_set_aside(aside: Sequence[tuple[str, str]]) -> None:
    """Name on standard error the records that entered nothing, and how many they are."""
    for name, reason in aside:
        print(f"set aside {one_line(name)}: {reason}", file=sys.stderr)
    if aside:
        print(f"{len(aside)} records set aside", file=sys.stderr)


def _read_complete(record: Record) -> CompleteRun | None:
    from omegaconf import OmegaConf

    run = read_run(record)
    if run.status != "complete":
        return None
    path = record.folder / "config.yaml"
    config: Any = read(record, "config.yaml", lambda: OmegaConf.to_container(OmegaConf.load(path), resolve=False))
    if not isinstance(config, dict):
        raise Damaged("config.yaml: must be a mapping")
    return CompleteRun(record, run.about, flat(config), run.final, run.base)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping by dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def differing(experiments: Sequence[Experiment]) -> list[str]:
    """In which settings experiments differ, as `key: value | value`; empty where they may be compared."""
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
