"""Feedback-conditioned GRPO: what the environment says reaches the update, not only the number. Ours; built from three:

    distill   SDPO, arXiv 2601.20802. The same policy, told what was said of the attempt, reads the attempt again:
                  D_n = log pi(y_n | x, f, y_<n) - log pi(y_n | x, y_<n)
                  A_n = (1 - weight) A_GRPO + weight c clip(D_n / rms(D), -clip, clip)
              with c the rms of GRPO's advantages over the groups that have any, so that `weight` means what it says.
    refine    Critique-GRPO, arXiv 2506.03106; RLTF-SD, arXiv 2602.02482. One unsolved turn of each rollout is tried
              again after its feedback, and the second try y' is learned as if it had come first, in the context x:
                  A'_n = weight (r(y') - mean_g r(y)) s(p_n),    p_n = pi(y'_n | x, y'_<n),    s(p) = 4 g p / (p + g)^2
              with g = 0.1: the slope of p / (p + g), which stands where rollouts have the clipped ratio, its top at 1.
    predict   RLTF-FM, arXiv 2602.02482. The policy also learns to write the feedback on its action:
                  loss + weight * cross-entropy of f after x, y

f is the turn's `Verdict.feedback`. The teacher of `distill` reads it before the action, at the end of what the
environment said (`teacher=task`), or after an attempt that stays in its context (`teacher=attempt`); with `siblings`,
behind it, an action of the group that solved the problem from the same state. Feedback never stands in a prompt that
the policy plays or is trained from. `shuffled` is the control: every turn gets feedback on a turn of another problem.
If that helps as much, what the feedback says did not matter.

Departures: the teacher is the policy as it is, without a moving average; solved turns get no teacher; r is the score of
the one turn, compared with the same turn of the group's rollouts; one turn of a rollout, drawn at random, is refined or
predicted. Second tries count as rollouts in the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from algorithms.batch import Demonstration
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import NO_SIGNAL
from policies.api import Sampling
from policies.branches import Branch, score_branches
from tasks.errors import require

if TYPE_CHECKING:
    from algorithms.batch import RolloutBatch
    from policies.api import Rollout
    from tasks.api import Message

MODES = ("distill", "refine", "predict")
TEACHERS = ("task", "attempt")
SHAPE = 0.1
"""The constant g of s(p)."""
SOLVED = "solved:"
"""What stands before a solved attempt."""


@dataclass(kw_only=True)
class FeedbackGRPOConfig(GRPOConfig):
    """conf/algo/feedback_grpo.yaml."""

    name: str = "feedback_grpo"
    mode: str = "distill"
    """How feedback is used: distill, refine or predict."""
    weight: float = 0.5
    """How much it counts beside GRPO's advantage: in [0, 1] for distill, 0 or more otherwise."""
    clip: float = 3.0
    """Bound on |D| per token, in units of its rms (distill)."""
    teacher: str = "task"
    """Where the teacher reads feedback: before the action (task), or after an attempt in its context (attempt)."""
    siblings: bool = True
    """Whether the teacher also sees a solved attempt from the same state, where the group has one (teacher task)."""
    shuffled: bool = False
    """The control: every turn gets feedback on a turn of another problem."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mode in MODES, f"algo.mode={self.mode}: use one of {', '.join(MODES)}")
        require(self.teacher in TEACHERS, f"algo.teacher={self.teacher}: use one of {', '.join(TEACHERS)}")
        most = 1.0 if self.mode == "distill" else float("inf")
        require(0 <= self.weight <= most, f"algo.weight={self.weight:g} must be from 0 to 1 (above only for refine)")
        require(self.clip > 0, f"algo.clip={self.clip:g} must be above 0")
        rows = self.mode != "distill" and self.beta > 0
        require(not rows, f"algo.beta={self.beta:g}: mode {self.mode} trains on rows without a reference; use beta=0")
        alone = self.shuffled and self.problems_per_update < 2
        require(not alone, "algo.shuffled=true takes feedback from other problems: algo.problems_per_update >= 2")


@dataclass(frozen=True, slots=True)
class FeedbackTurn:
    """A turn that was not solved, and the feedback that it gets."""

    rollout: int
    turn: int
    feedback: str


class FeedbackGRPO(GRPO):
    """GRPO with a use for textual feedback."""

    Config = FeedbackGRPOConfig
    config: FeedbackGRPOConfig
    gap: float | None = None
    """Mean of -D over the tokens of the last update: how far the plain policy is from the informed one, in nats."""

    def sampling(self) -> Sampling:
        """With log-probabilities, which `distill` compares with the teacher's."""
        return replace(super().sampling(), logprobs=self.config.mode == "distill")

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts, tokens]."""
        advantages = super().credit(batch)[:, None] * batch.action_mask
        if self.config.mode != "distill":
            return advantages
        difference, informed = self.hindsight(batch)
        count = informed.sum().clamp(min=1)
        self.gap = float(-difference.sum() / count) if informed.any() else None
        unit = difference / (difference.square().sum() / count).sqrt().clamp(min=NO_SIGNAL)
        clip, weight = self.config.clip, self.config.weight
        return (1 - weight) * advantages + weight * usual_size(advantages, batch) * unit.clamp(-clip, clip)

    def facts(self, batch: RolloutBatch) -> dict[str, float]:
        """With the gap between the plain and the informed policy."""
        return super().facts(batch) | ({} if self.gap is None else {"feedback_gap": self.gap})

    def demonstrations(self, batch: RolloutBatch) -> Sequence[Demonstration]:
        """Second tries (refine), or the feedback (predict)."""
        chosen = self.one_turn_each(self.feedback_turns(batch)) if self.config.mode != "distill" else []
        if not chosen:
            return ()
        return (
            self.second_tries(batch, chosen) if self.config.mode == "refine" else self.feedback_targets(batch, chosen)
        )

    def feedback_turns(self, batch: RolloutBatch) -> list[FeedbackTurn]:
        """All unsolved turns with their feedback, or with that on a turn of another problem."""
        turns = [
            FeedbackTurn(b, t, turn.verdict.feedback)
            for b, rollout in enumerate(batch.rollouts)
            for t, turn in enumerate(rollout.turns)
            if turn.verdict.feedback and not turn.verdict.solved
        ]
        return self.deranged(batch, turns) if self.config.shuffled else turns

    def deranged(self, batch: RolloutBatch, turns: Sequence[FeedbackTurn]) -> list[FeedbackTurn]:
        """Each turn with the feedback of a turn of another problem, drawn at random; without one it gets none."""
        by_problem: dict[str, list[str]] = {}
        for each in turns:
            by_problem.setdefault(batch.rollouts[each.rollout].problem.id, []).append(each.feedback)
        found = []
        for each in turns:
            own = batch.rollouts[each.rollout].problem.id
            others = [feedback for problem, said in by_problem.items() if problem != own for feedback in said]
            if others:
                found.append(replace(each, feedback=self.session.rng.choice(others)))
        return found

    def one_turn_each(self, turns: Sequence[FeedbackTurn]) -> list[FeedbackTurn]:
        """One turn of each rollout, drawn at random."""
        by_rollout: dict[int, list[FeedbackTurn]] = {}
        for turn in turns:
            by_rollout.setdefault(turn.rollout, []).append(turn)
        return [self.session.rng.choice(own) for own in by_rollout.values()]

    def feedback_ids(self, batch: RolloutBatch, each: FeedbackTurn) -> tuple[list[int], bool]:
        """Ids of the feedback as a message after the action, and whether the action had ended by itself."""
        ended = self.ended(batch.rollouts[each.rollout], each.turn)
        return self.policy.chat.after_action({"role": "user", "content": each.feedback}, ended=ended), ended

    def ended(self, rollout: Rollout, turn: int) -> bool:
        """Whether the policy ended its action in a turn by itself."""
        return rollout.completion_ids[rollout.turns[turn].end - 1] in self.policy.chat.ends

    def informed(self, batch: RolloutBatch, each: FeedbackTurn) -> Branch:
        """The teacher's context of a turn, and the action that it reads."""
        rollout = batch.rollouts[each.rollout]
        turn, skip = rollout.turns[each.turn], len(rollout.prompt_ids)
        action = rollout.completion_ids[turn.start : turn.end]
        if self.config.teacher == "attempt":
            return Branch(skip + turn.end, self.feedback_ids(batch, each)[0], action)
        actions = [place for place, message in enumerate(rollout.messages) if message["role"] == "assistant"]
        place = actions[each.turn - len(rollout.turns)]
        text = f"{rollout.messages[place - 1]['content']}\n{each.feedback}{self.sibling(batch, each)}"
        chat = self.policy.chat
        if each.turn:
            ended = self.ended(rollout, each.turn - 1)
            said = chat.after_action({"role": "user", "content": text}, ended=ended)
            return Branch(skip + rollout.turns[each.turn - 1].end, said, action)
        last: Message = {"role": rollout.messages[place - 1]["role"], "content": text}
        messages = [*rollout.messages[: place - 1], last]
        return Branch(0, chat.prompt(self.policy.instructions, messages), action)

    def sibling(self, batch: RolloutBatch, each: FeedbackTurn) -> str:
        """A solved attempt of the group from the same state, as the teacher is shown it; '' where there is none."""
        start = each.rollout - each.rollout % batch.group_size
        state = batch.rollouts[each.rollout].knowledge[each.turn]
        group = batch.rollouts[start : start + batch.group_size] if self.config.siblings else ()
        for other in group:
            if other.solved and other.knowledge[-1] == state:
                return f"\n{SOLVED}\n{other.turns[-1].action}"
        return ""

    def hindsight(self, batch: RolloutBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """D, float32 [rollouts, tokens]: how much likelier each token is to the informed policy; and where it is known,
        bool of the same shape."""
        difference = torch.zeros(batch.action_mask.shape, device=batch.action_mask.device)
        known = torch.zeros_like(batch.action_mask)
        turns: list[list[FeedbackTurn]] = [[] for _ in batch.rollouts]
        for each in self.feedback_turns(batch):
            turns[each.rollout].append(each)
        branches = [[self.informed(batch, each) for each in own] for own in turns]
        trunks = [rollout.prompt_ids + rollout.completion_ids for rollout in batch.rollouts]
        scores, flops = score_branches(self.policy, trunks, branches, self.config.temperature)
        self.session.charge("update", flops=flops)
        for b, (rollout, own, scored) in enumerate(zip(batch.rollouts, turns, scores, strict=True)):
            plain = difference.new_zeros(len(rollout.mask))
            plain[torch.tensor(rollout.mask, dtype=torch.bool)] = difference.new_tensor(rollout.logprobs)
            for each, informed in zip(own, scored, strict=True):
                place = slice(rollout.turns[each.turn].start, rollout.turns[each.turn].end)
                difference[b, place] = informed - plain[place]
                known[b, place] = True
        return difference, known

    def second_tries(self, batch: RolloutBatch, turns: Sequence[FeedbackTurn]) -> list[Demonstration]:
        """Try each turn again after its feedback; what comes of it is to be learned without."""
        before, contexts = [], []
        for each in turns:
            rollout = batch.rollouts[each.rollout]
            turn = rollout.turns[each.turn]
            before.append(rollout.prompt_ids + rollout.completion_ids[: turn.start])
            said, _ = self.feedback_ids(batch, each)
            contexts.append(rollout.prompt_ids + rollout.completion_ids[: turn.end] + said)
        tries = self.session.sample(contexts, Sampling(temperature=self.config.temperature))
        branches = [[Branch(len(x) - 1, x[-1:], action)] for x, action in zip(before, tries, strict=True)]
        scores, flops = score_branches(self.policy, before, branches, self.config.temperature)
        self.session.charge("update", flops=flops)
        found = []
        for each, context, action, (logprobs,) in zip(turns, before, tries, scores, strict=True):
            gain = self.score_again(batch, each, self.policy.chat.text(action)) - self.usual(batch, each)
            probability = logprobs.exp()
            slope = 4 * SHAPE * probability / (probability + SHAPE) ** 2
            found.append(Demonstration(context, action, self.config.weight * gain * slope))
        return found

    def score_again(self, batch: RolloutBatch, each: FeedbackTurn, action: str) -> float:
        """The score of another action in the same place of the same game, which is replayed up to there."""
        rollout = batch.rollouts[each.rollout]
        with self.session.phase("score"):
            episode = self.task.start(rollout.problem)
            for turn in rollout.turns[: each.turn]:
                episode.step(turn.action)
            return self.task.score(episode.step(action))

    def usual(self, batch: RolloutBatch, each: FeedbackTurn) -> float:
        """Mean score of this turn over the first attempts of the group."""
        first = each.rollout - each.rollout % batch.group_size
        rewards = batch.turn_rewards[first : first + batch.group_size, each.turn]
        return float((rewards * batch.weights).sum(1).nanmean())

    def feedback_targets(self, batch: RolloutBatch, turns: Sequence[FeedbackTurn]) -> list[Demonstration]:
        """The feedback, to be predicted after the action."""
        found = []
        for each in turns:
            rollout = batch.rollouts[each.rollout]
            said, ended = self.feedback_ids(batch, each)
            start, end = self.policy.chat.content_of({"role": "user", "content": each.feedback}, ended=ended)
            context = rollout.prompt_ids + rollout.completion_ids[: rollout.turns[each.turn].end] + said[:start]
            weights = torch.full((end - start,), self.config.weight, device=batch.rewards.device)
            found.append(Demonstration(context, said[start:end], weights))
        return found


def usual_size(advantages: torch.Tensor, batch: RolloutBatch) -> float:
    """The rms of advantages [rollouts, tokens] over the action tokens of rollouts that have any; 1 where none has."""
    trained = batch.action_mask & (advantages.abs().amax(1, keepdim=True) > NO_SIGNAL)
    return float(advantages[trained].square().mean().sqrt()) if trained.any() else 1.0
