"""The records of a folder, compared: which experiments may be, which is best, and which cannot be told from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.analysis.claims import Answer, Claim, answer, load_claims
from benchmarks.analysis.experiments import Experiment, differing, group_runs
from benchmarks.analysis.table import SETTING, experiment_row, rank
from benchmarks.config.presets import own_defaults
from benchmarks.records.reading import NAMES, Run, SetAside, read_runs
from benchmarks.report.axes import AXES
from benchmarks.report.judging import Difference, judge
from benchmarks.report.reaching import Reached, reach

STALLED_AFTER_S = 600
"""A running run of which no file has changed for so long may have died without saying so."""
FRONT_DRAWS = 1000
"""Of the chance of being on the front: its error is below two points."""


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
    set_aside: SetAside
    unfinished: list[dict[str, str]]
    """Runs that are not complete: name, state, age of its last sign of life."""
    claims: dict[tuple[str, str], list[Answer]]
    """How the claims stand, by policy and budget."""
    found: int


def gather(directory: Path, now: datetime | None = None) -> Results:
    """Read and compare the records of a folder.

    Raises:
        BadInput: there is no such folder.
        RunFailed: no record there can be read.
    """
    runs, set_aside = read_runs(directory)
    found = len(runs) + len(set_aside)
    experiments = group_runs(runs, set_aside)
    for experiment in experiments:
        experiment.row = experiment_row(experiment)
    experiments.sort(key=lambda experiment: rank(experiment.row))
    settings: dict[tuple[str, ...], Setting] = {}
    for experiment in experiments:
        names = tuple(experiment.row[name] for name in SETTING)
        settings.setdefault(names, Setting(names, [])).experiments.append(experiment)
    for setting in settings.values():
        _compare(setting)
    sound = sorted((e for e in experiments if e.runs), key=lambda experiment: (experiment.algo, experiment.id))
    grounds = dict.fromkeys((names[1], names[2]) for names, setting in settings.items() if setting.plotted)
    return Results(
        list(settings.values()),
        sorted({experiment.row["algo"] for experiment in experiments}),
        sorted(set_aside),
        [_sign_of_life(run, now or datetime.now(UTC)) for run in runs if run.status != "complete"],
        {(policy, budget): [answer(claim, sound, policy, budget) for claim in _claims()] for policy, budget in grounds},
        found,
    )


@cache
def _claims() -> list[Claim]:
    return load_claims()


def _compare(setting: Setting) -> None:
    names = [experiment.algo for experiment in setting.experiments]
    for experiment in setting.experiments:
        algo = experiment.algo
        experiment.label = algo if names.count(algo) == 1 else f"{algo} {experiment.id[:6]}"
    measured = [experiment for experiment in setting.experiments if experiment.runs]
    if not measured:
        return
    # Names may hide that a task or a policy was set up otherwise: then those with most runs are compared.
    runs: Counter[str] = Counter()
    for experiment in measured:
        runs[experiment.fingerprint] += len(experiment.runs)
    chosen = runs.most_common(1)[0][0]
    for experiment in measured:
        experiment.standing = "" if experiment.fingerprint == chosen else "apart"
    if len(runs) > 1:
        one_each = {experiment.fingerprint: experiment for experiment in measured}
        setting.apart = "; ".join(differing(list(one_each.values())))[:400]
    fair = [experiment for experiment in measured if experiment.fingerprint == chosen]
    places: dict[str, list[int]] = {}
    for place, experiment in enumerate(fair):
        places.setdefault(experiment.algo, []).append(place)
    plotted = sorted(
        own[0] if len(own) == 1 else min(own, key=lambda place: (_departures(fair[place]), place))
        for own in places.values()
    )
    pairs, setting.detectable = judge(fair, plotted)
    fair[0].standing = "best"
    for place, experiment in enumerate(fair[1:], 1):
        if found := pairs.get((0, place)):
            experiment.standing = "behind" if found.decided else "tied"
    setting.plotted = [fair[place] for place in plotted]
    for row in plotted:
        turned = [found.turned() if (found := pairs.get((column, row))) else None for column in plotted]
        setting.wins.append([pairs.get((row, column)) or turned[at] for at, column in enumerate(plotted)])
    setting.reached = reach({experiment.label: experiment.curves() for experiment in setting.plotted})
    setting.front = _front(setting.plotted)


def _departures(experiment: Experiment) -> int:
    """How many of its algorithm's settings are not the defaults; 0 where the algorithm is not installed."""
    preset = own_defaults("algorithms", experiment.algo)
    found = experiment.first.config
    return sum(found.get(f"algo.{key}", value) != value for key, value in preset.items())


def _front(experiments: Sequence[Experiment]) -> dict[str, list[float]]:
    from benchmarks.analysis.efficiency import front_probability

    tables = {str(place): e.matrix("solved", list(e.runs)) for place, e in enumerate(experiments)}
    fronts = {}
    for axis in AXES:
        costs = {str(place): experiment.cost(axis) for place, experiment in enumerate(experiments)}
        if not any(np.isnan(spent).any() for spent in costs.values()):
            fronts[axis] = list(front_probability(tables, costs, draws=FRONT_DRAWS))
    return fronts


def _sign_of_life(run: Run, now: datetime) -> dict[str, str]:
    folder, times = run.record.folder, list[float]()
    with suppress(OSError):  # A run that goes on may remove a file between the two looks.
        times += [path.lstat().st_mtime for path in folder.iterdir()]
    silent = now.timestamp() - max(times, default=now.timestamp())
    state = "stalled" if run.status == "running" and silent > STALLED_AFTER_S else run.status
    points = run.curve
    solved = points[-1].get("solved") if points else None
    return {
        "name": run.name,
        "state": state,
        "what": " · ".join((*(run.summary[name] for name in NAMES[:-1]), f"seed {run.seed}")),
        "progress": "" if solved is None else f"{len(points)} points of its curve, the last solved {solved:.1%} of val",
        "silent": f"{silent / 60:.0f} min" if silent >= 60 else f"{silent:.0f} s",
    }
