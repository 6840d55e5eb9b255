"""What a run may spend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tasks.errors import require


@dataclass(kw_only=True)
class BudgetConfig:
    """conf/budget/NAME.yaml. A run stops after the update in which it reaches the first of its limits."""

    name: str
    flops: float | None = None
    """Model FLOPs of rollouts, updates and reflection."""
    rollouts: int | None = None
    """Episodes played."""
    tokens: int | None = None
    """Tokens generated."""
    updates: int | None = None
    """Calls of `session.step`."""
    seconds: float | None = None
    """Wall time outside evaluation. The only limit that makes a run depend on the machine's speed."""
    checkpoints: int = 4
    """Points of the learning curve after the first, at equal shares of the budget."""

    def __post_init__(self) -> None:
        limits = self.limits()
        require(bool(limits), "budget: set at least one of flops, rollouts, tokens, updates, seconds")
        for name, limit in limits.items():
            require(limit > 0, f"budget.{name}={limit:g} must be above 0")
        require(self.checkpoints >= 1, f"budget.checkpoints={self.checkpoints} must be at least 1")

    def limits(self) -> dict[str, float]:
        """The limits that are set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: float(values[name])
            for name in ("flops", "rollouts", "tokens", "updates", "seconds")
            if values[name] is not None
        }

    def share(self, spent: Mapping[str, float]) -> tuple[float, str]:
        """The share of the budget that is spent (1 or more: nothing is left), and the limit that is nearest."""
        return max((spent[name] / limit, name) for name, limit in self.limits().items())
