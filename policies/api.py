"""What playing takes and leaves behind: sampling settings, rollouts as tokens, costs.

Tokens are never re-encoded: the ids that were sampled go into the rollout as they are, what the environment says is
appended as its own ids, and `Rollout.mask` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.api import Message, Problem, Verdict

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How actions are drawn."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Nucleus: the smallest set of tokens with this much probability; 1 is off."""
    batch_size: int = 256
    """Episodes played side by side."""
    hidden: bool = False
    """Keep the last hidden state before each action, in `Rollout.hidden`."""
    logprobs: bool = False
    """Keep the log-probability of every sampled token, in `Rollout.logprobs`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One action of a rollout."""

    action: str
    """The text that the environment judged: the sampled tokens decoded, without the end token."""
    verdict: Verdict
    start: int
    """Where the action's tokens begin in `Rollout.completion_ids`."""
    end: int
    """Where they end (exclusive); the end token, if it was sampled, is inside."""


@dataclass(kw_only=True, slots=True)
class Rollout:
    """One finished episode as tokens."""

    problem: Problem
    group: int
    """Rollouts of one problem sampled together share this number."""
    prompt_ids: list[int]
    completion_ids: list[int] = field(default_factory=list)
    """Everything after the prompt: actions and what the environment said between them."""
    mask: list[int] = field(default_factory=list)
    """1 where the policy wrote the token, 0 where the environment did; as long as completion_ids."""
    turns: list[Turn] = field(default_factory=list)
    knowledge: list[Any] = field(default_factory=list)
    """`Episode.knowledge()` before each turn."""
    hidden: list[torch.Tensor] = field(default_factory=list)
    """Where `Sampling.hidden` asked for it: the state from which each turn's first token was drawn, float32 [width]."""
    logprobs: list[float] = field(default_factory=list)
    """Where `Sampling.logprobs` asked for it: of each sampled token, in the order of the mask's ones."""
    messages: list[Message] = field(default_factory=list)
    """The chat as the environment tells it, without the system message."""
    forks: list[int] = field(default_factory=list)
    """Of a game that was played as a tree: which of its state's forks each turn's action is. Otherwise empty."""

    @property
    def solved(self) -> bool:
        """Whether the last action solved the problem."""
        return bool(self.turns) and self.turns[-1].verdict.solved

    def node(self, turn: int) -> tuple[int, ...]:
        """The name of a turn's action in its trees: rollouts that share an action, and all before it, share its name.

        `node(-1)` is the start of the game. What a node's name is without its last number is its parent's.
        """
        return (self.group, *self.forks[: turn + 1])

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts, turn by turn."""
        return [turn.verdict for turn in self.turns]


@dataclass(slots=True)
class PlayCost:
    """What playing took."""

    rollouts: int = 0
    prompt_tokens: int = 0
    """Tokens read but not written by the policy: prompts, and what the environment said."""
    generated_tokens: int = 0
    """Tokens sampled, those cut off or after an end token not included."""
    flops: float = 0.0
    """Model FLOPs by `policies.flops`."""
    score_s: float = 0.0
    """Seconds that the environments took."""

    def __add__(self, other: PlayCost) -> PlayCost:
        return PlayCost(
            self.rollouts + other.rollouts,
            self.prompt_tokens + other.prompt_tokens,
            self.generated_tokens + other.generated_tokens,
            self.flops + other.flops,
            self.score_s + other.score_s,
        )
