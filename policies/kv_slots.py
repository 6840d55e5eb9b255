"""The KV cache as a table of slots: one sequence a slot, its tokens at their own places from 0 on, without holes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

LEAST = 128
"""Places allotted at first."""


class Slots:
    """Keys and values of all layers in one tensor, so that sequences are moved by one copy.

    Places beyond a sequence's length hold any numbers, but numbers: what is masked still takes part, times 0.
    """

    def __init__(self, layers: int, heads: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.zeros(layers, 2, 0, heads, 0, width, dtype=dtype, device=device)
        """[layers, keys and values, slots, key heads, places, head width]."""

    def fit(self, slots: int, places: int) -> None:
        """Make room for so many slots and places; what is there stays."""
        layers, both, had_slots, heads, had_places, width = self.data.shape
        if slots <= had_slots and places <= had_places:
            return
        if places > had_places:
            # Doubled, so that copying stays a small part.
            places = max(2 * had_places, LEAST, places)
        larger = self.data.new_empty(layers, both, max(slots, had_slots), heads, max(places, had_places), width)
        larger[:, :, :had_slots, :, :had_places] = self.data
        larger[:, :, :had_slots, :, had_places:] = 0
        larger[:, :, had_slots:] = 0
        self.data = larger

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy the first `length` places of slots to other slots, all at once: slots may change places."""
        slots = self.data[:, :, :, :, :length]
        # One by one, since indexing copies number by number and this copies whole rows.
        moved = [slots[:, :, source].clone() for source in sources]
        for target, cache in zip(targets, moved, strict=True):
            slots[:, :, target] = cache

    def write(self, layer: int, slots: torch.Tensor, places: torch.Tensor, both: torch.Tensor) -> None:
        """Enter keys and values.

        Args:
            layer: whose.
            slots: int64 [rows, 1].
            places: int64 [rows, tokens].
            both: [rows, tokens, 2, key heads, head width].
        """
        self.data[layer][:, slots, :, places] = both

    def read(self, layer: int, start: int, end: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each [slots from start to end, key heads, length, head width]."""
        keys, values = self.data[layer, :, start:end, :, :length]
        return keys, values
