"""GRPO: group-relative policy optimisation, the control that the other algorithms are held against.

Source: DeepSeekMath, arXiv 2402.03300, as TRL's GRPOTrainer implements it.

    A_i = (R_i - mean_g R) / (std_g R + 1e-4),        R_i = sum over turns and components of w_k r_{i,tau,k}

The same number goes to every action token of rollout i, in all its turns; environment tokens are outside the loss.

Departures from the paper, all of them TRL 1.16's defaults: no KL term (beta 0), the loss is averaged over the tokens of
the whole batch (`dapo`) instead of first within each rollout, and each batch is used for one update only, so that the
clipped ratio is 1 throughout. A rollout is a whole game: nothing is forked per turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algorithms.policy_gradient import PolicyGradient, PolicyGradientConfig
from tasks.errors import require

if TYPE_CHECKING:
    import torch

    from algorithms.batch import RolloutBatch

EPSILON = 1e-4
LOSSES = ("dapo", "grpo", "bnpo", "dr_grpo")


@dataclass(kw_only=True)
class GRPOConfig(PolicyGradientConfig):
    """Settings of grpo."""

    name: str = "grpo"
    loss_type: str = "dapo"
    """How the loss is averaged, in TRL's names: over all tokens of the update (dapo), within rollouts first (grpo),
    within micro-batches (bnpo), over a constant (dr_grpo)."""
    scale_rewards: bool = True
    """Divide by the group's standard deviation."""
    beta: float = 0.0
    """Weight of the KL divergence from the starting policy; above 0 a second copy of the weights is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.loss_type in LOSSES, f"algo.loss_type={self.loss_type}: use one of {', '.join(LOSSES)}")
        require(self.beta >= 0, f"algo.beta={self.beta:g} must be 0 or above")


class GRPO(PolicyGradient):
    """Group-relative policy optimisation."""

    Config = GRPOConfig
    config: GRPOConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]: the summed reward, centred and scaled within its group."""
        scores = (batch.rewards * batch.weights).sum(1).view(-1, batch.group_size)
        advantages = scores - scores.mean(1, keepdim=True)
        if self.config.scale_rewards:
            advantages = advantages / (scores.std(1, keepdim=True) + EPSILON)
        return advantages.flatten()

    def trl_settings(self) -> dict[str, Any]:
        """The loss and its KL weight."""
        scale = "group" if self.config.scale_rewards else "none"
        return {"loss_type": self.config.loss_type, "beta": self.config.beta, "scale_rewards": scale}
