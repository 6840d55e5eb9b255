"""base: no improvement at all. The floor of every comparison, and what evaluation costs by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.api import Algorithm, Session
from tasks.api import Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(kw_only=True)
class BaseConfig:
    """Settings of base."""

    name: str = "base"


class Base(Algorithm):
    """Leaves the policy as it is."""

    Config = BaseConfig
    trains_weights = False
    spends_budget = False

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Do nothing."""
