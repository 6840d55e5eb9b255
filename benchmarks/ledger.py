"""What a run has spent, by phase, one row per update.

Time is booked by nested phases: the clock always runs for exactly one phase, so that phases sum to the run's wall time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

PHASES = ("rollout", "score", "update", "reflect", "evaluate", "other")
AMOUNTS = ("rollouts", "prompt_tokens", "generated_tokens", "trained_tokens", "reflected_tokens", "flops")


@dataclass(slots=True)
class Ledger:
    """Costs so far, and the rows of finished updates."""

    clock: Callable[[], float] = time.perf_counter
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """`PHASE/wall_s` and `PHASE/AMOUNT`."""
    rows: list[dict[str, float]] = field(default_factory=list)
    _stack: list[str] = field(default_factory=lambda: ["other"])
    _mark: float | None = None
    _booked: dict[str, float] = field(default_factory=dict)

    def _tick(self) -> None:
        now = self.clock()
        if self._mark is not None:
            self.totals[f"{self._stack[-1]}/wall_s"] += now - self._mark
        self._mark = now

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

    def charge(self, phase: str, amounts: Mapping[str, float]) -> None:
        """Book amounts to a phase.

        Raises:
            ValueError: an unknown phase or amount, or a negative one.
        """
        for name, amount in amounts.items():
            if phase not in PHASES or name not in AMOUNTS:
                raise ValueError(f"cannot book {name!r} to {phase!r}; amounts are {', '.join(AMOUNTS)}")
            if not amount >= 0:
                raise ValueError(f"cannot book {amount} {name}")
            self.totals[f"{phase}/{name}"] += amount

    def close_row(self, metrics: Mapping[str, float]) -> None:
        """End an update: what was booked since the last row, and the update's metrics."""
        self._tick()
        row = {key: value - self._booked.get(key, 0.0) for key, value in self.totals.items()}
        self._booked = dict(self.totals)
        self.rows.append({"update": float(len(self.rows) + 1), **row, **metrics})

    def total(self, amount: str, *, evaluation: bool = False) -> float:
        """An amount summed over phases: what the algorithm spent, or (evaluation=True) what measuring it took."""
        self._tick()
        return sum(
            value
            for key, value in self.totals.items()
            if key.endswith(f"/{amount}") and key.startswith("evaluate/") == evaluation
        )

    def phases(self) -> dict[str, float]:
        """Wall seconds by phase up to now; they sum to the run's wall time."""
        self._tick()
        suffix = "/wall_s"
        return {key.removesuffix(suffix): value for key, value in self.totals.items() if key.endswith(suffix)}

    def spent(self) -> dict[str, float]:
        """The algorithm's costs, under the names of the budget's limits."""
        return {
            "flops": self.total("flops"),
            "rollouts": self.total("rollouts"),
            "tokens": self.total("generated_tokens"),
            "updates": float(len(self.rows)),
            "seconds": self.total("wall_s"),
        }
