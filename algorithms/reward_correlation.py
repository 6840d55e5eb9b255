"""Whether a reward vector says more than its sum: correlations of its parts within groups, for the ledger."""

from __future__ import annotations

from itertools import combinations

import torch

from algorithms.batch import RolloutBatch

CONSTANT = 1e-6
"""Root mean square deviation within groups below which a part is constant and has no correlation."""


def reward_correlations(batch: RolloutBatch) -> dict[str, float]:
    """Pearson correlations of deviations from the group's mean, pooled over the groups of an update.

    Returns:
        `corr/A_B` for two components and `corr/sum_solved` for the weighted sum and whether the rollout is solved;
        without those in which one part is constant within every group.
    """
    solved = batch.rewards.new_tensor([float(rollout.solved) for rollout in batch.rollouts])
    total = (batch.rewards * batch.weights).sum(1)
    parts = torch.cat([batch.rewards, total[:, None], solved[:, None]], 1).double()
    groups = parts.view(-1, batch.group_size, parts.shape[1])
    centred = (groups - groups.mean(1, keepdim=True)).flatten(0, 1)
    deviation = centred.square().mean(0).sqrt()
    covariance = centred.T @ centred / len(centred)
    names = [*(component.name for component in batch.components), "sum", "solved"]
    pairs = [*combinations(range(len(batch.components)), 2), (len(names) - 2, len(names) - 1)]
    return {
        f"corr/{names[a]}_{names[b]}": float(covariance[a, b] / (deviation[a] * deviation[b]))
        for a, b in pairs
        if min(deviation[a], deviation[b]) > CONSTANT
    }
