"""The records of a folder, compared: which experiments may be, which is best, and which cannot be told from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.analysis.claims import Answer, Claim, answer, load_claims
from benchmarks.analysis.experiments import Experiment as Compared
from benchmarks.analysis.experiments import differing, experiment_of
from benchmarks.analysis.table import SETTING, by_experiment, experiment_row, rank
from benchmarks.config.presets import own_defaults
from benchmarks.records.index import Index, read_index
from benchmarks.records.reading import NAMES, Damaged, Run, is_number
from benchmarks.report.axes import AXES, TOTALS
from benchmarks.report.judging import Difference, judge
from benchmarks.report.reaching import Reached, reach

STALLED_AFTER_S = 600
"""A running run of which no file has changed for so long may have died without saying so."""
FRONT_DRAWS = 1000
"""Of the chance of being on the front: its error is below two points."""


@dataclass(slots=True)
class Experiment:
    """One algorithm with its settings on one task, over its seeds."""

    row: dict[str, Any]
    """As in the table."""
    runs: list[Run]
    """One per seed, the complete ones first."""
    compared: Compared | None = None
    """The complete runs as the statistics take them; None where there is none."""
    label: str = ""
    """The algorithm's name, with the experiment's hash where several share it."""
    standing: str = ""
    """`best`, `tied` (not told from the best), `behind`, `apart` (of other settings), or nothing."""

    @property
    def complete(self) -> list[Run]:
        """The runs that numbers come from."""
        return [run for run in self.runs if run.status == "complete"]

    def curves(self) -> dict[int, list[dict[str, float]]]:
        """The learning curve of every complete run, by seed."""
        return {seed: run.curve for seed, run in self.compared.runs.items()} if self.compared else {}

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
    """Of every algorithm one experiment that may be compared, from best to worst: the one nearest to its preset, so
    that neither controls nor the luckiest of many settings stand for it."""
    wins: list[list[Difference | None]] = field(default_factory=list)
    """[row][column]: the row's accuracy minus the column's, for the plotted ones."""
    detectable: float | None = None
    """The difference that this design finds in 80 %; None with one seed."""
    apart: str = ""
    """What experiments of the same names differ in that are not compared; empty where there are none."""
    front: dict[str, list[float]] = field(default_factory=dict)
    """Per cost axis that all measured, how probably each plotted one is on the accuracy-cost front."""
    reached: Reached | None = None
    """What it cost the plotted ones to get halfway to the best."""


@dataclass(frozen=True, slots=True)
class Results:
    """All records of a folder, compared."""

    settings: list[Setting]
    algorithms: list[str]
    """All names, in an order that gives each its colour."""
    set_aside: list[tuple[str, str]]
    unfinished: list[dict[str, str]]
    """Runs that are not complete: name, state, age of its last sign of life."""
    claims: dict[tuple[str, str], list[Answer]]
    """How the claims stand, by policy and budget."""
    found: int


def gather(directory: Path, now: datetime | None = None) -> Results:
    """Read and compare the records of a folder.

    Raises:
        BadInput: there is no such folder.
    """
    index = read_index(directory)
    groups, set_aside = by_experiment(index)
    read = [_experiment(runs, index, set_aside) for runs in groups]
    experiments = sorted((e for e in read if e is not None), key=lambda experiment: rank(experiment.row))
    settings: dict[tuple[str, ...], Setting] = {}
    for experiment in experiments:
        names = tuple(experiment.row[name] for name in SETTING)
        settings.setdefault(names, Setting(names, [])).experiments.append(experiment)
    for setting in settings.values():
        _compare(setting, index)
    index.save()
    sound = sorted((e.compared for e in experiments if e.compared), key=lambda compared: (compared.algo, compared.id))
    grounds = dict.fromkeys((names[1], names[2]) for names, setting in settings.items() if setting.plotted)
    return Results(
        list(settings.values()),
        sorted({experiment.row["algo"] for experiment in experiments}),
        sorted(set_aside),
        [_sign_of_life(directory, run, now or datetime.now(UTC)) for run in index.runs if run.status != "complete"],
        {(policy, budget): [answer(claim, sound, policy, budget) for claim in _claims()] for policy, budget in grounds},
        len(index.runs) + len(index.set_aside),
    )


@cache
def _claims() -> list[Claim]:
    return load_claims()


def _experiment(runs: Sequence[Run], index: Index, set_aside: list[tuple[str, str]]) -> Experiment | None:
    complete = [run for run in runs if run.status == "complete"]
    try:
        compared = experiment_of(complete, index) if complete else None
    except Damaged as damage:
        set_aside += [(run.name, str(damage)) for run in runs]
        return None
    return Experiment(experiment_row(runs, index), list(runs), compared)


def _compare(setting: Setting, index: Index) -> None:
    names = [experiment.row["algo"] for experiment in setting.experiments]
    for experiment in setting.experiments:
        algo, key = experiment.row["algo"], experiment.row["experiment"]
        experiment.label = algo if names.count(algo) == 1 else f"{algo} {key[:6]}"
    measured = [(e, e.compared) for e in setting.experiments if e.compared]
    if not measured:
        return
    # Names may hide that a task or a policy was set up otherwise: then those with most runs are compared.
    runs: Counter[str] = Counter()
    for _, sound in measured:
        runs[sound.fingerprint] += len(sound.runs)
    chosen = runs.most_common(1)[0][0]
    for experiment, sound in measured:
        experiment.standing = "" if sound.fingerprint == chosen else "apart"
    if len(runs) > 1:
        one_each = {sound.fingerprint: sound for _, sound in measured}
        setting.apart = "; ".join(differing(list(one_each.values())))[:400]
    fair = [(experiment, sound) for experiment, sound in measured if sound.fingerprint == chosen]
    places: dict[str, list[int]] = {}
    for place, (experiment, _) in enumerate(fair):
        places.setdefault(experiment.row["algo"], []).append(place)
    plotted = sorted(
        own[0] if len(own) == 1 else min(own, key=lambda place: (_departures(fair[place][1]), place))
        for own in places.values()
    )
    pairs, setting.detectable = judge([sound for _, sound in fair], plotted, index)
    fair[0][0].standing = "best"
    for place, (experiment, _) in enumerate(fair[1:], 1):
        if found := pairs.get((0, place)):
            experiment.standing = "behind" if found.decided else "tied"
    setting.plotted = [fair[place][0] for place in plotted]
    for row in plotted:
        turned = [found.turned() if (found := pairs.get((column, row))) else None for column in plotted]
        setting.wins.append([pairs.get((row, column)) or turned[at] for at, column in enumerate(plotted)])
    setting.reached = reach({experiment.label: experiment.curves() for experiment in setting.plotted})
    setting.front = _front([fair[place][1] for place in plotted], index)


def _departures(experiment: Compared) -> int:
    """How many of its algorithm's settings are not the defaults; 0 where the algorithm is not installed."""
    preset = own_defaults("algorithms", experiment.algo)
    found = experiment.first.config
    return sum(found.get(f"algo.{key}", value) != value for key, value in preset.items())


def _front(experiments: Sequence[Compared], index: Index) -> dict[str, list[float]]:
    from benchmarks.analysis.efficiency import front_probability

    fronts = {}
    for axis in AXES:
        costs = {str(place): experiment.cost(axis) for place, experiment in enumerate(experiments)}
        if any(np.isnan(spent).any() for spent in costs.values()):
            continue
        runs = [[complete.run for complete in experiment.runs.values()] for experiment in experiments]
        found = index.recall(key := index.key(f"front {axis}", runs), len(experiments))
        if found is None:
            tables = {str(place): e.matrix("solved", list(e.runs)) for place, e in enumerate(experiments)}
            found = list(front_probability(tables, costs, draws=FRONT_DRAWS))
            index.remember(key, found)
        fronts[axis] = found
    return fronts


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
