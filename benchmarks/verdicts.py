"""The tests that claims are made of: each looks at records and says supported, refuted or undecided.

One rule for all. A test has an effect, an interval, and a side of a threshold that the claim says it lies on.

    supported   the 95% interval lies wholly on the claimed side
    refuted     the interval lies wholly on the other side, at level 1 - 0.05 / n with n the claim's deciding tests
    undecided   anything else, or fewer seeds than the claim asks for, or costs that were not equal

All tests of a claim must be supported for the claim to be, so that none needs a correction; a single one refutes it, so
that the chance of a wrong one among n is held down. `undecided` names what is missing.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np

from benchmarks.efficiency import cost_to_target, curve_frame, levels_at, mean_level
from benchmarks.experiments import Experiment, hyper_parameters
from benchmarks.statistics import DIFFERENCES, POWER, Estimate, detectable_factor, estimate_mean, estimate_seeds
from tasks.errors import require

Verdict = Literal["supported", "refuted", "undecided"]
LEVEL = 0.95
EQUAL_COST = 1.1
"""Largest ratio of mean costs that still counts as equal: a run stops after the update in which it reaches its budget."""
MOST_SEEDS = 30


@dataclass(kw_only=True)
class Select:
    """Which experiments: an algorithm, and values of its configuration by dotted key."""

    algo: str
    settings: dict[str, Any] = field(default_factory=dict)

    def fits(self, experiment: Experiment) -> bool:
        """Whether this is such an experiment."""
        config = experiment.first.config
        return experiment.algo == self.algo and all(config.get(key) == value for key, value in self.settings.items())

    def words(self) -> tuple[str, ...]:
        """Overrides of such a run."""
        values = {key: json.dumps(value) for key, value in self.settings.items()}
        return (f"+algo={self.algo}", *(f"{key}={value}" for key, value in values.items()))


@dataclass(frozen=True, slots=True)
class Need:
    """Runs that would decide a test."""

    words: tuple[str, ...]
    """Overrides with the algorithm and all but task, policy, budget and seed."""
    task: str
    seeds: int
    budget: str | None = None
    """Where it is not the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test on one task says."""

    test: str
    task: str
    verdict: Verdict
    decides: bool
    unit: str
    claimed: str
    """Side and threshold, fixed beforehand."""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    """The smallest distance from the threshold that a repetition would see with a probability of 80%."""
    seeds: int = 0
    runs: list[str] = field(default_factory=list)
    note: str = ""
    needs: list[Need] = field(default_factory=list)


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

    @property
    def strict(self) -> float:
        """Level of a refutation."""
        return 1 - (1 - LEVEL) / self.tests

    def match(self, task: str, selects: Sequence[Select]) -> tuple[list[Experiment | None], list[int]]:
        """For each selection an experiment, all in one setting, and the seeds that they share.

        Of several settings or experiments those with most runs are taken, never those with the best results.
        """
        names = {"task": task, "policy": self.policy, "budget": self.budget}
        settings: dict[str, list[Experiment]] = defaultdict(list)
        for experiment in self.experiments:
            if all(experiment.first.summary[group] == name for group, name in names.items()):
                settings[json.dumps(experiment.setting, sort_keys=True, default=str)].append(experiment)
        best: tuple[tuple[int, int], list[Experiment | None], list[int]] = ((0, 0), [None] * len(selects), [])
        for _, group in sorted(settings.items()):
            fitting = [[e for e in group if select.fits(e)] for select in selects]
            found = [max(es, key=lambda e: (len(e.runs), e.id)) if es else None for es in fitting]
            seeds = [set(e.runs) for e in found if e is not None]
            shared = sorted(set.intersection(*seeds)) if seeds else []
            rank = (len(seeds), len(shared))
            if rank > best[0]:
                best = (rank, found, shared)
        return best[1], best[2]


@dataclass(kw_only=True)
class Test:
    """What all tests state."""

    kind: str
    test: str
    """The question, in words."""
    tasks: list[str]
    decides: bool = True
    """False: reported, and no part of the verdict."""
    side: str = "above"
    """Of the threshold, on which the claim says the effect lies: above or below."""
    threshold: float = 0.0

    def __post_init__(self) -> None:
        require(self.side in ("above", "below"), f"side={self.side}: use above or below")
        require(bool(self.tasks), "tasks: name at least one")

    def findings(self, ground: Ground) -> list[Finding]:
        """One finding a task."""
        return [self.look(ground, task) for task in self.tasks]

    def look(self, ground: Ground, task: str) -> Finding:
        """What the records say on one task."""
        raise NotImplementedError

    def judge(
        self,
        ground: Ground,
        task: str,
        selects: Sequence[Select],
        chosen: Sequence[Experiment | None],
        seeds: Sequence[int],
        measure: Callable[[float], tuple[Estimate, Estimate]],
        unit: str,
        note: Callable[[], str] = str,
        barred: Callable[[], str] = str,
    ) -> Finding:
        """A finding by the module's rule.

        Args:
            ground, task: where.
            selects, chosen, seeds: which experiments, what was found of them, and their shared seeds.
            measure: at a level, the estimate that must lie on the claimed side, and the one that must not lie on the
                other; they differ only where what was measured leaves a range.
            unit: of the effect.
            note: what else should be said.
            barred: why the runs cannot decide; empty where they can.
        """
        claimed = f"{self.side} {self.threshold:g}"
        runs = [e.runs[seed].record.name for e in chosen if e is not None for seed in seeds]
        about = {"test": self.test, "task": task, "decides": self.decides, "unit": unit, "claimed": claimed}
        lacking = [select.algo for select, experiment in zip(selects, chosen, strict=True) if experiment is None]
        if lacking or len(seeds) < ground.seeds:
            why = f"no runs of {', '.join(lacking)}" if lacking else f"{len(seeds)} of {ground.seeds} seeds"
            needs = [Need(select.words(), task, ground.seeds) for select in selects]
            return Finding(**about, verdict="undecided", seeds=len(seeds), runs=runs, note=why, needs=needs)
        toward, against = measure(LEVEL)
        _, strictly = measure(ground.strict)
        above = self.side == "above"
        supported = toward.low > self.threshold if above else toward.high < self.threshold
        refuted = strictly.high < self.threshold if above else strictly.low > self.threshold
        why_not = barred()
        verdict: Verdict = (
            "undecided" if why_not or not (supported or refuted) else "supported" if supported else "refuted"
        )
        needs, notes = [], [text for text in (why_not, note()) if text]
        if verdict == "undecided" and not why_not:
            enough = seeds_to_tell(toward, self.threshold)
            if enough is None:
                notes.append(f"more than {MOST_SEEDS} seeds would be needed")
            else:
                needs = [Need(select.words(), task, max(enough, len(seeds) + 1)) for select in selects]
        value = (toward.value + against.value) / 2
        interval = (min(toward.low, against.low), max(toward.high, against.high))
        return Finding(
            **about,
            verdict=verdict,
            effect=value,
            low=interval[0],
            high=interval[1],
            detectable=toward.detectable,
            seeds=len(seeds),
            runs=runs,
            note="; ".join(notes),
            needs=needs,
        )


def seeds_to_tell(estimate: Estimate, threshold: float) -> int | None:
    """Seeds with which an effect as large as the one seen would be told from the threshold in 80%; None: too many."""
    distance = abs(estimate.value - threshold)
    if not math.isfinite(estimate.standard_error):
        return estimate.seeds + 2
    for seeds in range(max(estimate.seeds, 2), MOST_SEEDS + 1):
        error = estimate.standard_error * math.sqrt(estimate.seeds / seeds)
        if detectable_factor(float(seeds - 1), LEVEL, POWER) * error <= distance:
            return seeds
    return None


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

    `exponential`: cost = a g^turns, and the effect is g. `power`: cost = a turns^c, and the effect is c (1: linear). The
    fit is least squares in the logarithm, over horizons (mean over runs), with Student's interval. A claim of
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
        points, runs = self._points(ground, task)
        unit = f"{'factor a turn' if self.form == 'exponential' else 'exponent'} of {self.amount} an update"
        about = {"test": self.test, "task": task, "decides": self.decides, "unit": unit}
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
            seeds=len(runs),
            runs=runs,
            note=note,
            needs=needs,
        )

    def _points(self, ground: Ground, task: str) -> tuple[dict[int, float], list[str]]:
        groups: dict[str, list[Experiment]] = defaultdict(list)
        for e in ground.experiments:
            names = e.first.summary
            if (names["task"], names["policy"]) == (task, ground.policy) and self.algo.fits(e):
                same = {
                    key: value
                    for key, value in e.first.config.items()
                    if key.split(".")[0] in ("algo", "task", "policy") and key != "task.max_turns"
                }
                groups[json.dumps(same, sort_keys=True, default=str)].append(e)
        best: dict[int, list[float]] = {}
        names: list[str] = []
        for _, group in sorted(groups.items()):
            costs: dict[int, list[float]] = defaultdict(list)
            for run in (run for e in group for run in e.runs.values()):
                turns, updates = run.config.get("task.max_turns"), run.summary["updates"]
                if isinstance(turns, int) and updates:
                    costs[turns].append(run.summary[self.amount] / updates)
            if len(costs) > len(best):
                best, names = costs, [run.record.name for e in group for run in e.runs.values()]
        return {turns: float(np.mean(values)) for turns, values in best.items()}, names


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

    Effect: first's val accuracy at that cost minus the second's last, per seed. Between two evaluations the accuracy may
    be either's: a verdict must hold for both. The ratio of costs to the second's final accuracy, with a miss as infinity,
    is told beside it.
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
            ratios = [
                float(others[seed] / paid[seed]) for seed in seeds if math.isfinite(min(others[seed], paid[seed]))
            ]
            told = (
                f"{np.median(ratios):.3g} times fewer {self.cost_axis} (published: up to 35)" if ratios else "no ratio"
            )
            reached = f"reached by {self.first.algo} in {int(np.isfinite(paid).sum())} and by {self.second.algo} in "
            return f"{self.second.algo}'s final {target:.3f} on val: {told}; {reached}{int(np.isfinite(others).sum())} of {len(seeds)} seeds"

        unit = f"solved on val at 1/{self.factor:g} of the {self.cost_axis}"
        return self.judge(ground, task, selects, chosen, seeds, measure, unit, note)


@dataclass(kw_only=True)
class Order(Test):
    """Whether algorithms stand in the same order at equal cost, whatever the cost is counted in.

    Two algorithms change places by r where the first leads by r or more on one axis and trails by r or more on another.
    Effect: the largest r of all pairs, at the highest cost on each axis that every run reached, on val curves.
    """

    algos: list[str]
    axes: list[str]

    def look(self, ground: Ground, task: str) -> Finding:
        """Per pair and axis Student's interval over seeds; a pair's r lies between those of its intervals' ends."""
        selects = [Select(algo=algo) for algo in self.algos]
        chosen, seeds = ground.match(task, selects)
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
            ground, task, selects, chosen, seeds, measure, "largest change of places, solved on val", note
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


def curves_of(experiment: Experiment, seeds: Sequence[int], axis: str, metric: str) -> Any:
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
