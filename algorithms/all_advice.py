"""all_advice: no training and no search; every sentence that the task has for instructions is added at once.

The control for prompt searches: what it gains needs no choice among the sentences. Its one update costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.api import Algorithm, Session
from algorithms.reflector import join
from tasks.api import Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(kw_only=True)
class AllAdviceConfig:
    """conf/algo/all_advice.yaml."""

    name: str = "all_advice"


class AllAdvice(Algorithm):
    """Adds all sentences to the instructions."""

    Config = AllAdviceConfig
    trains_weights = False
    spends_budget = False

    def check(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Refuse a task without advice.

        Raises:
            BadInput: there is nothing to add.
        """
        require(bool(task.sentences), f"algo=all_advice: task {task.name} has no advice")

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Add what the instructions do not hold yet."""
        policy.instructions = advised(policy.instructions, task.sentences)
        session.step({})


def advised(instructions: str, sentences: tuple[str, ...]) -> str:
    """Instructions with those of the sentences that they do not hold."""
    missing = [sentence for sentence in sentences if sentence not in instructions]
    return join({"": instructions, **{sentence: sentence for sentence in missing}})
