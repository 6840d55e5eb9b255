"""Dr. GRPO: GRPO without its two biases, the division by the group's deviation and by the rollout's length.

Source: arXiv 2503.20783, as TRL's `loss_type="dr_grpo"` computes it.

    A_i = R_i - mean_g R,        loss = - sum over action tokens of A_i log pi / (rollouts x longest completion)

Departures: the constant in the denominator is `max_turns x max_action_tokens` of the task.
"""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.grpo import GRPO, GRPOConfig


@dataclass(kw_only=True)
class DrGRPOConfig(GRPOConfig):
    """Settings of dr_grpo."""

    name: str = "dr_grpo"
    loss_type: str = "dr_grpo"
    scale_rewards: bool = False


class DrGRPO(GRPO):
    """GRPO done right: `GRPO.credit` without scaling, and a loss that divides by a constant."""

    Config = DrGRPOConfig
    config: DrGRPOConfig
