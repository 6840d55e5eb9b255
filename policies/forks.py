"""Playing games as trees: several actions are tried from every state, and what each leads to is a state of its own.

A fork copies the cache of what the model has read and continues from there, so that no prefix is read or encoded twice.
Only the environment's last message is read anew by each fork, and the prompt by each first action, as in plain play.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from policies import ranks
from policies.api import PlayCost, Rollout, Sampling
from tasks.api import Episode, Problem, Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Try:
    """One of the actions to be tried from a state."""

    history: Rollout
    """The game so far."""
    number: int
    """Which of the state's forks it is."""
    unread: int
    """How many tokens its sequence reads anew: the environment's last message, or the prompt."""


def replay(task: Task, history: Rollout) -> Episode:
    """An episode of its own for a fork: the game so far, played again."""
    episode = task.start(history.problem)
    for turn in history.turns:
        episode.step(turn.action)
    return episode


def forked(history: Rollout, number: int) -> Rollout:
    """A copy of the game so far that can go its own way."""
    return replace(
        history,
        completion_ids=list(history.completion_ids),
        mask=list(history.mask),
        turns=list(history.turns),
        knowledge=list(history.knowledge),
        hidden=list(history.hidden),
        logprobs=list(history.logprobs),
        forks=[*history.forks, number],
    )


def play_forks(
    policy: LanguageModel, task: Task, problems: Sequence[Problem], forks: int, sampling: Sampling, seed: int
) -> tuple[list[Rollout], PlayCost]:
    """Play every problem as a tree.

    Of a run in several processes the first plays alone: which random stream a fork draws from goes by the order in
    which the others' actions end.

    Args:
        policy: who plays.
        task: whose environment judges; it must judge the same action alike when a game is played again.
        problems: what to play.
        forks: actions drawn from every state in which the game is not over.
        sampling: how actions are drawn.
        seed: of the draws; with one turn the rollouts are those of `LanguageModel.play`.

    Returns:
        The leaves: one rollout per way through a tree, those of a problem side by side and in the order of
        `Rollout.forks`. And what they cost, every action counted once.
    """
    return ranks.once(lambda: _play_forks(policy, task, problems, forks, sampling, seed))


def _play_forks(
    policy: LanguageModel, task: Task, problems: Sequence[Problem], forks: int, sampling: Sampling, seed: int
) -> tuple[list[Rollout], PlayCost]:
    sampler = policy.sampler(policy.action_limit(task), sampling, seed)
    cost = PlayCost()
    leaves: list[Rollout] = []
    tries: dict[int, Try] = {}
    for group, problem in enumerate(problems):
        prompt = policy.chat.prompt(policy.instructions, task.start(problem).messages)
        root = Rollout(problem=problem, group=group, prompt_ids=prompt)
        for number in range(forks):
            tries[sampler.add(prompt)] = Try(root, number, len(prompt))
    with policy.playing():
        for action in sampler.actions():
            tried = tries.pop(action.key)
            began = time.perf_counter()
            episode, rollout = replay(task, tried.history), forked(tried.history, tried.number)
            reply = policy.take_turn(rollout, episode, action)
            cost.score_s += time.perf_counter() - began
            before = len(tried.history.prompt_ids) + len(tried.history.completion_ids) - tried.unread
            cost.prompt_tokens += tried.unread
            cost.generated_tokens += len(action.ids)
            cost.flops += policy.shape.forward(tried.unread + len(action.ids), context=before, heads=len(action.ids))
            if episode.done:
                rollout.messages = episode.messages
                leaves.append(rollout)
            else:
                for number, key in enumerate(sampler.fork(action.key, [reply] * forks)):
                    tries[key] = Try(rollout, number, len(reply))
    cost.rollouts = len(leaves)
    return sorted(leaves, key=lambda rollout: rollout.node(len(rollout.turns))), cost
