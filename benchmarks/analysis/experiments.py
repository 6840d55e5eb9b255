"""Experiments: one algorithm in one configuration, over its seeds, read from records."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.reading import NAMES, SAMPLED, TSTAR, Run, SetAside, is_number, read_runs

Matrix = NDArray[np.float64]
SETTING = ("task", "policy", "warmstart", "budget", "evaluate")
"""Groups of the configuration in which experiments must agree to be compared."""
SOLVED_TSTAR = "solved_tstar"
"""A metric: solved at the temperature that is best on val for each policy."""
MEASURING_ONLY = ("budget.checkpoints",)
"""Settings that change when is measured, not what is spent or found."""
TOTALS = {"tokens": "tokens_generated", "seconds": "wall_s", "joules": "energy_j"}
"""Costs whose names in summary.json are others than on a curve's axis."""


@dataclass
class Experiment:
    """One algorithm with one configuration, over its seeds."""

    runs: dict[int, Run]
    """The complete ones by seed, ascending: what numbers come from."""
    unfinished: list[Run] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    """Its row of the table; this and what follows is the report's to fill in."""
    label: str = ""
    """The algorithm's name, with the experiment's hash where several share it."""
    standing: str = ""
    """`best`, `tied` (not told from the best), `behind`, `apart` (of other settings), or nothing."""

    @property
    def all_runs(self) -> list[Run]:
        """One per seed, the complete ones first."""
        return [*self.runs.values(), *self.unfinished]

    @property
    def complete(self) -> list[Run]:
        """The runs that numbers come from."""
        return list(self.runs.values())

    @cached_property
    def first(self) -> Run:
        """One run, for what all have in common."""
        return self.all_runs[0]

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
        """All that experiments must agree in: by dotted key, with the task's version, test problems and starting
        weights."""
        config = self.first.config
        same = {key: value for key, value in config.items() if key.split(".")[0] in SETTING}
        about = {"task version": self.first.summary["task_version"], "test problems": self.first.problems}
        about["samples a test problem"] = self.first.summary["test_samples"]
        about["starting weights"] = starting_weights(self.first)
        return {**{key: value for key, value in same.items() if key not in MEASURING_ONLY}, **about}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of `setting`: experiments may be compared where it is the same."""
        return hashlib.sha256(json.dumps(self.setting, sort_keys=True, default=str).encode()).hexdigest()

    def matrix(self, metric: str, seeds: Sequence[int], stage: str = "final") -> Matrix:
        """Outcomes float64 [seeds, problems], problems by id; see `Run.outcomes`, and `SOLVED_TSTAR`.

        Raises:
            BadInput: a record has no such metric.
        """
        column, mode = ("solved", TSTAR) if metric == SOLVED_TSTAR else (metric, SAMPLED)
        return np.array([self.runs[seed].outcomes(column, stage, mode) for seed in seeds])

    def base_matrix(self, seeds: Sequence[int], metric: str = "solved") -> Matrix:
        """The same before improving."""
        return self.matrix(metric, seeds, "base")

    def cost(self, axis: str) -> Matrix:
        """What each run spent, float64 [seeds]; NaN where that could not be measured."""
        values = [run.summary.get(TOTALS.get(axis, axis)) for run in self.runs.values()]
        return np.array([float(value) if is_number(value) else np.nan for value in values], dtype=np.float64)

    def totals(self, axis: str) -> list[float] | None:
        """The same as a list; None where one of them did not measure it."""
        spent = self.cost(axis)
        return None if not len(spent) or np.isnan(spent).any() else [float(value) for value in spent]

    def curves(self) -> dict[int, list[dict[str, float]]]:
        """The learning curve of every complete run, by seed."""
        return {seed: run.curve for seed, run in self.runs.items()}


def starting_weights(run: Run) -> tuple[Any, Any]:
    """What a run's policy started from: the hash of its weights, and that of its warm start.

    A new adapter has random weights by seed, so that with one only the warm start can be compared.
    """
    adapted = any(key.startswith("adapter.") for key in run.config)
    return None if adapted else run.manifest.get("policy_state"), run.manifest.get("warmstart_state")


def group_runs(runs: Sequence[Run], aside: SetAside) -> list[Experiment]:
    """The runs of each experiment, one per seed, on the same problems and from the same weights; complete runs first.

    Args:
        runs: of a folder.
        aside: gets the others, by name, with the reason.
    """
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(run.summary[name] for name in NAMES)].append(run)
    return [_experiment(group, aside) for group in groups.values()]


def _experiment(runs: Sequence[Run], aside: SetAside) -> Experiment:
    kept: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.status != "complete", run.seed, run.name)):
        first = next(iter(kept.values()), run)
        if same_seed := kept.get(run.seed):
            aside.append((run.name, f"same experiment and seed as {same_seed.name}"))
        elif run.problems and run.problems != first.problems:
            aside.append((run.name, f"other test problems than {first.name}, a run of the same experiment"))
        elif run.problems and starting_weights(run) != starting_weights(first):
            aside.append((run.name, f"started from other weights than {first.name}, a run of the same experiment"))
        else:
            kept[run.seed] = run
    complete = {seed: run for seed, run in kept.items() if run.status == "complete"}
    return Experiment(complete, [run for run in kept.values() if run.status != "complete"])


def read_experiments(directory: Path) -> tuple[list[Experiment], SetAside]:
    """Every experiment with a complete run, by algorithm and hash; and (name, reason) of the records set aside.

    Raises:
        BadInput: there is no such directory.
        RunFailed: no record there can be read.
    """
    runs, aside = read_runs(directory)
    experiments = group_runs(runs, aside)
    aside += [(run.name, f"{run.status}, not complete") for e in experiments for run in e.unfinished]
    complete = [experiment for experiment in experiments if experiment.runs]
    return sorted(complete, key=lambda experiment: (experiment.algo, experiment.id)), sorted(aside)


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
