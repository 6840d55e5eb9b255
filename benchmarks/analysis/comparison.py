"""`compare`: every pair of the named algorithms, on identical problems.

Differences are paired by problem, with the intervals of `benchmarks.analysis.statistics`. All pairs that one call
shows are one family: with m pairs each interval has the level 1 - 0.05 / m (Bonferroni), so that all hold at once with
95%, and two are told apart exactly where the interval that is shown leaves 0 out: no p-value can disagree with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.analysis.experiments import Experiment, Matrix, differing, hyper_parameters
from benchmarks.analysis.gains import Gains, gain_rows, gains_of
from benchmarks.analysis.statistics import (
    DIFFERENCES,
    SHARES,
    Contrast,
    accuracy_interval,
    contrast,
    expected_difference,
)
from benchmarks.wording import one_line
from tasks.errors import BadInput, require

FORMATS = ("text", "json")
ALPHA = 0.05
SMALLEST = 0.02
"""The smallest difference in accuracy that is of interest."""
Standing = Literal["first", "second", "equivalent", "undecided"]


def simultaneous(pairs: int, alpha: float = ALPHA) -> float:
    """Level of each of so many intervals, so that all hold at once with 1 - alpha."""
    return 1 - alpha / max(pairs, 1)


@dataclass(frozen=True, slots=True)
class Side:
    """One experiment of a comparison."""

    name: str
    experiment: str
    runs: list[str]
    seeds: list[int]
    mean: float
    low: float
    high: float
    """95% interval."""
    trained: bool
    """False: it did nothing, and its runs are one policy measured again."""
    tried: int
    """Configurations of this algorithm on record in this setting: the tuning that can be seen."""


@dataclass(frozen=True, slots=True)
class Pair:
    """First minus second."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    """Simultaneous with all pairs shown."""
    standing: Standing
    """Which is better; `equivalent` where the difference is surely below SMALLEST."""
    ahead: float
    """Share of pairs of runs, one of each, in which the first scores higher; a tie is half."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found."""

    metric: str
    setting: dict[str, str]
    problems: int
    level: float
    """Of each pair's interval."""
    detectable: float | None
    """The difference that this design finds in 80%, from the spread expected of its setting; None with one seed."""
    sides: list[Side]
    pairs: list[Pair]
    warnings: list[str]
    gains: list[Gains]
    """Of the experiments that did anything."""


def choose(experiments: Sequence[Experiment], word: str, narrowed: dict[str, str | None]) -> Experiment:
    """The one experiment that a word names: an algorithm, the start of an experiment's hash, or of a record's name.

    Args:
        experiments: to choose from.
        word: what the user wrote.
        narrowed: wanted names of task, policy and budget; None is any.

    Raises:
        BadInput: it names none, or several, and then in what these differ.
    """
    wanted = {group: name for group, name in narrowed.items() if name is not None}
    fitting = [e for e in experiments if all(e.first.summary[group] == name for group, name in wanted.items())]
    named = [e for e in fitting if e.algo == word] or [
        e
        for e in fitting
        if word and (e.id.startswith(word) or any(run.record.name.startswith(word) for run in e.runs.values()))
    ]
    if not named:
        there = ", ".join(dict.fromkeys(e.algo for e in fitting)) or "none"
        where = "".join(f" with {group}={name}" for group, name in wanted.items())
        raise BadInput(
            f"{one_line(word)!r}: no complete run of such an algorithm, experiment or record{where}; there is {there}"
        )
    if len(named) > 1:
        settings = differing(named)
        tuned = [f"algo.{key}: {' | '.join(map(str, values))}" for key, values in hyper_parameters(named).items()]
        ids = ", ".join(e.id for e in named[:5])
        raise BadInput(
            one_line(
                f"{word!r} names {len(named)} experiments ({ids}) that differ in {'; '.join((settings + tuned)[:4])}: "
                "narrow with --task, --policy or --budget, or give an experiment's hash"
            )
        )
    return named[0]


