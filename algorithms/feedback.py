"""What a verdict's feedback is on, and how it is put into a context, for feedback_grpo."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from algorithms.batch import RolloutBatch
from tasks.api import Message

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


SOLVED = "solved:"
"""What stands before a solved sibling's action."""


@dataclass(frozen=True, slots=True)
class FeedbackTurn:
    """An unsolved turn, and what its teacher has in its context."""

    rollout: int
    turn: int
    feedback: str
    sibling: str = ""
    """What a rollout of the group that solved the problem did in this turn; empty where there is none."""


def feedback_turns(batch: RolloutBatch, *, siblings: bool) -> list[FeedbackTurn]:
    """All unsolved turns on which there is feedback or, where asked for, a sibling's action."""
    found = []
    for b, rollout in enumerate(batch.rollouts):
        for t, turn in enumerate(rollout.turns):
            action = solved_sibling(batch, b, t) if siblings else ""
            if not turn.verdict.solved and (turn.verdict.feedback or action):
                found.append(FeedbackTurn(b, t, turn.verdict.feedback, action))
    return found


def solved_sibling(batch: RolloutBatch, rollout: int, turn: int) -> str:
    """The action in this turn of the next other rollout of the group, in a circle, that solved the problem."""
    first, place = rollout - rollout % batch.group_size, rollout % batch.group_size
    for step in range(1, batch.group_size):
        other = batch.rollouts[first + (place + step) % batch.group_size]
        if other.solved and len(other.turns) > turn:
            return other.turns[turn].action
    return ""


def deranged(turns: Sequence[FeedbackTurn], batch: RolloutBatch, rng: random.Random) -> list[FeedbackTurn]:
    """The control: every turn with what belongs to a turn of another problem; turns that none is left for drop out.

    Turns stand in a line, those of a problem side by side, and each gets what stands as many places on as the most
    frequent problem has turns. If no problem has more than half of the turns, none drops out.
    """
    by_problem: dict[str, list[FeedbackTurn]] = {}
    for turn in rng.sample(turns, len(turns)):
        by_problem.setdefault(batch.rollouts[turn.rollout].problem.id, []).append(turn)
    line = [(problem, turn) for problem, own in by_problem.items() for turn in own]
    shift = max(map(len, by_problem.values()), default=0)
    pairs = zip(line, line[shift:] + line[:shift], strict=True)
    moved = [
        replace(turn, feedback=other.feedback, sibling=other.sibling)
        for (problem, turn), (others, other) in pairs
        if problem != others
    ]
    return sorted(moved, key=lambda turn: (turn.rollout, turn.turn))


def action_ids(batch: RolloutBatch, turn: FeedbackTurn) -> list[int]:
    """The turn's action as it was sampled."""
    rollout = batch.rollouts[turn.rollout]
    place = rollout.turns[turn.turn]
    return rollout.completion_ids[place.start : place.end]


def student_logprobs(batch: RolloutBatch, turn: FeedbackTurn) -> list[float]:
    """Log-probability of each token of the action when it was sampled; `Sampling.logprobs` must have kept them."""
    rollout = batch.rollouts[turn.rollout]
    lengths = [place.end - place.start for place in rollout.turns[: turn.turn + 1]]
    return rollout.logprobs[sum(lengths[:-1]) : sum(lengths)]


def ids_before(batch: RolloutBatch, turn: FeedbackTurn) -> list[int]:
    """The student's context: ids of everything before the turn's action."""
    rollout = batch.rollouts[turn.rollout]
    return rollout.prompt_ids + rollout.completion_ids[: rollout.turns[turn.turn].start]


def task_context(policy: LanguageModel, batch: RolloutBatch, turn: FeedbackTurn) -> list[int]:
    """SDPO's reprompt: the student's context with feedback and solution at the end of its last user message.

    That message is the environment's and is encoded anew; earlier actions stay the ids that were sampled. SDPO's
    headings are left out: a policy of a few million weights reads no prose, and tiny follows the bare text better.
    """
    rollout = batch.rollouts[turn.rollout]
    places = [place for place, message in enumerate(rollout.messages) if message["role"] == "assistant"]
    before = rollout.messages[: places[turn.turn]]
    sibling = f"{SOLVED}\n{turn.sibling}" if turn.sibling else ""
    content = "\n".join(text for text in (before[-1]["content"], turn.feedback, sibling) if text)
    last: Message = {"role": before[-1]["role"], "content": content}
    if turn.turn == 0:
        return policy.chat.prompt(policy.instructions, [*before[:-1], last])
    end = rollout.turns[turn.turn - 1].end
    ended = rollout.completion_ids[end - 1] in policy.chat.ends
    return rollout.prompt_ids + rollout.completion_ids[:end] + policy.chat.after_action(last, ended=ended)


def attempt_context(policy: LanguageModel, batch: RolloutBatch, turn: FeedbackTurn) -> list[int]:
    """The student's context, its action, and the feedback as the next user message."""
    end = batch.rollouts[turn.rollout].turns[turn.turn].end
    rollout = batch.rollouts[turn.rollout]
    return rollout.prompt_ids + rollout.completion_ids[:end] + feedback_ids(policy, batch, turn)[0]


def feedback_ids(policy: LanguageModel, batch: RolloutBatch, turn: FeedbackTurn) -> tuple[list[int], tuple[int, int]]:
    """Ids of the feedback as the message after the action, and where in them its own text begins and ends."""
    rollout = batch.rollouts[turn.rollout]
    ended = rollout.completion_ids[rollout.turns[turn.turn].end - 1] in policy.chat.ends
    message: Message = {"role": "user", "content": turn.feedback}
    return policy.chat.after_action(message, ended=ended), policy.chat.content_of(message, ended=ended)
