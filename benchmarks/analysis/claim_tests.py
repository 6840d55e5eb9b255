"""The kinds of tests that a claim can be made of; `benchmarks.analysis.conclusions` has the rule that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.analysis.conclusions import ClaimTest, Judgement, Measured
from benchmarks.analysis.experiments import Experiment, hyper_parameters
from benchmarks.analysis.gaps import after, curve_gap, gap, time_gap
from benchmarks.analysis.ground import Ground, Select
from benchmarks.analysis.statistics import (
    UNBOUNDED,
    Contrast,
    combine,
    expected_difference,
)
from tasks.errors import require

EQUAL_COST = 1.1
"""Largest ratio of mean costs that counts as equal: a run stops after the update in which it reaches its budget."""


@dataclass(kw_only=True)
class DifferenceTest(ClaimTest):
    """First minus second on the test problems, at equal cost; without a second, the gain over the starting policy."""

    first: Select
    second: Select | None = None
    metric: str = "solved"
    equal: str | None = "flops"
    """The cost that must be equal; None where none need be."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.unit = self.metric if self.second else f"{self.metric}, after minus before"

    def selects(self) -> list[Select]:
        return [self.first] if self.second is None else [self.first, self.second]

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        first, second = chosen[0], chosen[1] if self.second else None
        found = gap(first, second, self.metric)
        others = {e.id: e for each in chosen for e in ground.alike(each) if e.first.summary["rollouts"]}
        design = expected_difference([after(e, self.metric) for e in others.values()], found.seeds)
        if design and not second:  # Of a gain only one side is trained.
            design = replace(found, seed_variance=design.seed_variance / 2, seed_freedom=found.seeds - 1.0)
        barred, note = "", ""
        if second:
            costs = [float(np.mean(e.cost(self.equal))) for e in chosen] if self.equal else [1.0, 1.0]
            if not (min(costs) > 0 and max(costs) / min(costs) <= EQUAL_COST):
                barred = f"not at equal {self.equal}: {costs[0]:.3g} and {costs[1]:.3g}"
            differ = hyper_parameters(chosen)
            note = f"settings differ: {', '.join(differ)}" if differ else ""
        return Measured(found, found, design, barred, note)


@dataclass(kw_only=True)
class TrendTest(ClaimTest):
    """How first minus second changes along a dial of the task: the least-squares slope over the dial's values.

    Values share neither seeds nor, as it is counted, problems: what an algorithm makes of a problem at one value and at
    the next would cancel in the slope, so that counting it twice is wider than needed, not narrower.
    """

    first: Select
    second: Select | None = None
    dial: str
    values: list[Any]
    log: bool = False
    """Whether the slope is over the values' logarithm; otherwise over their place, 0, 1, 2."""
    of: str = "difference"
    """difference: of the metric on the test problems. time: log of second's updates to target over first's, on val."""
    metric: str = "solved"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.of in ("difference", "time"), f"of={self.of}: use difference or time")
        require(len(self.values) >= 3, "values: name at least three")
        require(self.of == "difference" or self.second is not None, "of=time: needs a second")
        self.fine = self.of == "time"
        what = self.metric if not self.fine else f"log ratio of updates to target ({self.metric})"
        self.unit = f"{what}, slope over {'log ' if self.log else ''}{self.dial}"

    def selects(self) -> list[Select]:
        pair = [self.first] if self.second is None else [self.first, self.second]
        return [select.at(**{self.dial: value}) for value in self.values for select in pair]

    def choose(self, ground: Ground, task: str) -> list[Experiment | None]:
        selects, size = self.selects(), 1 if self.second is None else 2
        groups = [selects[place : place + size] for place in range(0, len(selects), size)]
        return [found for group in groups for found in ground.match(task, group)]

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        size = len(chosen) // len(self.values)
        pairs = [(chosen[at], chosen[at + 1] if size == 2 else None) for at in range(0, len(chosen), size)]
        found = [time_gap(a, b, self.metric) if self.of == "time" and b else gap(a, b, self.metric) for a, b in pairs]
        at = np.log([float(value) for value in self.values]) if self.log else np.arange(len(self.values), dtype=float)
        weights = (at - at.mean()) / np.square(at - at.mean()).sum()
        slope = combine(found, list(weights), UNBOUNDED)
        shown = ", ".join(f"{value}: {each.value:+.3f}" for value, each in zip(self.values, found, strict=True))
        return Measured(slope, slope, note=f"by {self.dial}: {shown}")


