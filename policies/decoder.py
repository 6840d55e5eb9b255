"""One forward pass of new tokens over cached sequences, with as few operations as it takes.

For a small model on a CPU most of a decoding step in transformers is not arithmetic: it makes masks, wraps caches and
launches a dozen small operations per layer. `LlamaDecoder` runs the layers of Llama- and Qwen2-shaped models (their own
modules and weights, adapters included) without that; `AnyDecoder` asks transformers, for every other model whose
layers attend to everything.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from transformers import DynamicCache, LlamaForCausalLM, Qwen2ForCausalLM

from policies.kv_slots import Slots
from tasks.errors import BadInput

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles do not depend on the length of the sequence."""


class Decoder(Protocol):
    """A model as the batched sampler uses it."""

    slots: Slots
    """Its cache."""

    def forward(
        self, ids: torch.Tensor, places: torch.Tensor, last: torch.Tensor, start: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read new tokens of the sequences in slots `start`, `start` + 1, ...

        Args:
            ids: int64 [rows, tokens]; behind a row's own tokens anything may stand.
            places: int64 [rows, tokens]: where in its sequence each token stands.
            last: int64 [rows]: the column of each row's last own token.
            start: the first row's slot.
            length: more than any of `places`; the cache has room for it.

        Returns:
            After each row's last token: the last hidden state [rows, width], and float32 logits [rows, vocabulary].
        """
        ...


def build_decoder(model: Any) -> Decoder:
    """The leanest decoder for a model.

    Raises:
        BadInput: layers that do not attend to the whole sequence.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise BadInput(
            f"policy.sampler=batched: {type(inner).__name__} has layers of kind {', '.join(sorted(kinds))}, "
            "and it can cache full_attention only; use policy.sampler=hf"
        )
    if type(inner) in (LlamaForCausalLM, Qwen2ForCausalLM) and config.rope_parameters["rope_type"] in STATIC_ROPE:
        return LlamaDecoder(inner)
    return AnyDecoder(model)


def empty_slots(model: Any) -> Slots:
    """A cache for a model."""
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return Slots(config.num_hidden_layers, heads, width, model.dtype, model.device)


def additive_mask(places: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """[rows, 1, tokens, length]: 0 where a token may look, at its own place and before it; minus infinity elsewhere."""
    seen = torch.arange(length, device=places.device) <= places[:, None, :, None]
    return torch.zeros(seen.shape, dtype=dtype, device=places.device).masked_fill_(~seen, float("-inf"))


class LlamaDecoder:
    """The layers of a Llama or Qwen2, one after the other."""

    def __init__(self, model: Any) -> None:
        config, self.model, self.head = model.config, model.model, model.lm_head
        self.slots = empty_slots(model)
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.epsilon = config.rms_norm_eps
        self.turns = torch.empty(0, 2, 1, 1)

    def _angles(self, places: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines at `places`, each [rows, tokens, 1, head width]."""
        if len(self.turns) < length:
            every = torch.arange(2 * length, device=places.device)[None]
            cosines, sines = self.model.rotary_emb(self.model.embed_tokens.weight, every)
            signs = torch.ones_like(sines[0, 0])
            signs[: len(signs) // 2] = -1
            self.turns = torch.stack([cosines[0], sines[0] * signs], 1)[:, :, None]
        cosines, sines = self.turns[places].unbind(2)
        return cosines, sines

    def _norm(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], module.weight, self.epsilon)

    def forward(
        self, ids: torch.Tensor, places: torch.Tensor, last: torch.Tensor, start: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Decoder.forward`."""
        (rows, tokens), queries, turned = ids.shape, self.heads, self.heads + self.key_heads
        x = self.model.embed_tokens(ids)
        cosines, sines = self._angles(places, length)
        mask = additive_mask(places, length, x.dtype)
        if tokens == 1:
            mask = mask.expand(rows, self.key_heads, self.heads // self.key_heads, length).contiguous()
        slots = torch.arange(start, start + rows, device=ids.device)[:, None]
        for number, layer in enumerate(self.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            h = self._norm(layer.input_layernorm, x)
            both = torch.cat([attention.q_proj(h), attention.k_proj(h), attention.v_proj(h)], -1)
            both = both.view(rows, tokens, turned + self.key_heads, -1)
            turn = both[:, :, :turned]
            # Rotating the two halves of a head is a roll by half its width, the sign being in the sines.
            turn = torch.addcmul(turn * cosines, turn.roll(turn.shape[-1] // 2, -1), sines)
            self.slots.write(number, slots, places, torch.stack([turn[:, :, queries:], both[:, :, turned:]], 2))
            keys, values = self.slots.read(number, start, start + rows, length)
            if tokens == 1:
                seen = attend_once(turn[:, 0, :queries], keys, values, mask)
            else:
                seen = F.scaled_dot_product_attention(
                    turn[:, :, :queries].transpose(1, 2), keys, values, mask, enable_gqa=self.heads != self.key_heads
                ).transpose(1, 2)
            x = x + attention.o_proj(seen.reshape(rows, tokens, -1))
            h = self._norm(layer.post_attention_layernorm, x)
            x = x + mlp.down_proj(mlp.act_fn(mlp.gate_proj(h)) * mlp.up_proj(h))
        own = x[:, 0] if tokens == 1 else x[torch.arange(rows, device=ids.device), last]
        hidden = self._norm(self.model.norm, own)
        return hidden, self.head(hidden).float()


def attend_once(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention of one new token per row, in plain batched products: the fused kernel works in tiles of many tokens.

    Args:
        queries: [rows, heads, width].
        keys: [rows, key heads, length, width], like values.
        mask: additive, [rows, key heads, heads per key head, length].

    Returns:
        [rows, heads, width].
    """
    rows, key_heads, length, width = keys.shape
    grouped = queries.reshape(rows * key_heads, -1, width)
    keys, values = keys.view(rows * key_heads, length, width), values.view(rows * key_heads, length, width)
    scores = torch.baddbmm(mask.view(*grouped.shape[:2], length), grouped, keys.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), values).view(queries.shape)


class SlotCache(DynamicCache):  # type: ignore[misc]
    """transformers' view of some slots during one pass."""

    def __init__(self, slots: Slots, places: torch.Tensor, start: int, length: int) -> None:
        super().__init__()
        self.table, self.places, self.start, self.length = slots, places, start, length
        self.rows = torch.arange(start, start + len(places), device=places.device)[:, None]

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Enter keys and values [rows, key heads, tokens, head width]; returns all up to `length`."""
        self.table.write(layer_idx, self.rows, self.places, torch.stack([keys, values], 1).permute(0, 3, 1, 2, 4))
        return self.table.read(layer_idx, self.start, self.start + len(self.rows), self.length)


class AnyDecoder:
    """Any model of transformers with a plain KV cache, through its own forward."""

    def __init__(self, model: Any) -> None:
        self.model, self.slots = model, empty_slots(model)

    def forward(
        self, ids: torch.Tensor, places: torch.Tensor, last: torch.Tensor, start: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Decoder.forward`."""
        output = self.model(
            input_ids=ids,
            attention_mask=additive_mask(places, length, self.model.dtype),
            position_ids=places,
            past_key_values=SlotCache(self.slots, places, start, length),
            use_cache=True,
            output_hidden_states=True,
        )
        rows = torch.arange(len(ids), device=ids.device)
        return output.hidden_states[-1][rows, last], output.logits[rows, last].float()
