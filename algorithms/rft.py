"""RFT: rejection-sampling fine-tuning. Imitate the policy's own solved rollouts; the cheap baseline of every RL claim.

Sources: RAFT, arXiv 2304.06767 (the iterated, on-policy form used here); arXiv 2308.01825 for the name.

    loss = - mean over action tokens of solved rollouts of log pi

Written as a policy gradient: the advantage is 1 on solved rollouts and 0 on others, scaled so that TRL's mean over all
action tokens becomes the mean over those of solved rollouts. An update without a solved rollout changes nothing.

Departures: fresh rollouts for every update instead of one large filtered set; no deduplication.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from algorithms.policy_gradient import PolicyGradient, PolicyGradientConfig

if TYPE_CHECKING:
    from algorithms.batch import RolloutBatch


@dataclass(kw_only=True)
class RFTConfig(PolicyGradientConfig):
    """Settings of rft."""

    name: str = "rft"


class RFT(PolicyGradient):
    """Rejection-sampling fine-tuning."""

    Config = RFTConfig
    config: RFTConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]."""
        solved = torch.tensor([float(rollout.solved) for rollout in batch.rollouts], device=batch.rewards.device)
        tokens = batch.action_mask.sum(1)
        return solved * tokens.sum() / (solved * tokens).sum().clamp(min=1)

    def trl_settings(self) -> dict[str, Any]:
        """A mean over all action tokens of the update, which `credit` counts on."""
        return {"loss_type": "dapo"}
