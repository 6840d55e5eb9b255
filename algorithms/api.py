"""What an algorithm is, and what it is handed: a policy, a task, and a session.

The session is the only way to problems, budget, ledger and evaluation, so every algorithm is measured alike.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tasks.api import Problem, Task

if TYPE_CHECKING:
    from policies.api import Rollout, Sampling
    from policies.language_model import LanguageModel

State = Mapping[str, Any]
"""What an algorithm needs to resume: by name tensors, numbers, texts, and lists and mappings of these."""
Phase = Literal["rollout", "score", "update", "reflect", "evaluate"]


class Session(Protocol):
    """What the benchmark lends to an algorithm for one run."""

    rng: random.Random
    """Seeded source for the algorithm's own choices."""
    seed: int
    """The run's seed."""
    scratch: Path
    """A folder for files that nobody needs after the run."""
    log: list[Any]
    """The algorithm's own log, of what JSON can hold: saved with the state, and read back by `resumable`. Only to be
    appended to. For what grows with the run, which a state that is written whole each time must not."""

    def open(self) -> bool:
        """Whether there is budget left."""
        ...

    def problems(self) -> Iterator[Problem]:
        """Train problems without end: shuffled passes, the same order for every algorithm of a seed."""
        ...

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        """Play train problems with the policy; time, tokens and FLOPs are booked, and the draws are seeded.

        Returns:
            `group_size` rollouts per problem, in the order of `problems`, groups side by side.
        """
        ...

    def play_forks(self, problems: Sequence[Problem], forks: int, sampling: Sampling) -> list[Rollout]:
        """Play train problems as trees, with `forks` actions from every state; booked and seeded like `play`.

        Returns:
            One rollout per way through a tree, those of a problem side by side (see `policies.forks`).
        """
        ...

    def remaining(self) -> Mapping[str, float]:
        """What is left of each limit that the budget sets: some of flops, rollouts, tokens, updates, seconds."""
        ...

    def sample(self, contexts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """Write one action after each context (token ids); booked like rollouts, one each.

        Returns:
            The sampled ids of each action.
        """
        ...

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        """Book the time inside to a phase. Phases nest; inner time is taken from the outer one."""
        ...

    def charge(self, phase: Phase, **amounts: float) -> None:
        """Book what `play` does not: trained_tokens, reflected_tokens, flops."""
        ...

    def step(self, metrics: Mapping[str, float]) -> None:
        """Close one update: write the ledger's row and evaluate where a checkpoint of the budget was passed."""
        ...

    def resumable(self, state: Callable[[], State | None], *, weights: bool = True) -> State | None:
        """Make the run resumable where it was interrupted; to be called once, before anything is played.

        The session keeps the policy, `rng`, the seeds of `play` and all costs; the algorithm hands over the rest.
        Without this call, a run that is interrupted starts from the beginning when it is run again.

        Args:
            state: returns what the algorithm needs to resume; called at the end of each `step`. None: the run cannot
                resume from here, and this update is saved with the next one that can.
            weights: whether the algorithm changes the policy's weights.

        Returns:
            None in a run that starts. In one that resumes, the policy is put back first, and this is what `state`
            returned after the last update that was saved; tuples have become lists. `open` may be false already.
        """
        ...

    def keep(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put a table of the algorithm's own into the record, in place of one that it put there before.

        Args:
            file: `NAME.parquet`.
            rows: one mapping per row, from columns to values; a key that a row lacks is null there.

        Raises:
            ValueError: no such name, or one that the record uses itself.
        """
        ...


class Algorithm(ABC):
    """A way to improve a policy on a task."""

    Config: ClassVar[type[Any]]
    """The dataclass that `conf/algo/NAME.yaml` is checked against."""
    trains_weights: ClassVar[bool] = True
    """Whether it changes the policy's weights, and not its instructions or its temperature alone."""
    spends_budget: ClassVar[bool] = True
    """Whether it plays or trains at all."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def asks_endpoint(cls, config: Any) -> bool:
        """Whether, so configured, it asks a model on another machine: its FLOPs are unknown, its tokens may cost."""
        return False

    def check(self, policy: LanguageModel, task: Task, session: Session) -> None:  # noqa: B027
        """Refuse what cannot work with this policy, task and budget. Called before anything is measured.

        Raises:
            BadInput: what is wrong, and what would be right.
        """

    @abstractmethod
    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Improve the policy in place while `session.open()`, calling `session.step` after each update."""
