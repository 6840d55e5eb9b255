"""Rows that feedback adds to an update: second tries, and the feedback as a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from algorithms.feedback import FeedbackTurn, attempt_context, feedback_ids, ids_before
from algorithms.micro_batches import Row
from policies.api import Sampling
from policies.branches import branch_of, score_branches

if TYPE_CHECKING:
    from algorithms.batch import RolloutBatch
    from algorithms.feedback_grpo import FeedbackGRPO

SHAPE = 0.1
"""The constant of s(p)."""


def second_tries(
    algorithm: FeedbackGRPO, batch: RolloutBatch, turns: Sequence[FeedbackTurn]
) -> list[tuple[Row, float]]:
    """Try each turn again after its feedback, to be learned without it.

    Returns:
        Per turn the row, its advantages r(y') - mean_g r(y) times s(p); and that difference itself.
    """
    policy, session, temperature = algorithm.policy, algorithm.session, algorithm.config.temperature
    before = [ids_before(batch, turn) for turn in turns]
    contexts = [attempt_context(policy, batch, turn) for turn in turns]
    tries = session.sample(contexts, Sampling(temperature=temperature))
    branches = [[branch_of(x, x, y)] for x, y in zip(before, tries, strict=True)]
    scores, flops = score_branches(policy, before, branches, temperature * policy.temperature)
    session.charge("update", flops=flops)
    found = []
    for turn, x, y, (logprobs,) in zip(turns, before, tries, scores, strict=True):
        gain = score_again(algorithm, batch, turn, policy.chat.text(y)) - usual_score(batch, turn)
        p = logprobs.exp()
        slope = SHAPE * p / (p + SHAPE) ** 2
        found.append((Row(x, y, [1] * len(y), (gain * slope).tolist()), gain))
    return found


def score_again(algorithm: FeedbackGRPO, batch: RolloutBatch, turn: FeedbackTurn, action: str) -> float:
    """The score of another action in the same place of the same game, which is replayed up to there."""
    rollout = batch.rollouts[turn.rollout]
    with algorithm.session.phase("score"):
        episode = algorithm.task.start(rollout.problem)
        for earlier in rollout.turns[: turn.turn]:
            episode.step(earlier.action)
        return algorithm.task.score(episode.step(action))


def usual_score(batch: RolloutBatch, turn: FeedbackTurn) -> float:
    """Mean score of this turn over the first attempts of the group."""
    first = turn.rollout - turn.rollout % batch.group_size
    rewards = batch.turn_rewards[first : first + batch.group_size, turn.turn]
    return float((rewards * batch.weights).sum(1).nanmean())


def predictions(algorithm: FeedbackGRPO, batch: RolloutBatch, turns: Sequence[FeedbackTurn]) -> list[Row]:
    """The feedback, to be predicted after the action."""
    found = []
    for turn in turns:
        ids, (start, end) = feedback_ids(algorithm.policy, batch, turn)
        context = attempt_context(algorithm.policy, batch, turn)
        before = context[: len(context) - len(ids) + start]
        weight = algorithm.config.weight
        found.append(Row(before, ids[start:end], [1] * (end - start), [weight] * (end - start)))
    return found