def compare(chosen: Sequence[Experiment], known: Sequence[Experiment], metric: str = "solved") -> Comparison:
    """Compare experiments in one setting.

    Args:
        chosen: at least two, different ones.
        known: all experiments on record, to count what was tried.
        metric: solved, score, or one of the task's metrics.

    Raises:
        BadInput: fewer than two; settings that differ; pairs without a common seed; or no such metric.
    """
    require(len({e.id for e in chosen}) == len(chosen) > 1, "compare: name at least two different experiments")
    if apart := differing(chosen):
        names = ", ".join(e.algo for e in chosen)
        raise BadInput(one_line(f"cannot compare {names}: they differ in {'; '.join(apart)[:400]}"))
    labels = [e.algo if [o.algo for o in chosen].count(e.algo) == 1 else f"{e.algo} {e.id[:6]}" for e in chosen]
    tables = [e.matrix(metric, list(e.runs)) for e in chosen]
    lowest, highest = min(float(t.min()) for t in tables), max(float(t.max()) for t in tables)
    within = lowest >= 0 and highest <= 1
    bounds, span = (SHARES, DIFFERENCES) if within else ((lowest, highest), (lowest - highest, highest - lowest))
    sides = [_side(*each, metric, bounds, known) for each in zip(chosen, labels, tables, strict=True)]
    places = list(combinations(range(len(chosen)), 2))
    pairs = []
    for one, other in places:
        found = contrast([tables[one], tables[other]], [1, -1], span)
        ahead = float(np.mean(np.sign(np.subtract.outer(tables[one].mean(1), tables[other].mean(1))) + 1) / 2)
        numbers = (found.value, *found.interval(simultaneous(len(places))))
        standing = standing_of(found, len(places), SMALLEST if within else 0.0)
        pairs.append(Pair(labels[one], labels[other], *numbers, standing, ahead))
    trained = [table for table, side in zip(tables, sides, strict=True) if side.trained]
    design = expected_difference(trained, min(map(len, trained), default=0))
    detectable = design.detectable(simultaneous(len(places))) if design else None
    about = {group: str(chosen[0].first.summary[group]) for group in ("task", "policy", "budget")}
    level = simultaneous(len(places))
    warnings = _warnings(chosen, labels, sides)
    gains = [gains_of(e, label) for e, label in zip(chosen, labels, strict=True) if trains(e)]
    return Comparison(metric, about, tables[0].shape[1], level, detectable, sides, pairs, warnings, gains)


def standing_of(difference: Contrast, pairs: int, smallest: float = SMALLEST) -> Standing:
    """What a difference says, as one of so many."""
    low, high = difference.interval(simultaneous(pairs))
    if low > 0 or high < 0:
        return "first" if low > 0 else "second"
    low, high = difference.interval(simultaneous(pairs, 2 * ALPHA))
    return "equivalent" if -smallest < low and high < smallest else "undecided"


def solved_difference(first: Experiment, second: Experiment) -> Contrast:
    """How much more of the test problems the first solves, paired by problem."""
    return contrast([e.matrix("solved", list(e.runs)) for e in (first, second)], [1, -1], DIFFERENCES)


def trains(experiment: Experiment) -> bool:
    """Whether its algorithm did anything; `base` does not."""
    return any(run.summary["rollouts"] or run.summary["updates"] for run in experiment.runs.values())


def _side(
    experiment: Experiment,
    label: str,
    table: Matrix,
    metric: str,
    bounds: tuple[float, float],
    known: Sequence[Experiment],
) -> Side:
    if metric == "solved":
        interval = accuracy_interval(table, samples=experiment.first.summary["test_samples"])
    else:
        interval = contrast([table], [1], bounds).interval()
    tried = sum(e.algo == experiment.algo and not differing([e, experiment]) for e in known)
    names = [run.record.name for run in experiment.runs.values()]
    mean, seeds = float(table.mean()), list(experiment.runs)
    return Side(label, experiment.id, names, seeds, mean, *interval, trains(experiment), tried)


