"""Vector GRPO: the reward stays a vector until it reaches the tokens. Ours; nearest relatives named below.

With r_{i,t,k} the reward of component k in turn t of rollout i, and gamma its discount:

    1. return      G_{i,t,k} = sum over t' >= t of gamma^(t' - t) r_{i,t',k}
    2. baseline    b_{i,t,k}, one of
         group     mean of G_{.,t,k} over the group's rollouts that reached turn t
         state     mean over rollouts of the whole batch that were in the same state of knowledge before turn t
                   (GiGPO's anchor states, arXiv 2505.10978)
         outcome   mean over the group's rollouts whose preceding block had the same outcome (the outcome-conditioned
                   baseline of Blockwise Advantage Estimation, arXiv 2602.10231, section 4.3)
         heads     what a linear value head per component predicts from the policy's last hidden state before turn t
                   (algorithms/value_heads.py); no other rollout is needed for it
    3. advantage   A_{i,t,k} = (G - b) / (sigma_k + 1e-4), sigma_k the group's deviation over all turns
    4. tokens      A_i(n) = sum_k w_k m_k(n) A_{i,t(n),k}, with m_k = 1 on the tokens of component k's span, and on all
                   tokens of the turn where the component has no span
    5. batch step  A / (s + 1e-4),  s^2 = sum over the B rollouts of the mean of A^2 over its action tokens / (B - 1)

With one component, one turn, no spans and no batch step this is GRPO; with one turn, no spans and the batch step it is
GDPO (both are tests). A reward that is NaN takes part in nothing.

Step 5 gives credit an rms of 1 over action tokens, however few of them a span covers; as in GDPO each rollout counts
alike, whatever its length, and the sum is divided by B - 1. Nothing is subtracted: GDPO's mean over the batch is 0
since that of every group is, and a shift would put credit on tokens that no component judges.

Outcomes: the block before component k's span is the nearest other component's span in the same action, and its outcome
is whether that component got its highest reward; without one it is the turn before, and the outcome is which of the
components got their highest. First blocks have none: they all compare with the group, as in the paper.

Departures from the sources: with `state` and `outcome`, where fewer than two rollouts are comparable, the group is the
baseline (2602.10231 leaves such tokens without credit); its per-block mean over tokens is not used, the loss is TRL's.
There, a plain per-block group mean hurt: the baseline matters more than the split. Near: MT-GRPO (arXiv 2505.11821).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from algorithms.baselines import group_baseline, known_states, outcomes, stratum_baseline
from algorithms.grpo import EPSILON, GRPO, GRPOConfig
from algorithms.value_heads import ValueHeads
from policies.api import Sampling
from tasks.errors import require

if TYPE_CHECKING:
    from algorithms.api import State
    from algorithms.batch import RolloutBatch

BASELINES = ("group", "state", "outcome", "heads")


@dataclass(kw_only=True)
class VectorGRPOConfig(GRPOConfig):
    """Settings of vector_grpo."""

    name: str = "vector_grpo"
    baseline: str = "group"
    """What a return is compared with: group, state, outcome or heads."""
    head_learning_rate: float = 1e-2
    """AdamW's, of the value heads (baseline heads)."""
    discount: float = 1.0
    """gamma, the same for every component, in [0, 1]."""
    spans: bool = True
    """Whether a component's advantage goes only to the tokens that it judges."""
    batch_step: bool = True
    """Whether advantages are scaled to an rms of 1 over the batch at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.baseline in BASELINES, f"algo.baseline={self.baseline}: use one of {', '.join(BASELINES)}")
        rate = self.head_learning_rate
        require(rate > 0, f"algo.head_learning_rate={rate:g} must be above 0")
        require(0 <= self.discount <= 1, f"algo.discount={self.discount:g} must be from 0 to 1")


class VectorGRPO(GRPO):
    """Multi-component returns, per-turn baselines, credit by span."""

    Config = VectorGRPOConfig
    config: VectorGRPOConfig
    heads: ValueHeads | None = None
    """Made at the first update (baseline heads)."""

    def sampling(self) -> Sampling:
        """With hidden states, if the value heads read them."""
        return replace(super().sampling(), hidden=self.config.baseline == "heads")

    def state(self) -> State:
        """The value heads, where there are any."""
        return {"heads": self.heads.state() if self.heads else None}

    def restore(self, state: State) -> None:
        """Take the value heads back."""
        if state["heads"]:
            self.heads = ValueHeads.restored(state["heads"], self.config.head_learning_rate, self.policy.device)

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts, tokens]; 0 on tokens that the policy did not write."""
        returns = discounted(batch.turn_rewards, self.config.discount)
        baseline = group_baseline(returns, batch.group_size)
        if self.config.baseline == "state":
            baseline = stratum_baseline(returns, baseline, known_states(batch))
        elif self.config.baseline == "outcome":
            baseline = stratum_baseline(returns, baseline, outcomes(batch))
        elif self.config.baseline == "heads":
            assert batch.hidden is not None
            self.heads = self.heads or ValueHeads(batch.hidden, returns, self.config.head_learning_rate)
            baseline = self.heads.predict(batch.hidden)
            self.heads.learn(batch.hidden, returns)
        advantages = returns - baseline
        if self.config.scale_rewards:
            advantages = advantages / (group_deviation(advantages, batch.group_size) + EPSILON)
        advantages = advantages.nan_to_num(0.0) * batch.weights
        at_tokens = advantages.gather(
            1, batch.turn_of_token.clamp(min=0)[:, :, None].expand(-1, -1, len(batch.weights))
        )
        mask = batch.span_mask() if self.config.spans else batch.action_mask[:, :, None]
        credit = (at_tokens * mask).sum(2) * batch.action_mask
        return unit_rms(credit, batch.action_mask) if self.config.batch_step else credit


def discounted(rewards: torch.Tensor, discount: float) -> torch.Tensor:
    """Returns [B, T, K] of rewards [B, T, K]; NaN where the reward is NaN, which counts as 0 for earlier turns."""
    later = torch.zeros_like(rewards[:, 0])
    returns = []
    for turn in reversed(range(rewards.shape[1])):
        later = rewards[:, turn].nan_to_num(0.0) + discount * later
        returns.append(later.masked_fill(rewards[:, turn].isnan(), torch.nan))
    return torch.stack(returns[::-1], dim=1)


def group_deviation(residuals: torch.Tensor, group_size: int) -> torch.Tensor:
    """Root of the group's summed squares over (turns reached - 1), per component: [B, 1, K]."""
    groups = residuals.shape[0] // group_size
    grouped = residuals.reshape(groups, group_size * residuals.shape[1], residuals.shape[2])
    count = (~grouped.isnan()).sum(1)
    deviation = (grouped.square().nansum(1) / (count - 1).clamp(min=1)).sqrt()
    return deviation.repeat_interleave(group_size, 0)[:, None]


def unit_rms(credit: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Credit [B, N] over its rms on action tokens, to which each of the B rollouts counts alike."""
    squares = (credit.square() * mask).sum(1) / mask.sum(1).clamp(min=1)
    return credit / ((squares.sum() / max(len(credit) - 1, 1)).sqrt() + EPSILON)
