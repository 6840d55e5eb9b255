"""temper: no training, only another sampling temperature. The control for sharpening: what it gains needs no gradient.

    T* = argmax over a grid of T of the share of train problems that the policy solves at T

The policy then multiplies the temperature of every sampling by T* (`LanguageModel.temperature`, saved with it), so its
evaluation at temperature 1 is one at T*.

Departure from how evaluations choose T*: an algorithm never sees val, so it is chosen on train problems. An update of
the ledger plays `problems_per_update` of them once at each temperature; the run ends with `problems` or the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from algorithms.api import Algorithm, Session
from policies.api import Sampling
from tasks.api import Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(kw_only=True)
class TemperConfig:
    """conf/algo/temper.yaml."""

    name: str = "temper"
    temperatures: list[float] = field(default_factory=lambda: [1.0, 0.7, 0.5, 0.3, 0.0])
    """What is tried; the first of equals wins."""
    problems: int = 256
    """Train problems, each played once at every temperature."""
    problems_per_update: int = 32
    """How many of them in one update of the ledger."""

    def __post_init__(self) -> None:
        sound = self.temperatures and all(0 <= each < math.inf for each in self.temperatures)
        require(bool(sound), f"algo.temperatures={self.temperatures}: give one or more numbers, 0 or above")
        for name in ("problems", "problems_per_update"):
            require(getattr(self, name) >= 1, f"algo.{name}={getattr(self, name)} must be at least 1")


class Temper(Algorithm):
    """Chooses the policy's temperature."""

    Config = TemperConfig
    config: TemperConfig
    trains_weights = False

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Play at every temperature while there is budget, and keep the one that solved most."""
        grid = self.config.temperatures
        solved, played = [0] * len(grid), 0

        def best() -> float:
            return grid[solved.index(max(solved))]

        saved = session.resumable(lambda: {"solved": solved, "played": played}, weights=False)
        if saved is not None:
            solved, played = list(saved["solved"]), saved["played"]
            policy.temperature = best()
        problems = islice(session.problems(), played, self.config.problems)
        while session.open() and (batch := list(islice(problems, self.config.problems_per_update))):
            policy.temperature = 1.0
            for place, temperature in enumerate(grid):
                rollouts = session.play(batch, 1, Sampling(temperature=temperature))
                solved[place] += sum(rollout.solved for rollout in rollouts)
            played += len(batch)
            policy.temperature = best()
            session.step({"solved": max(solved) / played, "temperature": policy.temperature})
