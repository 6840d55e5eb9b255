"""Baselines of a return per turn and component: what other rollouts got in a place that can be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping

import torch

from algorithms.batch import RolloutBatch

Place = tuple[int, int, int]
"""Rollout, turn and component."""


def group_baseline(returns: torch.Tensor, group_size: int) -> torch.Tensor:
    """Mean return of the group at each turn, over the rollouts that have one: [B, T, K]."""
    grouped = returns.view(-1, group_size, *returns.shape[1:])
    return grouped.nanmean(1, keepdim=True).expand_as(grouped).flatten(0, 1)


def stratum_baseline(
    returns: torch.Tensor, fallback: torch.Tensor, strata: Mapping[Hashable, list[Place]]
) -> torch.Tensor:
    """Mean return of the places that can be compared: [B, T, K]; `fallback` where fewer than two can."""
    baseline = fallback.clone()
    for places in strata.values():
        if len(places) > 1:
            where = tuple(torch.tensor(axis, device=returns.device) for axis in zip(*places, strict=True))
            baseline[where] = returns[where].nanmean()
    return baseline


def known_states(batch: RolloutBatch) -> dict[Hashable, list[Place]]:
    """Places of the whole batch by the component and the state of knowledge before the turn."""
    strata: dict[Hashable, list[Place]] = defaultdict(list)
    for b, rollout in enumerate(batch.rollouts):
        for turn, knowledge in enumerate(rollout.knowledge):
            for k in range(len(batch.components)):
                strata[k, knowledge].append((b, turn, k))
    return strata


def outcomes(batch: RolloutBatch) -> dict[Hashable, list[Place]]:
    """Places of a group by turn, component, and what came of the block before."""
    strata: dict[Hashable, list[Place]] = defaultdict(list)
    for b, rollout in enumerate(batch.rollouts):
        before: tuple[object, ...] = ()
        for turn, verdict in enumerate(rollout.verdicts):
            best = {each.name: verdict.rewards[each.name] >= each.high for each in batch.components}
            for k, component in enumerate(batch.components):
                start, _ = verdict.spans.get(component.name, (0, 0))
                earlier = [(end, name) for name, (_, end) in verdict.spans.items() if 0 < end <= start]
                _, nearest = max(earlier, default=(0, ""))
                outcome = (nearest, best[nearest]) if earlier else before
                strata[b // batch.group_size, turn, k, outcome].append((b, turn, k))
            before = tuple(best.values())
    return strata
