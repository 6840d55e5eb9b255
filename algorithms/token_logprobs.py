"""Log-probabilities of the tokens in the loss, and of no others.

TRL runs prompts padded on the left through the model, with a mask, a group's prompt once for every rollout; and on a
CPU it multiplies every position with the output head, prompts, paddings and environment text included. Here a prompt
that rollouts share is run once, and its keys and values serve all of them; other rows are moved to the left, so that
causal attention needs no mask and skips what lies ahead; and the head sees only what the loss asks for. What it
computes there is TRL's own fused head, in chunks of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from policies.trl_head import skip_what_is_not_in_the_loss

skip_what_is_not_in_the_loss()

WORTH_SHARING = 0.75
"""Prompts are shared where that leaves at most this part of the tokens to run: attention then needs a mask, and the
half of it that lies ahead is computed too."""


def token_logprobs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, in_loss: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token in the loss, and the entropy of what it was drawn from.

    Args:
        model: with TRL's fused head.
        ids: int64 [rows, prompt + completion], prompts padded on the left and completions on the right.
        mask: int64 of the same shape: 0 on paddings.
        in_loss: int64 [rows, completion].

    Returns:
        Both float32 [rows, completion], 0 outside the loss; the former with gradients.
    """
    completion = in_loss.shape[1]
    asked = torch.cat([torch.zeros_like(ids[:, :-completion]), in_loss], 1)
    first = mask.argmax(1)
    # The last token of a prompt stands before the first of the completion, and so tells its probability.
    last = torch.full_like(first, ids.shape[1] - completion - 1)
    lengths = mask.sum(1)
    shared = last - first
    longest = int((lengths - shared).max())
    prompts, of_row = prefixes(ids[:, : -completion - 1], mask[:, : -completion - 1])
    whole, parted = len(ids) * int(lengths.max()), prompts.numel() + len(ids) * longest
    if prompts.numel() and parted <= WORTH_SHARING * whole and keeps_keys(model):
        begin = last
        # Not through DistributedDataParallel, whose forward waits for the other processes: they may share no prompts.
        inner = getattr(model, "module", model)
        known = inner(input_ids=prompts, use_cache=True, logits_to_keep=1).past_key_values
        cache = DynamicCache([(layer.keys[of_row], layer.values[of_row]) for layer in known.layers])
        rows, wanted, there = (moved(each, begin, longest) for each in (ids, asked, mask))
        before = torch.arange(prompts.shape[1], device=ids.device) < shared[:, None]
        positions = shared[:, None] + torch.arange(rows.shape[1], device=ids.device)
        context = {
            "past_key_values": cache,
            "attention_mask": torch.cat([before.to(mask.dtype), there], 1),
            "position_ids": positions,
        }
    else:
        begin, context = first, {}
        rows, wanted = (moved(each, begin, int(lengths.max())) for each in (ids, asked))
    output = model(input_ids=rows, labels=rows.masked_fill(wanted == 0, -100), fused_lm_head=True, **context)
    # A token's log-probability stands where the token before it does.
    home = (last[:, None] + torch.arange(completion, device=ids.device)) - begin[:, None]
    home = home.clamp(0, output.log_probs.shape[1] - 1)
    found = (torch.where(in_loss > 0, each.gather(1, home), 0.0) for each in (output.log_probs, output.entropy))
    logprobs, entropies = found
    return logprobs, entropies


def moved(table: torch.Tensor, begin: torch.Tensor, width: int) -> torch.Tensor:
    """Columns of each row from `begin` [rows] on, [rows, width]; 0 beyond the last one."""
    columns = begin[:, None] + torch.arange(width, device=table.device)
    inside = columns < table.shape[1]
    return table.gather(1, columns.clamp(max=table.shape[1] - 1)) * inside


def prefixes(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What different beginnings there are.

    Args:
        ids: int64 [rows, tokens], padded on the left.
        mask: of the same shape: 0 on paddings.

    Returns:
        The beginnings, int64 [beginnings, tokens], padded on the right; and which of them each row has, int64 [rows].
    """
    if not ids.shape[1]:
        return ids[:1], torch.zeros(len(ids), dtype=torch.long, device=ids.device)
    different, of_row = torch.unique(torch.where(mask > 0, ids, -1), dim=0, return_inverse=True)
    first = (different < 0).sum(1)
    return moved(different, first, int((different.shape[1] - first).max())).clamp(min=0), of_row


def keeps_keys(model: Any) -> bool:
    """Whether the model hands out the keys and values of all that it has read: none that slide or recur, and none that
    gradient checkpointing is to compute again."""
    model = getattr(model, "module", model)  # DistributedDataParallel's
    if model.training and getattr(model, "is_gradient_checkpointing", False):
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)
