"""random_prompt: a random search over instructions. The control for gepa: what it gains needs no reflection.

    1. the instructions play a valset of train problems
    2. a candidate, the instructions with a random subset of the task's sentences (its size drawn uniformly from 1 to
       all), plays the same valset; and so on until the budget is spent
    3. the policy has the instructions of the candidate with the best mean score

As in gepa, the weights stay as they are, a score is the episode's summed reward, the valset is the first of the run's
train problems, and an update of the ledger is one candidate; the first is the policy's own instructions. No candidate
is played twice. Like gepa's, the best score is the luckiest of many: believe the test row only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from algorithms.all_advice import advised
from algorithms.api import Algorithm, Session
from policies.api import Sampling
from tasks.api import Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

CANDIDATES = "candidates.parquet"
DRAWS = 1000
"""Draws in a row that found no new candidate, after which there is none left."""


@dataclass(kw_only=True)
class RandomPromptConfig:
    """conf/algo/random_prompt.yaml."""

    name: str = "random_prompt"
    valset_size: int = 24
    """Train problems that every candidate plays."""
    temperature: float = 1.0
    """Of the rollouts."""

    def __post_init__(self) -> None:
        require(self.valset_size >= 1, f"algo.valset_size={self.valset_size} must be at least 1")
        require(self.temperature > 0, f"algo.temperature={self.temperature:g} must be above 0")


class RandomPrompt(Algorithm):
    """Random search over sentences of the instructions."""

    Config = RandomPromptConfig
    config: RandomPromptConfig
    trains_weights = False

    def check(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Refuse a task without sentences to choose from.

        Raises:
            BadInput: there is nothing to search.
        """
        require(bool(task.sentences), f"algo=random_prompt: task {task.name} has no advice")

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Play candidates while there is budget, and leave the best one's instructions in the policy."""
        size, seen = self.config.valset_size, len(task.problems("train"))
        require(size <= seen, f"algo.valset_size={size} needs {size} train problems; task {task.name} has {seen}")
        valset = list(islice(session.problems(), size))
        seed = policy.instructions
        rows: list[dict[str, Any]] = []
        if session.resumable(lambda: {"seed": seed}, weights=False) is not None:
            rows, seed = list(session.log), session.log[0]["text"]
        while session.open() and (text := self._next(seed, task, session, {row["text"] for row in rows})):
            policy.instructions = text
            rollouts = session.play(valset, 1, Sampling(temperature=self.config.temperature))
            score = sum(task.score(verdict) for each in rollouts for verdict in each.verdicts) / size
            rows.append({"candidate": len(rows), "text": text, "score": score})
            session.log.append(rows[-1])
            best = max(rows, key=lambda row: row["score"])
            policy.instructions = best["text"]
            session.keep(CANDIDATES, [{**row, "best": row is best} for row in rows])
            session.step({"reward": best["score"], "candidates": float(len(rows))})

    def _next(self, seed: str, task: Task, session: Session, played: set[str]) -> str | None:
        """Instructions that were not played yet; the policy's own first, and None where no others are found."""
        if not played:
            return seed
        for _ in range(DRAWS):
            count = session.rng.randint(1, len(task.sentences))
            chosen = set(session.rng.sample(task.sentences, count))
            text = advised(seed, tuple(sentence for sentence in task.sentences if sentence in chosen))
            if text not in played:
                return text
        return None
