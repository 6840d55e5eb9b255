"""`compare`: every pair of the named algorithms, on identical problems and seeds.

Differences are paired by problem and seed, with the intervals of `benchmarks.analysis.statistics`; p-values are
corrected by Holm over all pairs shown. Beside a difference that could not be told from 0 stands the smallest that could
have been.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.analysis.aggregates import bootstrap_interval, iqm, probability_of_improvement
from benchmarks.analysis.experiments import Experiment, Matrix, differing, hyper_parameters
from benchmarks.analysis.gains import Gains, gain_rows, gains_of
from benchmarks.analysis.statistics import DIFFERENCES, SHARES, Estimate, estimate_mean, holm
from benchmarks.wording import one_line
from tasks.errors import BadInput, require

FORMATS = ("text", "json")
ALPHA = 0.05


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
    iqm: float
    tried: int
    """Configurations of this algorithm on record in this setting: the tuning that can be seen."""


@dataclass(frozen=True, slots=True)
class Pair:
    """First minus second."""

    first: str
    second: str
    seeds: list[int]
    difference: Estimate
    p_holm: float
    improvement: float
    """Probability that a run of the first scores above a run of the second, with its bootstrap interval."""
    improvement_low: float
    improvement_high: float

    @property
    def found(self) -> bool:
        """Whether the difference can be told from 0 after correction."""
        return self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found."""

    metric: str
    setting: dict[str, str]
    problems: int
    sides: list[Side]
    pairs: list[Pair]
    warnings: list[str]
    gains: list[Gains]


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
    outcomes = [dict(zip(e.runs, e.matrix(metric, list(e.runs)), strict=True)) for e in chosen]
    tables = [_stack(by_seed, list(by_seed)) for by_seed in outcomes]
    lowest, highest = min(t.min() for t in tables), max(t.max() for t in tables)
    within = lowest >= 0 and highest <= 1
    bounds = SHARES if within else (float(lowest), float(highest))
    span = DIFFERENCES if within else (float(lowest - highest), float(highest - lowest))
    sides = [_side(e, label, table, bounds, known) for e, label, table in zip(chosen, labels, tables, strict=True)]
    found = []
    for one, other in combinations(range(len(chosen)), 2):
        seeds = common_seeds(chosen[one], chosen[other])
        require(bool(seeds), f"cannot compare {labels[one]} with {labels[other]}: they have no seed in common")
        first, second = _stack(outcomes[one], seeds), _stack(outcomes[other], seeds)
        improvement = probability_of_improvement(first.mean(1), second.mean(1))
        low, high = bootstrap_interval(_improvement, [first, second], draws=400)
        found.append((one, other, seeds, estimate_mean(first - second, span), (improvement, low, high)))
    corrected = holm([estimate.p_value for *_, estimate, _ in found])
    pairs = [
        Pair(labels[one], labels[other], seeds, estimate, p_holm, *improvement)
        for (one, other, seeds, estimate, improvement), p_holm in zip(found, corrected, strict=True)
    ]
    about = {group: str(chosen[0].first.summary[group]) for group in ("task", "policy", "budget")}
    gains = [gains_of(e, label) for e, label in zip(chosen, labels, strict=True)]
    return Comparison(metric, about, tables[0].shape[1], sides, pairs, _warnings(chosen, labels, sides, pairs), gains)


def common_seeds(first: Experiment, second: Experiment) -> list[int]:
    """The seeds by which two experiments can be paired."""
    return sorted(first.runs.keys() & second.runs.keys())


def solved_difference(first: Experiment, second: Experiment) -> Estimate | None:
    """How much more of the test problems the first solves, paired by problem and seed; None without a common seed."""
    seeds = common_seeds(first, second)
    if not seeds:
        return None
    return estimate_mean(first.matrix("solved", seeds) - second.matrix("solved", seeds), DIFFERENCES)


def _stack(by_seed: dict[int, Matrix], seeds: Sequence[int]) -> Matrix:
    return np.array([by_seed[seed] for seed in seeds])


def _improvement(first: Matrix, second: Matrix) -> float:
    return probability_of_improvement(first.mean(1), second.mean(1))


def _side(
    experiment: Experiment, label: str, table: Matrix, bounds: tuple[float, float], known: Sequence[Experiment]
) -> Side:
    mean = estimate_mean(table, bounds)
    tried = sum(e.algo == experiment.algo and not differing([e, experiment]) for e in known)
    names = [run.record.name for run in experiment.runs.values()]
    seeds = list(experiment.runs)
    return Side(label, experiment.id, names, seeds, mean.value, mean.low, mean.high, iqm(table.mean(1)), tried)


