"""What a run may spend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.errors import BadInput, require

LIMITS = ("flops", "rollouts", "tokens", "updates", "seconds", "joules", "dollars")
ON_OOM = ("fail", "halve")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Dollars; None where nobody said."""

    per_hour: float | None = None
    """Of this machine, per hour outside `APART`."""
    per_remote_token: float | None = None
    """Of a remote reflector, per token read or written."""


@dataclass(kw_only=True)
class BudgetConfig:
    """conf/budget/NAME.yaml. A run stops after the update in which it reaches the first of its limits."""

    name: str
    flops: float | None = None
    """Model FLOPs of rollouts, updates and reflection."""
    rollouts: int | None = None
    """Episodes played."""
    tokens: int | None = None
    """Tokens generated, and tokens that a reflector read or wrote."""
    updates: int | None = None
    """Calls of `session.step`."""
    seconds: float | None = None
    """Wall time outside evaluation. Like joules and dollars, it makes a run depend on the machine's speed."""
    joules: float | None = None
    """Energy outside evaluation, where the machine has a meter."""
    dollars: float | None = None
    """By `price_per_hour`, and for a remote reflector `price_per_million_tokens`."""
    price_per_hour: float | None = None
    """Dollars for an hour of this machine; 0 if it is free."""
    price_per_million_tokens: float | None = None
    """Dollars for a million tokens that a remote reflector reads or writes."""
    checkpoints: int = 4
    """Points of the learning curve after the first, at equal shares of the budget."""
    on_oom: str = "fail"
    """Where memory runs out: fail, or halve, which tries the update again with micro-batches of half the size."""

    def __post_init__(self) -> None:
        limits = self.limits()
        require(bool(limits), f"budget: set at least one of {', '.join(LIMITS)}")
        for name, limit in limits.items():
            require(limit > 0, f"budget.{name}={limit:g} must be above 0")
        for name in ("price_per_hour", "price_per_million_tokens"):
            price = getattr(self, name)
            require(price is None or price >= 0, f"budget.{name}={price} must be 0 or above")
        priced = self.dollars is None or self.price_per_hour is not None
        require(priced, "budget.dollars needs budget.price_per_hour, the dollars for an hour of this machine")
        require(self.on_oom in ON_OOM, f"budget.on_oom={self.on_oom}: use one of {', '.join(ON_OOM)}")
        require(self.checkpoints >= 1, f"budget.checkpoints={self.checkpoints} must be at least 1")

    def limits(self) -> dict[str, float]:
        """The limits that are set."""
        values = {name: getattr(self, name) for name in LIMITS}
        return {name: float(value) for name, value in values.items() if value is not None}

    def prices(self) -> Prices:
        """The prices, per hour and per token."""
        million = self.price_per_million_tokens
        return Prices(per_hour=self.price_per_hour, per_remote_token=None if million is None else million / 1e6)

    def share(self, spent: Mapping[str, float | None]) -> tuple[float, str]:
        """The share of the budget that is spent (1 or more: nothing is left), and the limit that is nearest.

        Raises:
            BadInput: a limit on something that turned out not to be measurable.
        """
        shares = []
        for name, limit in self.limits().items():
            value = spent[name]
            if value is None:
                raise BadInput(f"budget.{name}={limit:g}: it cannot be measured in this run; set another limit")
            shares.append((value / limit, name))
        return max(shares)
