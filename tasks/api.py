"""What a task is: problems, and an environment that plays them.

A *task* holds *problems*; `Task.start(problem)` opens an *episode*, which shows chat messages, takes one action (text
that a policy wrote) at a time and answers each with a *verdict*. Nothing here knows about tokens or models.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypedDict

from tasks.errors import require

Mark = Literal["right", "near", "wrong", "none"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Message(TypedDict):
    """One chat message, in the form that every chat template reads."""

    role: Literal["system", "user", "assistant"]
    content: str


class FeedbackLevel(StrEnum):
    """How much `Verdict.feedback` tells: each level what the one before it does, and more."""

    none = "none"
    outcome = "outcome"
    """Solved or not."""
    diagnostic = "diagnostic"
    """What is wrong; nothing that the player could not have worked out."""
    hint = "hint"
    """Also one thing that the prompt does not say."""
    solution = "solution"
    """Also the answer."""


class RewardMode(StrEnum):
    """How a task weights its components."""

    outcome = "outcome"
    """Only the component that says whether the problem was solved."""
    shaped = "shaped"
    """The task's own weights."""
    equal = "equal"
    """Every component alike, each by its range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One named part of the reward vector."""

    name: str
    """Key in `Verdict.rewards`."""
    weight: float
    """What plain GRPO multiplies it by before summing."""
    low: float
    """Least reward one verdict can give."""
    high: float
    """Greatest reward one verdict can give."""
    about: str
    """What it judges, in a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the environment says of one action."""

    rewards: Mapping[str, float]
    """The reward vector, unsummed: one number per component, each in the component's range."""
    feedback: str
    """What a referee would tell the player (lines). Never part of `Episode.messages`: it is training-time text."""
    spans: Mapping[str, tuple[int, int]]
    """Per component, the characters [start, end) of the action that it judges. No entry: the whole action."""
    solved: bool
    """Whether this action solved the problem."""
    shown: Sequence[tuple[str, Mark]] = ()
    """How to draw the action for a reader: pieces of text, each with a mark. Empty: as plain text."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Measured beside the rewards and never rewarded, in [0, 1] (say, strict and flexible extraction)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One item of a task."""

    id: str
    """Stable over runs, machines and versions of this code; unique within a task."""
    split: Split
    """The one split it belongs to."""


class Episode(ABC):
    """One problem being played."""

    @property
    @abstractmethod
    def messages(self) -> list[Message]:
        """The chat so far *without* the system message (the instructions belong to the policy)."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the episode is over; `step` may then not be called."""

    @abstractmethod
    def step(self, action: str) -> Verdict:
        """Judge one action and move on. Any text is a legal action: nonsense costs the turn.

        Raises:
            RuntimeError: the episode is done.
        """

    @abstractmethod
    def knowledge(self) -> Hashable:
        """What is known so far about the answer; equal values mean the same state of play."""


class Task(ABC):
    """A set of problems with the environment that plays them."""

    Config: ClassVar[type[Any]]
    """The dataclass that `conf/task/NAME.yaml` is checked against."""
    name: ClassVar[str]
    version: ClassVar[str]
    """Raised whenever a score, a split or a prompt changes: records of two versions never mix."""
    components: tuple[Component, ...]
    instructions: str
    """The seed instructions: what every policy's system prompt starts as."""
    advice: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Sentences that may be added to the instructions, by the fault that they speak to: words that `feedback` uses of
    that fault, or the name of a component whose reward falls short. Whether one helps is for a search to find."""
    max_turns: int
    max_action_tokens: int
    """What one action may use, in tokens of the policy; longer actions are cut."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences of `advice`, each once."""
        return sentences(self.advice)

    @abstractmethod
    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of a split, in an order that never changes."""

    @abstractmethod
    def start(self, problem: Problem) -> Episode:
        """Open an episode."""

    @abstractmethod
    def oracle(self, problem: Problem) -> list[str]:
        """Actions that solve the problem, turn by turn."""

    def demonstration(self, problem: Problem, rng: random.Random) -> list[Message]:
        """A chat in which the problem is played well, to be imitated before any algorithm begins (`warmstart=sft`).

        Unless a task knows better it is the oracle's.

        Args:
            problem: of train; asking for others is asking for the answers.
            rng: source of all choices, where there is more than one good way to play.

        Returns:
            Messages without the system message, the last one an action.
        """
        episode = self.start(problem)
        for action in self.oracle(problem):
            episode.step(action)
        return episode.messages

    def fingerprint(self) -> str:
        """Hash over everything that decides what is asked and how it is scored; part of every record."""
        digest = hashlib.sha256(f"{self.name} {self.version}".encode())
        for component in self.components:
            digest.update(repr(component).encode())
        for split in SPLITS:
            for problem in self.problems(split):
                digest.update(repr(problem).encode())
        digest.update(f"{self.instructions}\0{self.max_turns}\0{self.max_action_tokens}".encode())
        return digest.hexdigest()[:16]

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Numbers for one finished episode: `solved`, and the mean over turns of each verdict's metrics."""
        numbers = {"solved": float(any(verdict.solved for verdict in verdicts))}
        for name in verdicts[0].metrics if verdicts else ():
            numbers[name] = sum(verdict.metrics[name] for verdict in verdicts) / len(verdicts)
        return numbers

    def score(self, verdict: Verdict) -> float:
        """The weighted sum of one verdict's rewards: what plain GRPO sees."""
        return sum(component.weight * verdict.rewards[component.name] for component in self.components)


def sentences(advice: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """All sentences of a task's advice, each once."""
    return tuple(dict.fromkeys(sentence for several in advice.values() for sentence in several))


def weighted(components: tuple[Component, ...], mode: RewardMode, outcome: str) -> tuple[Component, ...]:
    """The components with the weights of a reward mode.

    Args:
        components: with the task's own weights.
        mode: see `RewardMode`.
        outcome: name of the component that says whether the problem was solved.
    """
    if mode == RewardMode.shaped:
        return components
    if mode == RewardMode.outcome:
        return tuple(replace(each, weight=float(each.name == outcome)) for each in components)
    return tuple(replace(each, weight=1 / (each.high - each.low) / len(components)) for each in components)


def split_of(key: str, *, val: float, test: float) -> Split:
    """Assign a key to a split by a stable hash.

    Args:
        key: what identifies the problem, whatever list it stands in.
        val: share of the keys, in [0, 1], that goes to val.
        test: share that goes to test; the rest is train.
    """
    point = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "test" if point < test else "val" if point < test + val else "train"


def check_sizes(max_action_tokens: int, val: float, test: float) -> None:
    """Refuse sizes that every task's configuration shares.

    Raises:
        BadInput: no tokens for an action, or shares that leave no train problems.
    """
    require(max_action_tokens >= 1, f"task.max_action_tokens={max_action_tokens} must be at least 1")
    shares = val >= 0 and test >= 0 and val + test < 1
    require(shares, f"task.val={val:g} and task.test={test:g} must be shares that leave some for train")
