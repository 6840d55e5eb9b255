"""The kinds of tests that a claim can be made of; `benchmarks.analysis.verdicts` has the rule that judges them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.analysis.efficiency import cost_to_target, curve_frame, levels_at, mean_level
from benchmarks.analysis.experiments import Experiment, hyper_parameters
from benchmarks.analysis.statistics import DIFFERENCES, Estimate, detectable_factor, estimate_mean, estimate_seeds
from benchmarks.analysis.verdicts import LEVEL, Finding, Ground, Need, Select, Test, Verdict
from benchmarks.records.reading import Run
from tasks.errors import require

EQUAL_COST = 1.1
"""Largest ratio of mean costs that counts as equal: a run stops after the update in which it reaches its budget."""


@dataclass(kw_only=True)
class Difference(Test):
    """First minus second on the test problems, at equal cost."""

    first: Select
    second: Select
    metric: str = "solved"
    cost_axis: str = "flops"

    def look(self, ground: Ground, task: str) -> Finding:
        """Paired by problem and seed."""
        selects = [self.first, self.second]
        chosen, seeds = ground.match(task, selects)

        def measure(level: float) -> tuple[Estimate, Estimate]:
            first, second = (e.matrix(self.metric, seeds) for e in chosen if e is not None)
            reach = float(max(1.0, first.max() - second.min(), second.max() - first.min()))
            estimate = estimate_mean(first - second, DIFFERENCES if reach <= 1 else (-reach, reach), level)
            return estimate, estimate

        def barred() -> str:
            costs = [float(np.mean(e.cost(self.cost_axis))) for e in chosen if e is not None]
            if min(costs) > 0 and max(costs) / min(costs) <= EQUAL_COST:
                return ""
            return f"not at equal {self.cost_axis}: {costs[0]:.3g} and {costs[1]:.3g}"

        def note() -> str:
            differ = hyper_parameters([e for e in chosen if e is not None])
            return "settings differ: " + ", ".join(differ) if differ else ""

        return self.judge(ground, task, selects, chosen, seeds, measure, self.metric, note, barred)


@dataclass(kw_only=True)
class Gain(Test):
    """What an algorithm made of the policy that it began with: solved after minus solved before."""

    algo: Select

    def look(self, ground: Ground, task: str) -> Finding:
        """Paired by problem and seed."""
        chosen, seeds = ground.match(task, [self.algo])

        def measure(level: float) -> tuple[Estimate, Estimate]:
            (experiment,) = (e for e in chosen if e is not None)
            estimate = estimate_mean(
                experiment.matrix("solved", seeds) - experiment.base_matrix(seeds), DIFFERENCES, level
            )
            return estimate, estimate

        return self.judge(ground, task, [self.algo], chosen, seeds, measure, "solved, after minus before")


@dataclass(kw_only=True)
class Learning(Test):
    """Whether the first learns every component of the reward no slower than the second.

    Per component: the mean level of the val curve up to the cost that both reached (the area under it), first minus
    second, as a share of the range that the component covers on both mean curves. Speaks of these val problems.
    """

    first: Select
    second: Select
    cost_axis: str = "flops"

    def findings(self, ground: Ground) -> list[Finding]:
        """One finding a task and component."""
        return [finding for task in self.tasks for finding in self._components(ground, task)]

    def _components(self, ground: Ground, task: str) -> list[Finding]:
        selects = [self.first, self.second]
        chosen, seeds = ground.match(task, selects)
        there = [e for e in chosen if e is not None]
        names = sorted(key for key in there[0].first.curve[0] if key.startswith("reward/")) if there else []
        return [self._component(ground, task, selects, chosen, seeds, name) for name in names or ["reward"]]

    def _component(
        self,
        ground: Ground,
        task: str,
        selects: Sequence[Select],
        chosen: Sequence[Experiment | None],
        seeds: Sequence[int],
        name: str,
    ) -> Finding:
        def measure(level: float) -> tuple[Estimate, Estimate]:
            curves = [curves_of(e, seeds, self.cost_axis, name) for e in chosen if e is not None]
            end = min(float(curve.groupby("seed")["cost"].max().min()) for curve in curves)
            levels = np.concatenate([levels_at(c, np.linspace(0, end, 50)).mean(axis=1) for c in curves])
            covered = float(levels.max() - levels.min()) or 1.0
            first, second = (mean_level(curve, end) for curve in curves)
            estimate = estimate_seeds(((first - second) / covered).to_numpy(), (-math.inf, math.inf), level)
            return estimate, estimate

        return self.judge(ground, task, selects, chosen, seeds, measure, f"{name}, share of its range")


@dataclass(kw_only=True)
class Growth(Test):
    """How a cost per update grows with the horizon, `task.max_turns`.

    `exponential`: cost = a g^turns, and the effect is g. `power`: cost = a turns^c, and the effect is c (1: linear).
    The fit is least squares in the logarithm, over horizons (mean over runs), with Student's interval. A claim of
    exponential growth is supported only where the power law fits worse.
    """

    algo: Select
    form: str
    amount: str = "rollouts"
    horizons: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    run: list[str] = field(default_factory=list)
    """Overrides with which such runs are made."""
    run_budget: str = "smoke"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.form in ("exponential", "power"), f"form={self.form}: use exponential or power")
        require(len(self.horizons) >= 3, "horizons: name at least three")

    def look(self, ground: Ground, task: str) -> Finding:
        """Over runs of one configuration that differ in the horizon, whatever their budget: it is a cost per update."""
        points, measured = self._points(ground, task)
        runs, seeds = [run.record.name for run in measured], len({run.summary["seed"] for run in measured})
        unit = f"{'factor a turn' if self.form == 'exponential' else 'exponent'} of {self.amount} an update"
        about: dict[str, Any] = {"test": self.test, "task": task, "decides": self.decides, "unit": unit}
        about["claimed"] = f"{self.side} {self.threshold:g}"
        if len(points) < 3:
            horizons = ",".join(map(str, self.horizons))
            words = (*self.algo.words(), f"task.max_turns={horizons}", *self.run)
            needs = [Need(words, task, 1, self.run_budget)]
            note = f"{len(points)} horizons on record, three are the least"
            return Finding(**about, verdict="undecided", runs=runs, note=note, needs=needs)
        fits = {form: _fit(points, form, LEVEL) for form in ("exponential", "power")}
        value, low, high, detectable, misfit = fits[self.form]
        _, strict_low, strict_high, _, _ = _fit(points, self.form, ground.strict)
        above = self.side == "above"
        supported = low > self.threshold if above else high < self.threshold
        refuted = strict_high < self.threshold if above else strict_low > self.threshold
        costs = ", ".join(f"{turns}: {cost:.4g}" for turns, cost in sorted(points.items()))
        note = f"{self.amount} an update by turns: {costs}"
        if supported and self.form == "exponential" and above and misfit > fits["power"][4]:
            supported, note = False, f"{note}; a power law fits better"
        verdict: Verdict = "supported" if supported else "refuted" if refuted else "undecided"
        needs = []
        if verdict == "undecided":
            more = ",".join(map(str, range(1, max(points) + 2)))
            needs = [Need((*self.algo.words(), f"task.max_turns={more}", *self.run), task, 1, self.run_budget)]
        return Finding(
            **about,
            verdict=verdict,
            effect=value,
            low=low,
            high=high,
            detectable=detectable,
            seeds=seeds,
            runs=runs,
            note=note,
            needs=needs,
        )

    def _points(self, ground: Ground, task: str) -> tuple[dict[int, float], list[Run]]:
        groups: dict[str, list[Experiment]] = defaultdict(list)
        for e in ground.experiments:
            summary = e.first.summary
            if (summary["task"], summary["policy"]) == (task, ground.policy) and self.algo.fits(e):
                same = {
                    key: value
                    for key, value in e.first.config.items()
                    if key.split(".")[0] in ("algo", "task", "policy") and key != "task.max_turns"
                }
                groups[json.dumps(same, sort_keys=True, default=str)].append(e)
        best: dict[int, list[float]] = {}
        measured: list[Run] = []
        for _, group in sorted(groups.items()):
            costs: dict[int, list[float]] = defaultdict(list)
            for run in (run for e in group for run in e.runs.values()):
                turns, updates = run.config.get("task.max_turns"), run.summary["updates"]
                if isinstance(turns, int) and updates:
                    costs[turns].append(run.summary[self.amount] / updates)
            if len(costs) > len(best):
                best, measured = costs, [run for e in group for run in e.runs.values()]
        return {turns: float(np.mean(values)) for turns, values in best.items()}, measured


def _fit(points: Mapping[int, float], form: str, level: float) -> tuple[float, float, float, float, float]:
    """Growth, its interval, detectable distance, and squared misfit, of costs by number of turns."""
    from scipy.special import stdtrit

    turns = np.array(sorted(points), dtype=np.float64)
    costs = np.log([points[int(turn)] for turn in turns])
    at = turns if form == "exponential" else np.log(turns)
    slope, intercept = np.polyfit(at, costs, 1)
    misfit = float(np.square(costs - slope * at - intercept).sum())
    freedom = float(len(turns) - 2)
    error = math.sqrt(misfit / freedom / np.square(at - at.mean()).sum())
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    detectable = detectable_factor(freedom, level) * error
    shown = [float(slope), float(slope) - half, float(slope) + half]
    if form == "exponential":
        # A logarithm of 700 is as far as floats go.
        shown = [math.exp(min(value, 700.0)) for value in shown]
        detectable = shown[0] * math.expm1(min(detectable, 700.0))
    return (shown[0], shown[1], shown[2], detectable, misfit)


@dataclass(kw_only=True)
class Reach(Test):
    """Whether the first is at the second's final accuracy after `1 / factor` of what the second spent.

    Effect: first's val accuracy at that cost minus the second's last, per seed. Between two evaluations the accuracy
    may be either's: a verdict must hold for both. The ratio of costs to the second's final accuracy, with a miss as
    infinity, is told beside it.
    """

    first: Select
    second: Select
    factor: float
    cost_axis: str = "rollouts"

    def look(self, ground: Ground, task: str) -> Finding:
        """On val curves, paired by seed."""
        selects = [self.first, self.second]
        chosen, seeds = ground.match(task, selects)

        def measure(level: float) -> tuple[Estimate, Estimate]:
            first, second = (curves_of(e, seeds, self.cost_axis, "solved") for e in chosen if e is not None)
            worst, best = [], []
            for seed in seeds:
                own, other = first[first["seed"] == seed], second[second["seed"] == seed]
                cost, final = float(other["cost"].iloc[-1]) / self.factor, float(other["level"].iloc[-1])
                around = [own[own["cost"] <= cost]["level"].iloc[-1:], own[own["cost"] >= cost]["level"].iloc[:1]]
                levels = [float(value) for part in around for value in part]
                worst.append(min(levels) - final)
                best.append(max(levels) - final)
            return estimate_seeds(worst, DIFFERENCES, level), estimate_seeds(best, DIFFERENCES, level)

        def note() -> str:
            first, second = (curves_of(e, seeds, self.cost_axis, "solved") for e in chosen if e is not None)
            target = float(second.groupby("seed")["level"].last().mean())
            paid, others = cost_to_target(first, target), cost_to_target(second, target)
            both = [seed for seed in seeds if math.isfinite(max(paid[seed], others[seed])) and paid[seed] > 0]
            ratio = f"{np.median(others[both] / paid[both]):.3g} times fewer" if both else "no ratio"
            reached = [int(np.isfinite(costs).sum()) for costs in (paid, others)]
            return (
                f"to {self.second.algo}'s final {target:.3f} on val: {ratio} {self.cost_axis}; {self.first.algo} "
                f"reached it in {reached[0]} and {self.second.algo} in {reached[1]} of {len(seeds)} seeds"
            )

        unit = f"solved on val at 1/{self.factor:g} of the {self.cost_axis}"
        return self.judge(ground, task, selects, chosen, seeds, measure, unit, note)


@dataclass(kw_only=True)
class Order(Test):
    """Whether algorithms stand in the same order at equal cost, whatever the cost is counted in.

    Two algorithms change places by r where the first leads by r or more on one axis and trails by r or more on another.
    Effect: the largest r of all pairs, at the highest cost on each axis that every run reached, on val curves.
    """

    algos: list[Select]
    axes: list[str]

    def look(self, ground: Ground, task: str) -> Finding:
        """Per pair and axis Student's interval over seeds; a pair's r lies between those of its intervals' ends."""
        chosen, seeds = ground.match(task, self.algos)
        standings: dict[str, dict[str, float]] = {}

        def measure(level: float) -> tuple[Estimate, Estimate]:
            there = {e.algo: e for e in chosen if e is not None}
            differences: dict[tuple[str, str], list[Estimate]] = defaultdict(list)
            for axis in self.axes:
                curves = {algo: curves_of(e, seeds, axis, "solved") for algo, e in there.items()}
                end = min(float(curve.groupby("seed")["cost"].max().min()) for curve in curves.values())
                levels = {algo: levels_at(curve, [end]).iloc[0] for algo, curve in curves.items()}
                standings[axis] = {algo: float(values.mean()) for algo, values in levels.items()}
                for one, other in combinations(there, 2):
                    differences[one, other].append(
                        estimate_seeds((levels[one] - levels[other]).to_numpy(), DIFFERENCES, level)
                    )
            reversals = [_reversal(estimates) for estimates in differences.values()]
            worst = max(reversals, key=lambda estimate: estimate.value)
            low, high = max(e.low for e in reversals), max(e.high for e in reversals)
            error = max(e.standard_error for e in reversals)
            detectable = max(e.detectable for e in reversals)
            estimate = Estimate(worst.value, low, high, 1.0, error, len(seeds) - 1.0, detectable, len(seeds), 0)
            return estimate, estimate

        def note() -> str:
            lines = []
            for axis, levels in standings.items():
                ranked = sorted(levels, key=lambda algo: -levels[algo])
                lines.append(f"{axis}: {' > '.join(f'{algo} {100 * levels[algo]:.1f}' for algo in ranked)}")
            return "; ".join(lines)

        return self.judge(
            ground, task, self.algos, chosen, seeds, measure, "largest change of places, solved on val", note
        )


def _reversal(estimates: Sequence[Estimate]) -> Estimate:
    """By how much two algorithms change places over axes: the lesser of the largest lead and the largest trail."""

    def least(leads: Sequence[float], trails: Sequence[float]) -> float:
        return min(max(leads), max(trails))

    value = least([e.value for e in estimates], [-e.value for e in estimates])
    low = least([e.low for e in estimates], [-e.high for e in estimates])
    high = least([e.high for e in estimates], [-e.low for e in estimates])
    error, detectable = max(e.standard_error for e in estimates), max(e.detectable for e in estimates)
    return Estimate(value, low, high, 1.0, error, estimates[0].degrees_of_freedom, detectable, estimates[0].seeds, 0)


def curves_of(experiment: Experiment, seeds: Sequence[int], axis: str, metric: str) -> pd.DataFrame:
    """Learning curves of the given seeds, as `efficiency.curve_frame` returns them."""
    return curve_frame({seed: experiment.runs[seed].curve for seed in seeds}, axis, metric)


KINDS: dict[str, type[Test]] = {
    "difference": Difference,
    "gain": Gain,
    "learning": Learning,
    "growth": Growth,
    "reach": Reach,
    "order": Order,
}
