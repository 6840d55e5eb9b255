"""GDPO: each reward component is normalised alone before they are summed.

Source: arXiv 2601.05242, as TRL's `multi_objective_aggregation="normalize_then_sum"` computes it.

    Z_{i,k} = (R_{i,k} - mean_g R_k) / (std_g R_k + 1e-4)
    S_i     = sum_k w_k Z_{i,k}
    A_i     = (S_i - mean_batch S) / (std_batch S + 1e-4)

R_{i,k} is component k summed over the turns of rollout i. Still one number per rollout. Departures: none known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.grpo import EPSILON, GRPO, GRPOConfig

if TYPE_CHECKING:
    import torch

    from algorithms.batch import RolloutBatch


@dataclass(kw_only=True)
class GDPOConfig(GRPOConfig):
    """Settings of gdpo. `scale_rewards` false leaves the division by the group's deviation out."""

    name: str = "gdpo"


class GDPO(GRPO):
    """Group reward-decoupled normalisation policy optimisation."""

    Config = GDPOConfig
    config: GDPOConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]."""
        rewards = batch.rewards.view(-1, batch.group_size, len(batch.weights))
        normal = rewards - rewards.mean(1, keepdim=True)
        if self.config.scale_rewards:
            normal = normal / (rewards.std(1, keepdim=True) + EPSILON)
        scores = (normal.flatten(0, 1) * batch.weights).sum(1)
        return (scores - scores.mean()) / (scores.std() + EPSILON)