def _warnings(
    chosen: Sequence[Experiment], labels: Sequence[str], sides: Sequence[Side], pairs: Sequence[Pair]
) -> list[str]:
    lines = []
    for key, values in hyper_parameters(chosen).items():
        shown = ", ".join(f"{label} {value}" for label, value in zip(labels, values, strict=True))
        lines.append(f"settings differ: {key}: {shown}")
    if len({side.tried for side in sides}) > 1:
        lines.append(
            "tuning effort differs: configurations on record: " + ", ".join(f"{s.name} {s.tried}" for s in sides)
        )
    if any(set(side.seeds) != set(sides[0].seeds) for side in sides):
        lines.append("seeds differ: each pair uses the seeds that both have")
    fewest = min(len(pair.seeds) for pair in pairs)
    if fewest == 1:
        lines.append("one seed: these numbers say nothing about training again")
    elif fewest < 5:
        lines.append(f"{fewest} seeds: enough for honest intervals, too few for narrow ones; five or more find more")
    if chosen[0].first.summary["policy"] == "tiny":
        lines.append("policy tiny: this is about mechanisms, no evidence about language models")
    return lines


def render(comparison: Comparison, fmt: str, console: Console) -> None:
    """Print a comparison as text, or as one JSON object."""
    if fmt == "json":
        found = asdict(comparison) | {"family": len(comparison.pairs), "correction": "holm"}
        print(json.dumps(as_json(found), allow_nan=False))
        return
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, 120))
    scale, unit = (100, "points") if all(0 <= s.low <= s.high <= 1 for s in comparison.sides) else (1, "its own unit")
    title = " · ".join(comparison.setting.values())
    console.print(f"{title}: {comparison.metric}, {comparison.problems} test problems, {unit}", highlight=False)
    sides = _grid()
    for name in ("algo", "seeds", "mean [95 %]", "IQM", "tried"):
        sides.add_column(name, justify="left" if name == "algo" else "right")
    for side in comparison.sides:
        mean = f"{scale * side.mean:.1f} [{scale * side.low:.1f}, {scale * side.high:.1f}]"
        sides.add_row(*map(Text, (side.name, str(len(side.seeds)), mean, f"{scale * side.iqm:.1f}", str(side.tried))))
    console.print(sides, "")
    gains = _grid()
    for name in ("solved, after - before", "gain [95 %]", "gain at T* [95 %]", ""):
        gains.add_column(name, justify="right" if "gain" in name else "left")
    for cells in gain_rows(comparison.gains):
        gains.add_row(*map(Text, cells))
    console.print(gains, "")
    family = len(comparison.pairs)
    console.print(f"first - second, paired by problem and seed; p corrected by Holm over {family}", highlight=False)
    pairs = _grid()
    for name in ("first", "second", "seeds", "difference [95 %]", "p", "p (Holm)", "P(first > second)", "detectable"):
        pairs.add_column(name, justify="left" if name in ("first", "second") else "right")
    for pair in comparison.pairs:
        d = pair.difference
        difference = f"{scale * d.value:+z.1f} [{scale * d.low:+z.1f}, {scale * d.high:+z.1f}]"
        better = f"{pair.improvement:.2f} [{pair.improvement_low:.2f}, {pair.improvement_high:.2f}]"
        p_values = (f"{d.p_value:.3f}", f"{pair.p_holm:.3f}")
        seen = "found" if pair.found else detectable(d.detectable, scale)
        cells = (pair.first, pair.second, str(len(pair.seeds)), difference, *p_values, better, seen)
        pairs.add_row(*map(Text, cells))
    console.print(pairs)
    console.print("detectable: not found; the smallest difference that a repetition would see in 80% (before Holm)")
    for warning in comparison.warnings:
        console.print(Text(f"note: {one_line(warning)}"), soft_wrap=True)


def detectable(effect: float, scale: float) -> str:
    """A detectable effect, or that none is: nothing on the scale from 0 to 1 is larger than 1."""
    return "none" if scale == 100 and effect > 1 else f"{scale * effect:.1f}"


def _grid() -> RichTable:
    return RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def as_json(value: Any) -> Any:
    """Numbers that JSON has no word for, as null."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value
