"""One batch of rollouts as tensors: what `credit` turns into advantages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from policies.api import Rollout
from tasks.api import Component


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """Rollouts of one update; groups lie side by side.

    Shapes: B rollouts, K components, T turns of the longest rollout, N tokens of the longest completion.
    """

    rollouts: Sequence[Rollout]
    group_size: int
    rewards: torch.Tensor
    """float32 [B, K]: the reward vector of the whole episode, summed over its turns."""
    turn_rewards: torch.Tensor
    """float32 [B, T, K]: the reward vector of each turn; NaN where the rollout did not get so far."""
    weights: torch.Tensor
    """float32 [K]: component weights."""
    action_mask: torch.Tensor
    """bool [B, N]: tokens that the policy wrote; of an action that rollouts share (a fork's), in the first only."""
    turn_of_token: torch.Tensor
    """int64 [B, N]: the turn in which a token was written; -1 outside `action_mask`."""
    components: Sequence[Component]
    """The task's, in the order of K."""
    hidden: torch.Tensor | None
    """float32 [B, T, width]: the policy's last hidden state before each turn, NaN where there was no such turn; None
    where it was not asked for."""
    token_ends: Callable[[Sequence[int]], list[int]]
    """`policies.chat.Chat.token_ends`: where the tokens of an action end in its text."""

    def span_mask(self) -> torch.Tensor:
        """bool [B, N, K]: tokens that write at least one character of the span that component k judges.

        A component without a span in a verdict judges all tokens of that turn, and so does one whose span is empty.
        """
        mask = self.action_mask[:, :, None].repeat(1, 1, len(self.components))
        for b, rollout in enumerate(self.rollouts):
            for turn in rollout.turns:
                if not turn.verdict.spans:
                    continue
                ends = self.token_ends(rollout.completion_ids[turn.start : turn.end])
                starts = [0, *ends[:-1]]
                for k, component in enumerate(self.components):
                    low, high = turn.verdict.spans.get(component.name, (0, 0))
                    if low < high:
                        inside = [s < high and e > low for s, e in zip(starts, ends, strict=True)]
                        mask[b, turn.start : turn.end, k] = torch.tensor(inside)
        return mask


def masks_once(rollouts: Sequence[Rollout]) -> list[list[int]]:
    """`Rollout.mask` of each, less the actions that an earlier rollout holds too: every sampled token counts once."""
    seen: set[tuple[int, ...]] = set()
    masks = []
    for rollout in rollouts:
        mask = list(rollout.mask)
        for t, turn in enumerate(rollout.turns if rollout.forks else ()):
            node = rollout.node(t)
            if node in seen:
                mask[turn.start : turn.end] = [0] * (turn.end - turn.start)
            seen.add(node)
        masks.append(mask)
    return masks


def build_batch(
    rollouts: Sequence[Rollout],
    group_size: int,
    components: Sequence[Component],
    device: torch.device,
    token_ends: Callable[[Sequence[int]], list[int]],
) -> RolloutBatch:
    """Lay rollouts out as tensors.

    Args:
        rollouts: B of them, groups side by side.
        group_size: rollouts per group; divides B.
        components: the task's, in its order.
        device: where the tensors live.
        token_ends: the policy's map from an action's ids to the ends of its tokens in the text.

    Raises:
        ValueError: B is not a multiple of group_size.
    """
    if len(rollouts) % group_size:
        raise ValueError(f"{len(rollouts)} rollouts are no whole number of groups of {group_size}")
    turns = max(len(rollout.turns) for rollout in rollouts)
    tokens = max(len(rollout.completion_ids) for rollout in rollouts)
    turn_rewards = torch.full((len(rollouts), turns, len(components)), torch.nan)
    turn_of_token = torch.full((len(rollouts), tokens), -1, dtype=torch.long)
    for b, (rollout, mask) in enumerate(zip(rollouts, masks_once(rollouts), strict=True)):
        for t, turn in enumerate(rollout.turns):
            turn_rewards[b, t] = torch.tensor([turn.verdict.rewards[component.name] for component in components])
            if mask[turn.start]:
                turn_of_token[b, turn.start : turn.end] = t
    return RolloutBatch(
        rollouts=rollouts,
        group_size=group_size,
        rewards=turn_rewards.nansum(1).to(device),
        turn_rewards=turn_rewards.to(device),
        weights=torch.tensor([component.weight for component in components], device=device),
        action_mask=(turn_of_token >= 0).to(device),
        turn_of_token=turn_of_token.to(device),
        components=components,
        hidden=_hidden(rollouts, turns, device),
        token_ends=token_ends,
    )


def _hidden(rollouts: Sequence[Rollout], turns: int, device: torch.device) -> torch.Tensor | None:
    if not rollouts[0].hidden:
        return None
    hidden = torch.full((len(rollouts), turns, len(rollouts[0].hidden[0])), torch.nan, device=device)
    for b, rollout in enumerate(rollouts):
        hidden[b, : len(rollout.hidden)] = torch.stack(rollout.hidden).to(device)
    return hidden