def _warnings(chosen: Sequence[Experiment], labels: Sequence[str], sides: Sequence[Side]) -> list[str]:
    lines = []
    for key, values in hyper_parameters(chosen).items():
        shown = ", ".join(f"{label} {value}" for label, value in zip(labels, values, strict=True))
        lines.append(f"settings differ: {key}: {shown}")
    if len({side.tried for side in sides}) > 1:
        lines.append(
            "tuning effort differs: configurations on record: " + ", ".join(f"{s.name} {s.tried}" for s in sides)
        )
    once = [side.name for side in sides if side.trained and len(side.seeds) == 1]
    if once:
        lines.append(f"one seed of {', '.join(once)}: these numbers say nothing about training again")
    fewest = min((len(side.seeds) for side in sides if side.trained), default=5)
    if 1 < fewest < 5:
        lines.append(f"{fewest} seeds: enough for honest intervals, too few for narrow ones; five or more find more")
    if chosen[0].first.summary["policy"] == "tiny":
        lines.append("policy tiny: this is about mechanisms, no evidence about language models")
    return lines


def render(comparison: Comparison, fmt: str, console: Console) -> None:
    """Print a comparison as text, or as one JSON object."""
    if fmt == "json":
        print(json.dumps(as_json(asdict(comparison)), allow_nan=False))
        return
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, 120))
    scale, unit = (100, "points") if all(0 <= s.low <= s.high <= 1 for s in comparison.sides) else (1, "its own unit")
    title = " · ".join(comparison.setting.values())
    console.print(f"{title}: {comparison.metric}, {comparison.problems} test problems, {unit}", highlight=False)
    sides = _grid()
    for name in ("algo", "seeds", "mean [95 %]", "tried"):
        sides.add_column(name, justify="left" if name == "algo" else "right")
    for side in comparison.sides:
        mean = f"{scale * side.mean:.1f} [{scale * side.low:.1f}, {scale * side.high:.1f}]"
        seeds = str(len(side.seeds)) if side.trained else "untrained"
        sides.add_row(*map(Text, (side.name, seeds, mean, str(side.tried))))
    console.print(sides, "")
    gains = _grid()
    for name in ("solved, after - before", "gain [95 %]", "gain at T* [95 %]", ""):
        gains.add_column(name, justify="right" if "gain" in name else "left")
    for cells in gain_rows(comparison.gains):
        gains.add_row(*map(Text, cells))
    console.print(gains, "")
    family = len(comparison.pairs)
    console.print(f"first - second, paired by problem; all {family} intervals hold at once with 95%", highlight=False)
    pairs = _grid()
    for name in ("first", "second", f"difference [{comparison.level:.1%}]", "runs ahead", "better"):
        pairs.add_column(name, justify="left" if name in ("first", "second", "better") else "right")
    for pair in comparison.pairs:
        difference = f"{scale * pair.difference:+z.1f} [{scale * pair.low:+z.1f}, {scale * pair.high:+z.1f}]"
        better = {"first": pair.first, "second": pair.second}.get(pair.standing, pair.standing)
        pairs.add_row(*map(Text, (pair.first, pair.second, difference, f"{pair.ahead:.0%}", better)))
    console.print(pairs)
    if comparison.detectable is not None and any(pair.standing == "undecided" for pair in comparison.pairs):
        found = f"{scale * comparison.detectable:.1f} in 80% of comparisons" if comparison.detectable < 1 else "none"
        console.print(f"undecided says nothing of a difference; this design finds one of {found}", highlight=False)
    for warning in comparison.warnings:
        console.print(Text(f"note: {one_line(warning)}"), soft_wrap=True)


def _grid() -> RichTable:
    return RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def as_json(value: Any) -> Any:
    """Numbers that JSON has no word for, as null."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value
