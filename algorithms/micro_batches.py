"""From rows of tokens to TRL's micro-batches, cut by length so that little of them is padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from algorithms.batch import RolloutBatch

Cut = Callable[[Sequence[int], int], list[int]]
"""From the lengths of rows, in ascending order, and a number of parts to how many rows each part has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence in the loss: a rollout, or tokens to be made more or less likely that no rollout holds."""

    prompt: list[int]
    completion: list[int]
    mask: list[int]
    """1 on the completion's tokens that are in the loss."""
    advantages: list[float]
    """One per token of the completion."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def tokens(self) -> int:
        """Tokens in the loss."""
        return sum(self.mask)

    @property
    def has_gradient(self) -> bool:
        """Whether a token in the loss has an advantage other than 0: without a KL term, no other row moves weights."""
        return any(here and advantage for here, advantage in zip(self.mask, self.advantages, strict=True))


def rollout_rows(batch: RolloutBatch, advantages: torch.Tensor) -> list[Row]:
    """A row for each rollout of a batch; `advantages` float32 [rollouts] or [rollouts, tokens]."""
    wide = advantages if advantages.dim() == 2 else advantages[:, None].expand(batch.action_mask.shape)
    return [
        Row(rollout.prompt_ids, rollout.completion_ids, mask[:length], values[:length])
        for rollout, mask, values in zip(batch.rollouts, batch.action_mask.int().tolist(), wide.tolist(), strict=True)
        for length in [len(rollout.completion_ids)]
    ]


def micro_batches(
    rows: Sequence[Row], parts: int, cut: Cut, pad: int, device: torch.device
) -> list[dict[str, torch.Tensor]]:
    """The inputs of TRL's loss, rows of like length together.

    Args:
        rows: of one update. Where there are fewer than parts, rows without a token in the loss fill up.
        parts: how many micro-batches.
        cut: where the rows, sorted by length, are cut.
        pad: id of padding.
        device: where the tensors live.

    Returns:
        Per micro-batch: `prompt_ids` and `prompt_mask`, int64 [rows, longest prompt], padded on the left;
        `completion_ids`, `completion_mask`, `tool_mask` (what is in the loss) and `advantages`, [rows, longest
        completion], padded on the right.
    """
    filler = [Row([pad], [pad], [0], [0.0])] * max(parts - len(rows), 0)
    ordered = sorted([*filler, *rows], key=len)
    found, start = [], 0
    for count in cut([len(row) for row in ordered], parts):
        chosen, start = ordered[start : start + count], start + count
        found.append(tensors(chosen, pad, device))
    return found


def tensors(rows: Sequence[Row], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """One micro-batch; see `micro_batches`."""
    prompt, completion = (max(len(getattr(row, name)) for row in rows) for name in ("prompt", "completion"))

    def left(values: Sequence[int], filler: int) -> list[int]:
        return [filler] * (prompt - len(values)) + list(values)

    def right(values: Sequence[float], filler: float) -> list[float]:
        return [*values, *[filler] * (completion - len(values))]

    columns = {
        "prompt_ids": [left(row.prompt, pad) for row in rows],
        "prompt_mask": [left([1] * len(row.prompt), 0) for row in rows],
        "completion_ids": [right(row.completion, pad) for row in rows],
        "completion_mask": [right([1] * len(row.completion), 0) for row in rows],
        "tool_mask": [right(row.mask, 0) for row in rows],
    }
    whole = {name: torch.tensor(column, dtype=torch.long, device=device) for name, column in columns.items()}
    advantages = torch.tensor([right(row.advantages, 0.0) for row in rows], device=device)
    return whole | {"advantages": advantages}


def by_rows(lengths: Sequence[int], parts: int) -> list[int]:
    """Equally many rows, or one more in the first ones."""
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
    """Rows per part where each part takes as many as its tokens, paddings included, allow."""
    counts = [0]
    for length in lengths:
        if counts[-1] and (counts[-1] + 1) * length > tokens:
            counts.append(0)
        counts[-1] += 1
    return counts
