"""What a run has spent, by phase, one row per update.

Time is booked by nested phases: the clocks always run for exactly one phase, so that phases sum to the run's wall time.
What each cost is, its unit and its formula: docs/costs.md. What cannot be measured is null, never 0.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.config.budget import Prices

APART = ("warmstart", "evaluate", "load", "record")
"""Phases that are not charged to the algorithm: what went before it, evaluating, loading, and writing the record."""
PHASES = ("rollout", "score", "update", "reflect", "other", *APART)
AMOUNTS = ("rollouts", "prompt_tokens", "generated_tokens", "trained_tokens", "reflected_tokens", "flops")
METERED = ("wall_s", "cpu_s", "gpu_s", "energy_j")
"""What runs by itself while a phase lasts, where this machine has a meter for it."""
VARIABLE = (*METERED, "flops_per_s", "mfu", "dollars", "peak_host_bytes", "peak_device_bytes")
"""Endings of the columns in which two runs of one seed on one machine may differ."""


@dataclass(slots=True)
class Ledger:
    """Costs so far, and the rows of finished updates."""

    clock: Callable[[], float] = time.perf_counter
    meters: dict[str, Callable[[], float]] = field(default_factory=lambda: {"cpu_s": time.process_time})
    """Beside the clock: readings that only grow, by their name in `METERED`."""
    prices: Prices = field(default_factory=Prices)
    peak_flops_per_s: float | None = None
    """What mfu is a share of."""
    charged: tuple[str, ...] = ()
    """Phases of `APART` that are charged after all."""
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """`PHASE/wall_s`, `PHASE/AMOUNT` and `PHASE/remote_tokens`."""
    rows: list[dict[str, float | None]] = field(default_factory=list)
    _stack: list[str] = field(default_factory=lambda: ["other"])
    _marks: dict[str, float] = field(default_factory=dict)
    _booked: dict[str, float] = field(default_factory=dict)
    _read: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def _tick(self) -> None:
        readings = {"wall_s": self.clock(), **{name: read() for name, read in self.meters.items()}}
        for name, mark in self._marks.items():
            self.totals[f"{self._stack[-1]}/{name}"] += readings[name] - mark
            self._read[f"{self._stack[-1]}/{name}"] += readings[name] - mark
        self._marks = readings

    def drain(self) -> dict[str, float]:
        """What this process's meters, not its clock, read since the last call: `PHASE/METER`."""
        self._tick()
        read = {key: value for key, value in self._read.items() if not key.endswith("/wall_s")}
        self._read.clear()
        return read

    def merge(self, read: Mapping[str, float]) -> None:
        """Book what another process of the same run drained."""
        for key, value in read.items():
            self.totals[key] += value

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book the time inside to `name`, and not to the phase around it."""
        if name not in PHASES:
            raise ValueError(f"unknown phase {name!r}; one of {', '.join(PHASES)}")
        self._tick()
        self._stack.append(name)
        try:
            yield
        finally:
            self._tick()
            self._stack.pop()

    def move(self, source: str, target: str, seconds: float) -> None:
        """Book seconds that were measured inside `source` to `target`."""
        self.totals[f"{source}/wall_s"] -= seconds
        self.totals[f"{target}/wall_s"] += seconds

    def inherit(self, phase: str, costs: Mapping[str, float], *, out_of: str | None = None) -> None:
        """Book what another run, or an earlier part of this one, measured and what this run profits from.

        Args:
            phase: where to.
            costs: amounts and metered seconds and joules, those that were measured.
            out_of: the phase that the metered ones stand in already, and are taken from.
        """
        for name, cost in costs.items():
            self.totals[f"{phase}/{name}"] += cost
            if out_of and name in METERED:
                self.totals[f"{out_of}/{name}"] -= cost

    def charge(self, phase: str, amounts: Mapping[str, float]) -> None:
        """Book amounts to a phase.

        Reflected tokens that come without FLOPs were read and written on another machine: the FLOPs are null from then
        on, and the tokens have their own price.

        Raises:
            ValueError: an unknown phase or amount, or a negative one.
        """
        for name, amount in amounts.items():
            if phase not in PHASES or name not in AMOUNTS:
                raise ValueError(f"cannot book {name!r} to {phase!r}; amounts are {', '.join(AMOUNTS)}")
            if not amount >= 0:
                raise ValueError(f"cannot book {amount} {name}")
            self.totals[f"{phase}/{name}"] += amount
        if "reflected_tokens" in amounts and "flops" not in amounts:
            self.totals[f"{phase}/remote_tokens"] += amounts["reflected_tokens"]

    def close_row(self, metrics: Mapping[str, float | None]) -> None:
        """End an update: what was booked since the last row, and the update's metrics."""
        self._tick()
        news = {key: value - self._booked.get(key, 0.0) for key, value in self.totals.items()}
        self._booked = dict(self.totals)
        costs: dict[str, float | None] = {}
        for phase, numbers in self._by_phase(news).items():
            costs |= {f"{phase}/{name}": value for name, value in numbers.items()}
        self.rows.append({"update": float(len(self.rows) + 1), **costs, **metrics})

    def state(self) -> dict[str, dict[str, float]]:
        """What `restore` needs beside the rows."""
        self._tick()
        return {"totals": dict(self.totals), "booked": self._booked}

    def restore(self, state: Mapping[str, Mapping[str, float]], rows: Iterable[dict[str, float | None]]) -> None:
        """Resume from an earlier process's state and rows; what was booked in this one until now is added."""
        for key, value in state["totals"].items():
            self.totals[key] += value
        self._booked = dict(state["booked"])
        self.rows = list(rows)

    def by_phase(self) -> dict[str, dict[str, float | None]]:
        """All costs so far: what was booked or metered, dollars, and where there are FLOPs their rate and mfu."""
        self._tick()
        return self._by_phase(self.totals)

    def _by_phase(self, booked: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
        found: dict[str, dict[str, float | None]] = {}
        for phase in PHASES:
            own = {key.removeprefix(f"{phase}/"): v for key, v in booked.items() if key.startswith(f"{phase}/")}
            if own:
                # Null first, so that what was measured replaces it.
                found[phase] = {**dict.fromkeys(METERED), **own, "dollars": self._dollars(own)}
                if own.get("remote_tokens"):
                    found[phase]["flops"] = None
                elif own.get("flops") and own.get("wall_s"):
                    rate = own["flops"] / own["wall_s"]
                    found[phase]["flops_per_s"] = rate
                    found[phase]["mfu"] = rate / self.peak_flops_per_s if self.peak_flops_per_s else None
        return found

    def _dollars(self, own: Mapping[str, float]) -> float | None:
        machine, remote = self.prices.per_hour, self.prices.per_remote_token
        tokens = own.get("remote_tokens", 0.0)
        if machine is None or (tokens and remote is None):
            return None
        return machine * own.get("wall_s", 0.0) / 3600 + tokens * (remote or 0.0)

    def total(self, amount: str, *, evaluation: bool = False) -> float:
        """An amount summed over phases: what the algorithm spent, or (evaluation=True) what measuring it took.

        FLOPs are those of this machine; `spent` says null where others were spent elsewhere.
        """
        self._tick()
        phases = ("evaluate",) if evaluation else tuple(phase for phase in PHASES if self._counts(phase))
        return sum(self.totals.get(f"{phase}/{amount}", 0.0) for phase in phases)

    def _counts(self, phase: str) -> bool:
        """Whether a phase is charged to the algorithm."""
        return phase not in APART or phase in self.charged

    def means(self, prefix: str) -> dict[str, float]:
        """Means of the columns with a prefix over the updates that have them, by the rest of the columns' names."""
        found: dict[str, list[float]] = defaultdict(list)
        for row in self.rows:
            for key, value in row.items():
                if key.startswith(prefix) and value is not None:
                    found[key.removeprefix(prefix)].append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def phases(self) -> dict[str, float]:
        """Wall seconds by phase up to now; they sum to the run's wall time."""
        self._tick()
        suffix = "/wall_s"
        return {key.removesuffix(suffix): value for key, value in self.totals.items() if key.endswith(suffix)}

    def spent(self) -> dict[str, float | None]:
        """The algorithm's costs, under the names of the budget's limits; null where they cannot be measured."""
        costs = [numbers for phase, numbers in self.by_phase().items() if self._counts(phase)]

        def total(name: str) -> float:
            return sum(numbers.get(name) or 0.0 for numbers in costs)

        dollars = [numbers["dollars"] for numbers in costs]
        return {
            "flops": None if total("remote_tokens") else total("flops"),
            "rollouts": total("rollouts"),
            "tokens": total("generated_tokens") + total("reflected_tokens"),
            "updates": float(len(self.rows)),
            "seconds": total("wall_s"),
            "joules": total("energy_j") if "energy_j" in self.meters else None,
            "dollars": None if self.prices.per_hour is None or None in dollars else total("dollars"),
        }
