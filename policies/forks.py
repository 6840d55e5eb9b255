"""Playing games as trees: several actions are tried from every state, and what each leads to is a state of its own.

A fork copies the cache of what the model has read and goes on from there, so that no prefix is read or encoded twice.
Only what the environment said last is read anew by each fork, and the prompt by each first action, as in plain play.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from policies.api import PlayCost, Rollout, Sampling
from policies.sampler import Sampler
from tasks.api import Episode, Problem, Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class State:
    """A game that waits for its next action."""

    row: int
    """Where the sampler has it."""
    past: Rollout
    """The game so far."""
    block: list[int]
    """Ids that the model has yet to read: the last token of the action before, and what the environment said."""
    said: int
    """How many of them the environment said."""


@dataclass(slots=True)
class Trees:
    """Grows the trees of one batch of problems, depth first, at most `sampling.batch_size` forks side by side."""

    policy: LanguageModel
    task: Task
    forks: int
    sampling: Sampling
    leaves: list[Rollout] = field(default_factory=list)
    cost: PlayCost = field(default_factory=PlayCost)

    def grow(self, sampler: Sampler, states: Sequence[State]) -> None:
        """Fork all states, then what they lead to, until every game is over."""
        limit = self.policy.action_limit(self.task)
        side_by_side = max(self.sampling.batch_size // self.forks, 1)
        for start in range(0, len(states), side_by_side):
            chosen = states[start : start + side_by_side]
            forks = [(state, number) for state in chosen for number in range(self.forks)]
            branch = sampler.fork([state.row for state, _ in forks])
            actions = branch.extend([state.block for state, _ in forks], limit, self.sampling)
            unfed = branch.unfed()
            live = []
            began = time.perf_counter()
            for row, ((state, number), ids) in enumerate(zip(forks, actions, strict=True)):
                episode, rollout = self.again(state.past), forked(state.past, number)
                if self.sampling.hidden:
                    rollout.hidden.append(branch.hidden[row])
                said = self.policy.take_turn(rollout, episode, ids)
                self.book(state, len(ids))
                if episode.done:
                    rollout.messages = episode.messages
                    self.leaves.append(rollout)
                else:
                    live.append(State(row, rollout, unfed[row] + said, len(said)))
            self.cost.score_s += time.perf_counter() - began
            self.grow(branch, live)

    def again(self, past: Rollout) -> Episode:
        """An episode of its own for a fork: the game so far, played again."""
        episode = self.task.start(past.problem)
        for turn in past.turns:
            episode.step(turn.action)
        return episode

    def book(self, state: State, written: int) -> None:
        """Enter what one fork took: reading what was said, and writing."""
        before = len(state.past.prompt_ids) + len(state.past.completion_ids) - state.said
        self.cost.prompt_tokens += state.said
        self.cost.generated_tokens += written
        self.cost.flops += self.policy.shape.forward(state.said + written, context=before, heads=written)


def forked(past: Rollout, number: int) -> Rollout:
    """A copy of the game so far that can go its own way."""
    return replace(
        past,
        completion_ids=list(past.completion_ids),
        mask=list(past.mask),
        turns=list(past.turns),
        knowledge=list(past.knowledge),
        hidden=list(past.hidden),
        forks=[*past.forks, number],
    )


def play_forks(
    policy: LanguageModel, task: Task, problems: Sequence[Problem], forks: int, sampling: Sampling, seed: int
) -> tuple[list[Rollout], PlayCost]:
    """Play every problem as a tree.

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
    trees = Trees(policy, task, forks, sampling)
    roots = []
    for group, problem in enumerate(problems):
        prompt = policy.chat.prompt(policy.instructions, task.start(problem).messages)
        roots.append(State(group, Rollout(problem=problem, group=group, prompt_ids=prompt), prompt, len(prompt)))
    training = policy.model.training
    policy.model.eval()
    try:
        trees.grow(policy.sampler(torch.Generator(policy.device).manual_seed(seed)), roots)
    finally:
        policy.model.train(training)
    trees.cost.rollouts = len(trees.leaves)
    return sorted(trees.leaves, key=lambda rollout: rollout.node(len(rollout.turns))), trees.cost
