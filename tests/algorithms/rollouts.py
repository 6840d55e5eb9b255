"""Made-up rollouts, and batches of them, for tests of credit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from algorithms.batch import RolloutBatch, build_batch
from policies.api import Rollout, Turn
from tasks.api import Component, Problem, Verdict

A_AND_B = (
    Component(name="a", weight=1.0, low=-1, high=1, about=""),
    Component(name="b", weight=0.5, low=-1, high=1, about=""),
)
ACTION = 3
"""Tokens of each action; each stands for one character, and one environment token follows."""


def rollout(
    *turns: Sequence[float],
    components: Sequence[Component] = A_AND_B,
    spans: dict[str, tuple[int, int]] | None = None,
    knowledge: Sequence[object] | None = None,
    solved: bool = False,
) -> Rollout:
    """A rollout of actions of three tokens, one per turn, with the rewards given."""
    out = Rollout(problem=Problem(id="p", split="train"), group=0, prompt_ids=[1])
    for number, rewards in enumerate(turns):
        start = len(out.completion_ids)
        named = {component.name: value for component, value in zip(components, rewards, strict=True)}
        last = number == len(turns) - 1
        verdict = Verdict(rewards=named, feedback="", spans=spans or {}, solved=solved and last)
        out.turns.append(Turn(action="xyz", verdict=verdict, start=start, end=start + ACTION))
        out.knowledge.append(knowledge[number] if knowledge else (id(out), number))
        out.completion_ids += [5, 6, 7, 8]
        out.mask += [1, 1, 1, 0]
    return out


def batch_of(*rollouts: Rollout, group_size: int, components: Sequence[Component] = A_AND_B) -> RolloutBatch:
    """A batch in which every token writes one character."""
    return build_batch(rollouts, group_size, components, torch.device("cpu"), lambda ids: list(range(1, len(ids) + 1)))