@dataclass(kw_only=True)
class GrowthTest(ClaimTest):
    """How a cost per update grows with the horizon, `task.max_turns`.

    `exponential`: cost = a g^turns, and the effect is log g. `power`: cost = a turns^c, and the effect is c.
    The fit is least squares in the logarithm, over horizons (mean over runs), with Student's interval from the misfit.
    A claim of exponential growth is supported only where the power law fits worse.
    """

    algo: Select
    form: str
    amount: str = "rollouts"
    horizons: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    budget: str = "smoke"
    """Of the runs: it is a cost per update."""
    smallest: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.form in ("exponential", "power"), f"form={self.form}: use exponential or power")
        require(len(self.horizons) >= 3, "horizons: name at least three")
        self.unit = f"{'log factor a turn' if self.form == 'exponential' else 'exponent'} of {self.amount} an update"

    def selects(self) -> list[Select]:
        return [self.algo.at(**{"task.max_turns": turns}) for turns in self.horizons]

    def judge(self, ground: Ground, task: str) -> Judgement:
        return super().judge(replace(ground, budget=self.budget), task)

    def choose(self, ground: Ground, task: str) -> list[Experiment | None]:
        return [ground.match(task, [select])[0] for select in self.selects()]

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        costs = [
            float(np.mean([run.summary[self.amount] / max(run.summary["updates"], 1) for run in e.runs.values()]))
            for e in chosen
        ]
        require(min(costs) > 0, f"{self.amount}: a run spent none")
        seeds = min(len(e.runs) for e in chosen)
        fits = {form: _fit(self.horizons, costs, form, seeds) for form in ("exponential", "power")}
        found, misfit = fits[self.form]
        other = fits["power"][1]
        better = self.form == "exponential" and self.side == "above" and misfit > other
        shown = ", ".join(f"{turns}: {cost:.4g}" for turns, cost in zip(self.horizons, costs, strict=True))
        note = f"{self.amount} an update by turns: {shown}"
        return Measured(found, found, barred="a power law fits better" if better else "", note=note)


def _fit(turns: Sequence[int], costs: Sequence[float], form: str, seeds: int) -> tuple[Contrast, float]:
    """Slope of log cost over turns or their logarithm, and the squared misfit."""
    at = np.array(turns, dtype=np.float64)
    at = at if form == "exponential" else np.log(at)
    slope, intercept = np.polyfit(at, np.log(costs), 1)
    misfit = float(np.square(np.log(costs) - slope * at - intercept).sum())
    freedom = len(at) - 2.0
    # A perfect fit is a matter of rounding: costs are known to a millionth at best.
    variance = max(misfit / freedom, 1e-12) / float(np.square(at - at.mean()).sum())
    return Contrast(float(slope), variance, freedom, 0.0, 0, seeds, UNBOUNDED), misfit


@dataclass(kw_only=True)
class CurveTest(ClaimTest):
    """First minus second on val at equal cost, or first at a share of what the second spent minus the second's level.

    The cost is the highest that the second, and at its share the first, reached in every run. Between two evaluations
    the first may be at the level of either: a conclusion must hold for both.
    """

    fine = True
    first: Select
    second: Select
    axis: str
    share: float = 1.0
    metric: str = "solved"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.share <= 1, f"share={self.share:g} must be in (0, 1]")
        self.unit = f"{self.metric} on val at {'equal' if self.share == 1 else f'{self.share:g} of the'} {self.axis}"

    def selects(self) -> list[Select]:
        return [self.first, self.second]

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        least, most = curve_gap(chosen[0], chosen[1], self.axis, self.metric, self.share)
        return Measured(least, most)


@dataclass(kw_only=True)
class ReversalTest(ClaimTest):
    """Whether two algorithms change places between two cost axes that were named beforehand.

    The effect is the lesser of first's lead at equal `leads_on` and its lag at equal `trails_on`, on val: above 0 they
    change places. A limit of the lesser of two is the lesser of their limits.
    """

    fine = True
    first: Select
    second: Select
    leads_on: str
    trails_on: str
    metric: str = "solved"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.unit = f"{self.metric} on val, lead on {self.leads_on} and lag on {self.trails_on}"

    def selects(self) -> list[Select]:
        return [self.first, self.second]

    def measure(self, ground: Ground, task: str, chosen: Sequence[Experiment]) -> Measured:
        lead = curve_gap(chosen[0], chosen[1], self.leads_on, self.metric)
        gaps = curve_gap(chosen[0], chosen[1], self.trails_on, self.metric)
        lag = [replace(each, value=-each.value) for each in gaps[::-1]]
        least = min(lead[0], lag[0], key=lambda each: each.interval()[0])
        most = min(lead[1], lag[1], key=lambda each: each.interval()[1])
        middles = [fmean(each.value for each in pair) for pair in (lead, gaps)]
        note = f"first - second: {middles[0]:+.3f} on {self.leads_on}, {middles[1]:+.3f} on {self.trails_on}"
        return Measured(least, most, note=note, value=min(middles[0], -middles[1]))


KINDS: dict[str, type[ClaimTest]] = {
    "difference": DifferenceTest,
    "trend": TrendTest,
    "growth": GrowthTest,
    "curve": CurveTest,
    "reversal": ReversalTest,
}
