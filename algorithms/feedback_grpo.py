"""Feedback-conditioned GRPO: a verdict's text reaches the update, not only its numbers. Ours; built from three:

    distill   SDPO, arXiv 2601.20802. The same policy with feedback f on the attempt in its context, the teacher, scores
              the student's own tokens:
                  D_n = log pi(y_n | x, f, y_<n) - log pi(y_n | x, y_<n)
                  A_n = (1 - weight) A_GRPO + weight D'_n
              D' is D in units of A_GRPO: divided by its rms, clipped to +-clip, and scaled to the rms of A_GRPO, or to
              1 where no group of the update has a signal. Both rms are over all action tokens of the update.
    refine    Critique-GRPO, arXiv 2506.03106. One unsolved turn of each rollout is tried again after its feedback, and
              the second try y' is learned as if it had come first, in the context x:
                  A'_n = (r(y') - mean_g r(y)) s(p_n),  s(p) = 0.1 p / (p + 0.1)^2,  p_n = pi(y'_n | x, y'_<n)
              s is the slope of that paper's p / (p + 0.1), which stands where rollouts have the clipped ratio, and the
              only shrinkage: the coefficient of RLTF-SD (arXiv 2602.02482) is left out, and `weight` has no part in it.
    predict   RLTF-FM, arXiv 2602.02482. The policy also learns to predict the feedback on its action:
                  loss + weight * cross-entropy of f after x, y

f is the turn's `Verdict.feedback`. In distill the teacher has it at the end of the last user message before the action
(`teacher=task`, SDPO's reprompt), after what a rollout of the group that solved the problem did in the same turn, if
there is one (`siblings`); with `teacher=attempt` in a message after the action, as the second try of refine and the
prediction have it. It is never in a prompt that the student plays or is trained from.

`shuffled` is the control: every turn has feedback, and a sibling's action, of another problem. If that helps as much,
the text did not matter. The ledger has `feedback_gap`, the mean of -D over the tokens of the turns with a teacher: a
sampled estimate of KL(student || teacher) in nats per token; and `refine_gain`, the mean of r(y') - mean_g r(y).

Departures: the teacher is the live policy, without a moving average; D is of the sampled token alone (SDPO's default
distils the whole distribution); solved turns have no teacher; r is the score of the one turn, compared with the same
turn of the group's rollouts; one turn of a rollout, drawn at random, is refined or predicted. Second tries count as
rollouts in the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from algorithms.batch import RolloutBatch
from algorithms.feedback import (
    FeedbackTurn,
    action_ids,
    attempt_context,
    deranged,
    feedback_turns,
    student_logprobs,
    task_context,
)
from algorithms.feedback_rows import predictions, second_tries
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.micro_batches import Row
from policies.api import Sampling
from policies.branches import Branch, branch_of, score_branches
from tasks.errors import require

MODES = ("distill", "refine", "predict")
TEACHERS = {"task": task_context, "attempt": attempt_context}


@dataclass(kw_only=True)
class FeedbackGRPOConfig(GRPOConfig):
    """Settings of feedback_grpo."""

    name: str = "feedback_grpo"
    mode: str = "distill"
    """How feedback is used: distill, refine or predict."""
    weight: float = 0.5
    """Of the teacher beside GRPO's advantage, from 0 to 1 (distill), or of the cross-entropy (predict)."""
    clip: float = 3.0
    """Bound on one token's D, in units of its rms (distill)."""
    teacher: str = "task"
    """What the teacher has before the action: feedback on the task alone, or after the attempt (distill)."""
    siblings: bool = True
    """Whether the teacher has the action of a rollout of the group that solved the problem (distill, teacher task)."""
    shuffled: bool = False
    """The control: feedback on another problem."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mode in MODES, f"algo.mode={self.mode}: use one of {', '.join(MODES)}")
        require(self.teacher in TEACHERS, f"algo.teacher={self.teacher}: use one of {', '.join(TEACHERS)}")
        most = 1.0 if self.mode == "distill" else float("inf")
        require(0 <= self.weight <= most, f"algo.weight={self.weight:g} must be from 0 to 1 (above only for predict)")
        require(self.clip > 0, f"algo.clip={self.clip:g} must be above 0")
        rows = self.mode != "distill" and self.beta > 0
        require(not rows, f"algo.beta={self.beta:g}: mode {self.mode} trains on rows without a reference; use beta=0")
        alone = self.shuffled and self.problems_per_update < 2
        require(
            not alone, "algo.shuffled takes feedback from other problems: set algo.problems_per_update to 2 or more"
        )


class FeedbackGRPO(GRPO):
    """GRPO with a teacher, a second try or a prediction from feedback."""

    Config = FeedbackGRPOConfig
    config: FeedbackGRPOConfig
    measured: dict[str, float]
    """Of the update: feedback_gap or refine_gain."""

    def sampling(self) -> Sampling:
        """With the student's log-probabilities, for `distill`."""
        return replace(super().sampling(), logprobs=self.config.mode == "distill")

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts, tokens]."""
        self.measured = {}
        advantages = super().credit(batch)[:, None] * batch.action_mask
        if self.config.mode != "distill":
            return advantages
        difference = self.distilled(batch)
        unit = rms(advantages, batch.action_mask) or 1.0
        weight = self.config.weight
        return (1 - weight) * advantages + weight * scaled(difference, batch.action_mask, self.config.clip, unit)

    def demonstrations(self, batch: RolloutBatch) -> Sequence[Row]:
        """Second tries (refine), or the feedback as a target (predict)."""
        chosen = self.one_turn_each(self.turns(batch)) if self.config.mode != "distill" else []
        if not chosen:
            return ()
        if self.config.mode == "predict":
            return predictions(self, batch, chosen)
        tries = second_tries(self, batch, chosen)
        self.measured["refine_gain"] = sum(gain for _, gain in tries) / len(tries)
        return [row for row, _ in tries]

    def facts(self, batch: RolloutBatch) -> dict[str, float]:
        """Also what feedback changed."""
        return super().facts(batch) | self.measured

    def turns(self, batch: RolloutBatch) -> list[FeedbackTurn]:
        """Unsolved turns with feedback: their own, or in the control another problem's."""
        siblings = self.config.siblings and self.config.mode == "distill" and self.config.teacher == "task"
        turns = feedback_turns(batch, siblings=siblings)
        return deranged(turns, batch, self.session.rng) if self.config.shuffled else turns

    def one_turn_each(self, turns: Sequence[FeedbackTurn]) -> list[FeedbackTurn]:
        """One turn of each rollout, drawn at random."""
        by_rollout: dict[int, list[FeedbackTurn]] = {}
        for turn in turns:
            by_rollout.setdefault(turn.rollout, []).append(turn)
        return [self.session.rng.choice(own) for own in by_rollout.values()]

    def distilled(self, batch: RolloutBatch) -> torch.Tensor:
        """D, float32 [rollouts, tokens]; 0 on tokens without a teacher."""
        context = TEACHERS[self.config.teacher]
        trunks = [rollout.prompt_ids + rollout.completion_ids for rollout in batch.rollouts]
        branches: list[list[Branch]] = [[] for _ in trunks]
        turns = self.turns(batch)
        for turn in turns:
            action = action_ids(batch, turn)
            branches[turn.rollout].append(branch_of(trunks[turn.rollout], context(self.policy, batch, turn), action))
        scores, flops = score_branches(self.policy, trunks, branches, self.config.temperature * self.policy.temperature)
        self.session.charge("update", flops=flops)
        difference = torch.zeros(batch.action_mask.shape, device=batch.rewards.device)
        with_teacher = torch.zeros_like(batch.action_mask)
        for turn, teacher in zip(turns, itertools.chain(*scores), strict=True):
            place = batch.rollouts[turn.rollout].turns[turn.turn]
            student = torch.tensor(student_logprobs(batch, turn), device=teacher.device)
            difference[turn.rollout, place.start : place.end] = teacher - student
            with_teacher[turn.rollout, place.start : place.end] = True
        if turns:
            self.measured["feedback_gap"] = -float(difference[with_teacher].mean())
        return difference


def rms(values: torch.Tensor, mask: torch.Tensor) -> float:
    """Root mean square over the tokens of a mask."""
    return float(((values.square() * mask).sum() / mask.sum().clamp(min=1)).sqrt())


def scaled(values: torch.Tensor, mask: torch.Tensor, clip: float, unit: float) -> torch.Tensor:
    """Values clipped to `clip` times their rms, then brought to the rms `unit`; zeros stay zeros."""
    size = rms(values, mask)
    if size == 0:
        return values
    clipped = (values / size).clamp(-clip, clip)
    return clipped * (unit / rms(clipped, mask))
