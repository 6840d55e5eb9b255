"""Everything that the report says, as plain values: what is compared, what it cost, under which conditions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.index import Index, read_index
from benchmarks.reading import NAMES, Run, is_number
from benchmarks.report.judging import Difference, difference
from benchmarks.table import SETTING, by_experiment, experiment_row, rank
from benchmarks.wording import one_line

STALLED_AFTER_S = 600
"""A running run of which no file has changed for so long may have died without saying so."""
AXES = {
    "flops": "model FLOPs",
    "rollouts": "rollouts",
    "tokens": "tokens generated",
    "seconds": "seconds",
    "joules": "joules",
    "dollars": "dollars",
    "updates": "updates",
}
"""What a learning curve can be drawn over: `spent/NAME` in curve.parquet, and how an axis is labelled."""
TOTALS = {
    "flops": "flops",
    "rollouts": "rollouts",
    "tokens": "tokens_generated",
    "seconds": "wall_s",
    "joules": "energy_j",
    "dollars": "dollars",
    "updates": "updates",
}
"""The same costs of a whole run, as summary.json names them."""
CONDITIONS = ("device", "dtype", "threads", "python", "packages", "git_commit", "git_dirty", "policy_source")


@dataclass(slots=True)
class Experiment:
    """One algorithm with its settings on one task, over its seeds."""

    row: dict[str, Any]
    """As in the table."""
    runs: list[Run]
    """One per seed, the complete ones first."""
    label: str = ""
    """The algorithm's name, with the experiment's hash where several share it."""
    standing: str = ""
    """`best`, `tied` (the paired difference to the best does not leave out zero), `behind`, or nothing."""

    @property
    def complete(self) -> list[Run]:
        """The runs that numbers come from."""
        return [run for run in self.runs if run.status == "complete"]

    def curves(self) -> list[list[dict[str, Any]]]:
        """The learning curve of every complete run."""
        return [json.loads(run.curve) for run in self.complete]

    def totals(self, axis: str) -> list[float] | None:
        """What each complete run spent in all; None where one of them did not measure it."""
        found = [run.about.get(TOTALS[axis]) for run in self.complete]
        numbers = [float(value) for value in found if is_number(value)]
        return numbers if found and len(numbers) == len(found) else None


@dataclass(slots=True)
class Setting:
    """Task, policy and budget: only experiments that share them are compared."""

    names: tuple[str, ...]
    experiments: list[Experiment]
    """From best to worst."""
    plotted: list[Experiment] = field(default_factory=list)
    """Of every algorithm its best experiment."""
    wins: list[list[Difference | None]] = field(default_factory=list)
    """[row][column]: the row's accuracy minus the column's, for the plotted ones."""


@dataclass(frozen=True, slots=True)
class Results:
    """All records of a folder, compared."""

    settings: list[Setting]
    algorithms: list[str]
    """All names, in an order that gives each its colour."""
    set_aside: list[tuple[str, str]]
    unfinished: list[dict[str, str]]
    """Runs that are not complete: name, state, age of its last sign of life."""
    found: int


def gather(directory: Path, now: datetime | None = None) -> Results:
    """Read and compare the records of a folder.

    Raises:
        BadInput: there is no such folder.
    """
    index = read_index(directory)
    groups, set_aside = by_experiment(index)
    experiments = [Experiment(experiment_row(runs, index), list(runs)) for runs in groups]
    experiments.sort(key=lambda experiment: rank(experiment.row))
    settings: dict[tuple[str, ...], Setting] = {}
    for experiment in experiments:
        names = tuple(experiment.row[name] for name in SETTING)
        settings.setdefault(names, Setting(names, [])).experiments.append(experiment)
    for setting in settings.values():
        _judge(setting, index)
    index.save()
    return Results(
        list(settings.values()),
        sorted({experiment.row["algo"] for experiment in experiments}),
        set_aside,
        [_sign_of_life(directory, run, now or datetime.now(UTC)) for run in index.runs if run.status != "complete"],
        len(index.runs) + len(index.set_aside),
    )


def _judge(setting: Setting, index: Index) -> None:
    names = [experiment.row["algo"] for experiment in setting.experiments]
    for experiment in setting.experiments:
        algo, key = experiment.row["algo"], experiment.row["experiment"]
        experiment.label = algo if names.count(algo) == 1 else f"{algo} {key[:6]}"
    measured = [experiment for experiment in setting.experiments if experiment.complete]
    for place, experiment in enumerate(measured):
        if place == 0:
            experiment.standing = "best"
            continue
        found = _difference(experiment, measured[0], index)
        experiment.standing = "" if found is None else "behind" if found.decided else "tied"
    best: dict[str, Experiment] = {}
    for experiment in measured:
        best.setdefault(experiment.row["algo"], experiment)
    setting.plotted = list(best.values())
    setting.wins = [
        [None if row is column else _difference(row, column, index) for column in setting.plotted]
        for row in setting.plotted
    ]


def _difference(ours: Experiment, theirs: Experiment, index: Index) -> Difference | None:
    """`difference`, unless an earlier call has computed it for the very same records."""
    found = index.recall(key := index.key("difference", [ours.complete, theirs.complete]))
    if found is None or 0 < len(found) < 4:
        fresh = difference(ours.complete, theirs.complete)
        found = [] if fresh is None else [fresh.effect, fresh.low, fresh.high, len(fresh.seeds)]
        found += [] if fresh is None else [*fresh.seeds, *fresh.left_out]
        index.remember(key, found)
    if not found:
        return None
    effect, low, high, count, *seeds = found
    numbers = tuple(int(seed) for seed in seeds)
    return Difference(effect, low, high, numbers[: int(count)], numbers[int(count) :])


def _sign_of_life(directory: Path, run: Run, now: datetime) -> dict[str, str]:
    folder, times = directory / run.name, list[float]()
    with suppress(OSError):  # A run that goes on may remove a file between the two looks.
        times += [path.lstat().st_mtime for path in folder.iterdir()]
    silent = now.timestamp() - max(times, default=now.timestamp())
    state = "stalled" if run.status == "running" and silent > STALLED_AFTER_S else run.status
    points = json.loads(run.curve)
    solved = points[-1].get("solved") if points else None
    return {
        "name": run.name,
        "state": state,
        "what": " · ".join((*(run.about[name] for name in NAMES[:-1]), f"seed {run.about['seed']}")),
        "progress": "" if solved is None else f"{len(points)} points of its curve, the last solved {solved:.1%} of val",
        "silent": f"{silent / 60:.0f} min" if silent >= 60 else f"{silent:.0f} s",
    }


def conditions(runs: Sequence[Run]) -> dict[str, str]:
    """Where the numbers of some runs come from; what differs between them is listed with every value."""
    manifests = [json.loads(run.manifest) for run in runs]
    found = {}
    for name in CONDITIONS:
        values = dict.fromkeys(_words(manifest.get(name)) for manifest in manifests)
        found[name] = " | ".join(value for value in values if value)
    tests = {f"{run.about['n_test']} problems × {run.about['test_samples']} samples" for run in runs if run.final}
    found["test"] = " | ".join(sorted(tests))
    found["task_version"] = " | ".join(sorted({_words(run.about["task_version"]) for run in runs if run.final}))
    found["stopped_by"] = " | ".join(sorted({_words(run.about["stopped_by"]) for run in runs if run.final}))
    return {name: value for name, value in found.items() if value}


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(str(name))} {one_line(str(version))}" for name, version in value.items())
    return "" if value is None else one_line(str(value))[:400]


def commands(runs: Sequence[Run]) -> str:
    """What reproduces the runs, a line each."""
    return "\n".join(dict.fromkeys(_words(json.loads(run.manifest).get("command")) for run in runs))
