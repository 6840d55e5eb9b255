"""Feedback-conditioned GRPO: what the referee says reaches the update, not only the number. Ours; built from three:

    distill   SDPO, arXiv 2601.20802. The same policy, shown the attempt and what was said of it, reads it again:
                  D_n = log pi(y_n | x, y, f, y_<n) - log pi(y_n | x, y_<n)
                  A_n = (1 - weight) A_GRPO + weight clip(D_n, -clip, clip)
    refine    Critique-GRPO, arXiv 2506.03106; RLTF-SD, arXiv 2602.02482. One unsolved turn of each rollout is tried
              again after its feedback, and the second try y' is learned as if it had come first, in the context x:
                  A'_n = weight (r(y') - mean_g r(y)) s(p_n),  s(p) = 0.1 p / (p + 0.1)^2,  p_n = pi(y'_n | x, y'_<n)
              s is the slope of p / (p + 0.1), which stands where rollouts have the clipped ratio.
    predict   RLTF-FM, arXiv 2602.02482. The policy also learns to say what the referee will say of its action:
                  loss + weight * cross-entropy of f after x, y

f is the turn's `Verdict.feedback`, told as a user's message after the action. It stands in the context of the teacher
and of the second try only, never in a prompt that the student plays or is trained from. `shuffled` is the control:
every turn hears what was said of another one. If that helps as much, the words did not matter.

Departures: the teacher is the policy as it is, without a moving average, and sees no solved attempt of the group;
solved turns are not reread; r is the score of the one turn, compared with the same turn of the group's rollouts; one
turn of a rollout, drawn at random, is refined or predicted. Second tries count as rollouts in the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from algorithms.batch import Demonstration
from algorithms.grpo import GRPO, GRPOConfig
from policies.api import Sampling
from policies.branches import Branch, score_branches
from tasks.errors import require

if TYPE_CHECKING:
    from algorithms.batch import RolloutBatch

MODES = ("distill", "refine", "predict")
SHAPE = 0.1
"""The constant of s(p)."""


@dataclass(kw_only=True)
class FeedbackGRPOConfig(GRPOConfig):
    """Settings of feedback_grpo."""

    name: str = "feedback_grpo"
    mode: str = "distill"
    """How feedback is used: distill, refine or predict."""
    weight: float = 0.1
    """How much it counts beside GRPO's advantage: in [0, 1] for distill, 0 or more otherwise."""
    clip: float = 1.0
    """Bound on |D| per token (distill)."""
    shuffled: bool = False
    """The control: every turn gets another turn's feedback."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mode in MODES, f"algo.mode={self.mode}: use one of {', '.join(MODES)}")
        most = 1.0 if self.mode == "distill" else float("inf")
        require(0 <= self.weight <= most, f"algo.weight={self.weight:g} must be from 0 to 1 (above only for refine)")
        require(self.clip > 0, f"algo.clip={self.clip:g} must be above 0")
        rows = self.mode != "distill" and self.beta > 0
        require(not rows, f"algo.beta={self.beta:g}: mode {self.mode} trains on rows without a reference; use beta=0")


@dataclass(frozen=True, slots=True)
class Heard:
    """A turn that was not solved, and what its player was told."""

    rollout: int
    turn: int
    feedback: str


class FeedbackGRPO(GRPO):
    """GRPO that hears what the referee says."""

    Config = FeedbackGRPOConfig
    config: FeedbackGRPOConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts, tokens]."""
        advantages = super().credit(batch)[:, None] * batch.action_mask
        if self.config.mode != "distill":
            return advantages
        weight, clip = self.config.weight, self.config.clip
        return (1 - weight) * advantages + weight * self.hindsight(batch).clamp(-clip, clip)

    def demonstrations(self, batch: RolloutBatch) -> Sequence[Demonstration]:
        """Second tries (refine), or the referee's words (predict)."""
        chosen = self.one_turn_each(self.hear(batch)) if self.config.mode != "distill" else []
        if not chosen:
            return ()
        return self.second_tries(batch, chosen) if self.config.mode == "refine" else self.sayings(batch, chosen)

    def hear(self, batch: RolloutBatch) -> list[Heard]:
        """All unsolved turns with their feedback, or with another turn's."""
        turns = [
            Heard(b, t, turn.verdict.feedback)
            for b, rollout in enumerate(batch.rollouts)
            for t, turn in enumerate(rollout.turns)
            if turn.verdict.feedback and not turn.verdict.solved
        ]
        if self.config.shuffled and len(turns) > 1:
            shift = self.session.rng.randrange(1, len(turns))
            said = [turn.feedback for turn in turns]
            turns = [
                Heard(turn.rollout, turn.turn, words)
                for turn, words in zip(turns, said[shift:] + said[:shift], strict=True)
            ]
        return turns

    def one_turn_each(self, turns: Sequence[Heard]) -> list[Heard]:
        """One turn of each rollout, drawn at random."""
        by_rollout: dict[int, list[Heard]] = {}
        for turn in turns:
            by_rollout.setdefault(turn.rollout, []).append(turn)
        return [self.session.rng.choice(own) for own in by_rollout.values()]

    def telling(self, batch: RolloutBatch, heard: Heard) -> tuple[list[int], bool]:
        """Ids that tell the feedback after the action, and whether the action had ended by itself."""
        rollout = batch.rollouts[heard.rollout]
        ended = rollout.completion_ids[rollout.turns[heard.turn].end - 1] == self.policy.tokenizer.eos_token_id
        return self.policy.chat.after_action({"role": "user", "content": heard.feedback}, ended=ended), ended

    def hindsight(self, batch: RolloutBatch) -> torch.Tensor:
        """D, float32 [rollouts, tokens]: how much likelier each token is to one who knows what was said of it."""
        difference = torch.zeros(batch.action_mask.shape, device=batch.action_mask.device)
        heard: list[list[Heard]] = [[] for _ in batch.rollouts]
        for each in self.hear(batch):
            heard[each.rollout].append(each)
        branches: list[list[Branch]] = [[] for _ in batch.rollouts]
        for each in itertools.chain(*heard):
            rollout = batch.rollouts[each.rollout]
            turn = rollout.turns[each.turn]
            words, _ = self.telling(batch, each)
            action = rollout.completion_ids[turn.start : turn.end]
            branches[each.rollout].append(Branch(len(rollout.prompt_ids) + turn.end, words, action))
        trunks = [rollout.prompt_ids + rollout.completion_ids for rollout in batch.rollouts]
        scores, flops = score_branches(self.policy, trunks, branches, self.config.temperature)
        self.session.charge("update", flops=flops)
        for b, (rollout, own, score) in enumerate(zip(batch.rollouts, heard, scores, strict=True)):
            for each, informed in zip(own, score.branches, strict=True):
                turn, skip = rollout.turns[each.turn], len(rollout.prompt_ids)
                plain = score.trunk[skip + turn.start : skip + turn.end]
                difference[b, turn.start : turn.end] = informed - plain
        return difference

    def second_tries(self, batch: RolloutBatch, turns: Sequence[Heard]) -> list[Demonstration]:
        """Try each turn again after its feedback; what comes of it is to be learned without."""
        before, contexts = [], []
        for each in turns:
            rollout = batch.rollouts[each.rollout]
            turn = rollout.turns[each.turn]
            before.append(rollout.prompt_ids + rollout.completion_ids[: turn.start])
            words, _ = self.telling(batch, each)
            contexts.append(rollout.prompt_ids + rollout.completion_ids[: turn.end] + words)
        tries = self.session.sample(contexts, Sampling(temperature=self.config.temperature))
        branches = [[Branch(len(x) - 1, x[-1:], action)] for x, action in zip(before, tries, strict=True)]
        scores, flops = score_branches(self.policy, before, branches, self.config.temperature)
        self.session.charge("update", flops=flops)
        found = []
        for each, context, action, score in zip(turns, before, tries, scores, strict=True):
            gain = self.score_again(batch, each, self.policy.chat.text(action)) - self.usual(batch, each)
            probability = score.branches[0].exp()
            slope = SHAPE * probability / (probability + SHAPE) ** 2
            found.append(Demonstration(context, action, self.config.weight * gain * slope))
        return found

    def score_again(self, batch: RolloutBatch, heard: Heard, action: str) -> float:
        """The score of another action in the same place of the same game, which is replayed up to there."""
        rollout = batch.rollouts[heard.rollout]
        with self.session.phase("score"):
            episode = self.task.start(rollout.problem)
            for turn in rollout.turns[: heard.turn]:
                episode.step(turn.action)
            return self.task.score(episode.step(action))

    def usual(self, batch: RolloutBatch, heard: Heard) -> float:
        """Mean score of this turn over the first attempts of the group."""
        first = heard.rollout - heard.rollout % batch.group_size
        rewards = batch.turn_rewards[first : first + batch.group_size, heard.turn]
        return float((rewards * batch.weights).sum(1).nanmean())

    def sayings(self, batch: RolloutBatch, turns: Sequence[Heard]) -> list[Demonstration]:
        """The referee's words, to be foreseen after the action."""
        found = []
        for each in turns:
            rollout = batch.rollouts[each.rollout]
            words, ended = self.telling(batch, each)
            start, end = self.policy.chat.content_of({"role": "user", "content": each.feedback}, ended=ended)
            context = rollout.prompt_ids + rollout.completion_ids[: rollout.turns[each.turn].end] + words[:start]
            weights = torch.full((end - start,), self.config.weight, device=batch.rewards.device)
            found.append(Demonstration(context, words[start:end], weights))
        return found
