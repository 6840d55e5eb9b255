"""Sampling with a KV cache that is kept from turn to turn.

Rows of a batch grow at different speeds. Each block of new tokens is left-padded to the block's width; the paddings
stay in the cache as masked holes, and positions are counted per row without them. So no token is ever prefilled twice.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from policies.api import Sampling


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer that keeps room for more: adding one token copies one token, not the whole cache."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append keys and values, [rows, heads, new tokens, width]; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = (key_states[:, :, :0], value_states[:, :, :0])
            self._length = 0
        end = self._length + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = (self._grown(self._room[0], 2 * end), self._grown(self._room[1], 2 * end))
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, self._length : end] = new
        self._length = end
        self.keys, self.values = self._room[0][:, :, :end], self._room[1][:, :, :end]
        return self.keys, self.values

    def _grown(self, room: torch.Tensor, size: int) -> torch.Tensor:
        larger = room.new_zeros(*room.shape[:2], size, room.shape[3])
        larger[:, :, : self._length] = room[:, :, : self._length]
        return larger

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        self._room = (self._room[0][indices], self._room[1][indices])
        self.keys, self.values = (room[:, :, : self._length] for room in self._room)


class Sampler:
    """Continues a fixed set of sequences, block by block.

    Args:
        model: a causal language model; used under no_grad, in the mode it is in.
        pad: id written into holes.
        ends: ids that end an action.
        generator: source of all draws.
    """

    def __init__(self, model: Any, *, pad: int, ends: Sequence[int], generator: torch.Generator) -> None:
        self.model = model
        self.pad = pad
        self.ends = torch.tensor(list(ends), device=model.device)
        self.generator = generator
        self.cache = DynamicCache(config=model.config)
        self.cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in self.cache.layers]
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        self.length = torch.zeros(0, dtype=torch.long, device=model.device)
        self.hidden = torch.zeros(0, 0, device=model.device)
        """Where asked for: the last hidden state before each newest action, float32 [rows, width]."""

    def _forward(self, ids: torch.Tensor, real: torch.Tensor, *, hidden: bool = False) -> torch.Tensor:
        """Feed a block; float32 logits [rows, vocabulary] after its last column. `hidden` keeps the state there."""
        self.mask = torch.cat([self.mask, real], dim=1)
        positions = (self.length[:, None] + real.cumsum(1) - 1).clamp(min=0)
        self.length = self.length + real.sum(1)
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
            output_hidden_states=hidden,
        )
        if hidden:
            self.hidden = output.hidden_states[-1][:, -1].float()
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    @torch.no_grad()
    def extend(self, blocks: Sequence[Sequence[int]], limit: int, sampling: Sampling) -> list[list[int]]:
        """Feed one block of ids per row, then sample until every row has ended or has `limit` tokens.

        Returns:
            Sampled ids per row, the end token included where it came.
        """
        device = self.model.device
        rows, width = len(blocks), max(map(len, blocks))
        ids = torch.tensor([[self.pad] * (width - len(block)) + list(block) for block in blocks], device=device)
        real = torch.tensor([[0] * (width - len(block)) + [1] * len(block) for block in blocks], device=device)
        if self.mask.numel() == 0:
            self.mask = torch.zeros(rows, 0, dtype=torch.long, device=device)
            self.length = torch.zeros(rows, dtype=torch.long, device=device)
        logits = self._forward(ids, real, hidden=sampling.hidden)
        alive = torch.ones(rows, dtype=torch.bool, device=device)
        drawn, written = [], []
        for step in range(limit):
            token = torch.where(alive, draw(logits, sampling, self.generator), self.pad)
            drawn.append(token)
            written.append(alive)
            alive = alive & ~torch.isin(token, self.ends)
            if step + 1 == limit or not bool(alive.any()):
                break
            logits = self._forward(token[:, None], written[-1][:, None].long())
        # The last column was sampled but not fed yet; it opens the next block.
        self._unfed = drawn[-1]
        self._unfed_real = written[-1]
        tokens, real_tokens = torch.stack(drawn, 1).tolist(), torch.stack(written, 1).tolist()
        return [[t for t, r in zip(ts, rs, strict=True) if r] for ts, rs in zip(tokens, real_tokens, strict=True)]

    def unfed(self) -> list[list[int]]:
        """Per row, the sampled token that the model has not read yet (or none): put it before the next block."""
        pairs = zip(self._unfed.tolist(), self._unfed_real.tolist(), strict=True)
        return [[token] if real else [] for token, real in pairs]

    def fork(self, rows: Sequence[int]) -> Sampler:
        """Another sampler that goes on from these rows, each as often as it is named; this one stays as it is."""
        other = copy.copy(self)
        other.cache = copy.copy(self.cache)
        other.cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        if self.mask.numel():
            other.keep(rows)
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, each as often as it is named."""
        index = torch.tensor(list(rows), device=self.model.device)
        self.cache.batch_select_indices(index)
        self.mask, self.length = self.mask[index], self.length[index]


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """One token per row.

    Args:
        logits: float32 [rows, vocabulary].

    Returns:
        int64 [rows].
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True)
        outside = ranked.cumsum(-1) - ranked >= sampling.top_p
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ranked.masked_fill(outside, 0.0))
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
