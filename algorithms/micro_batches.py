"""Cutting an update's rollouts into micro-batches of like length, so that little of them is padding.

TRL pads every micro-batch to the longest rollout of the update, and cuts by number of rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Cut = Callable[[Sequence[int], int], list[int]]
"""From the lengths of rollouts, in ascending order, and a number of parts to how many rollouts each part has."""


def by_length(parts: list[dict[str, Any]], cut: Cut, times: int = 1) -> list[dict[str, Any]]:
    """The same rollouts, sorted into micro-batches of like length, without the columns that are padding in all rows.

    The loss does not see the difference where it is normalised over the whole update (`dapo`), nor, where each
    micro-batch is averaged by itself (`grpo`, `dr_grpo`), if `cut` gives all parts equally many rollouts. Rows without
    a token in the loss are left out, provided that every micro-batch gets one row at least.

    Args:
        parts: TRL's micro-batches.
        cut: where the sorted rollouts are cut.
        times: how many micro-batches become of each, on average.
    """
    count = len(parts) * times
    whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0] if parts[0][key].dim() > 0}
    lengths = whole["completion_mask"].sum(1) + whole["prompt_mask"].sum(1)
    order = lengths.argsort(stable=True)
    trained = order[(whole["completion_mask"] * whole["tool_mask"]).sum(1)[order] > 0]
    rows = trained if len(trained) >= count else order
    sorted_parts = []
    for chosen in torch.split(rows, cut(lengths[rows].tolist(), count)):
        part = dict(parts[0]) | {key: tensor[chosen] for key, tensor in whole.items()}
        prompt, completion = (int(part[f"{name}_mask"].sum(1).max()) for name in ("prompt", "completion"))
        for key, tensor in part.items():
            if key.startswith("prompt_"):
                part[key] = tensor[:, -prompt:]
            elif tensor.dim() == 2:
                part[key] = tensor[:, :completion]
        sorted_parts.append(part)
    return sorted_parts


def by_rows(lengths: Sequence[int], parts: int) -> list[int]:
    """Equally many rollouts, or one more in the first ones."""
    return [len(lengths) // parts + (part < len(lengths) % parts) for part in range(parts)]


def by_tokens(lengths: Sequence[int], parts: int) -> list[int]:
    """So that the largest part, which decides how much memory is needed, has the fewest tokens, paddings included."""
    low, high = lengths[-1], len(lengths) * lengths[-1]
    while low < high:
        middle = (low + high) // 2
        if len(filled(lengths, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    counts = filled(lengths, low)
    while len(counts) < parts:
        largest = max(range(len(counts)), key=counts.__getitem__)
        counts[largest : largest + 1] = [counts[largest] // 2, counts[largest] - counts[largest] // 2]
    return counts


def filled(lengths: Sequence[int], tokens: int) -> list[int]:
    """Rollouts per part where each part takes as many as its tokens, paddings included, allow."""
    counts = [0]
    for length in lengths:
        if counts[-1] and (counts[-1] + 1) * length > tokens:
            counts.append(0)
        counts[-1] += 1
    return counts
