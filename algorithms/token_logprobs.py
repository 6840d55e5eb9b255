"""Log-probabilities of the tokens in the loss, and of no others.

TRL runs prompts padded on the left through the model, with a mask, and on a CPU it multiplies every position with the
output head, prompts, paddings and environment text included. Here rows are moved to the left, so that causal attention
needs no mask and skips what lies ahead, and the head sees only what the loss asks for. What it computes there is TRL's
own fused head, in chunks of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch

from policies.trl_head import skip_what_is_not_in_the_loss

skip_what_is_not_in_the_loss()


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
    width, completion = ids.shape[1], in_loss.shape[1]
    paddings = mask.argmax(1, keepdim=True)
    columns = torch.arange(int(mask.sum(1).max()), device=ids.device)
    moved = (paddings + columns).clamp(max=width - 1)
    asked = torch.cat([torch.zeros_like(ids[:, :-completion]), in_loss], 1)
    rows = ids.gather(1, moved)
    output = model(input_ids=rows, labels=rows.masked_fill(asked.gather(1, moved) == 0, -100), fused_lm_head=True)
    # A token's log-probability stands where the token before it does.
    home = torch.arange(width - completion - 1, width - 1, device=ids.device) - paddings
    home = home.clamp(0, output.log_probs.shape[1] - 1)
    found = (torch.where(in_loss > 0, each.gather(1, home), 0.0) for each in (output.log_probs, output.entropy))
    logprobs, entropies = found
    return logprobs, entropies
