"""One forward pass of new tokens over cached sequences, with as few operations as it takes.

For a small model on a CPU most of a decoding step in transformers is not arithmetic: it makes masks, wraps caches and
launches a dozen small operations per layer. `LlamaDecoder` runs the layers of Llama- and Qwen2-shaped models (their own
modules and weights, adapters included) without that; `AnyDecoder` asks transformers, for every other model whose
layers attend to everything or in a sliding window. Since nobody knows all of those, `check_decoder` compares it with
the model's own forward pass before anything is played.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from transformers import DynamicCache, LlamaForCausalLM, Qwen2ForCausalLM

from policies.attention import FULL, attention_of
from policies.kv_slots import Slots
from tasks.errors import BadInput, require

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
    """The leanest decoder for a model that `check_decoder` does not refuse."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    config = inner.config.get_text_config()
    lean = type(inner) in (LlamaForCausalLM, Qwen2ForCausalLM) and attention_of(config).windows == {FULL: None}
    return LlamaDecoder(inner) if lean and config.rope_parameters["rope_type"] in STATIC_ROPE else AnyDecoder(model)


@torch.no_grad()
def check_decoder(model: Any) -> None:
    """Refuse a model that the batched sampler would not play as its own forward pass does.

    Two sequences are read in pieces of unequal length, the second behind the first, as in play.

    Raises:
        BadInput: it cannot be run this way, or gives other logits.
    """
    name = type(model).__name__
    try:
        decoder = build_decoder(model)
        if isinstance(decoder, LlamaDecoder):
            return
        vocabulary = model.get_input_embeddings().num_embeddings
        rows = [[(7919 * place + seed) % vocabulary for place in range(14)] for seed in (11, 12345)]
        whole = model(input_ids=torch.tensor(rows, device=model.device), use_cache=False).logits.float()
        done, errors = [0, 0], []
        for piece in ((8, 5), (1, 1), (3, 4)):
            width = max(piece)
            ids = [row[at : at + width] for row, at in zip(rows, done, strict=True)]
            begin = torch.tensor(done, device=model.device)
            places = begin[:, None] + torch.arange(width, device=model.device)
            last = torch.tensor(piece, device=model.device) - 1
            decoder.slots.fit(2, 32)
            _, logits = decoder.forward(torch.tensor(ids, device=model.device), places, last, 0, max(done) + width)
            done = [at + more for at, more in zip(done, piece, strict=True)]
            expected = torch.stack([whole[row, at - 1] for row, at in enumerate(done)])
            errors += ((logits - expected).norm(dim=-1) / expected.norm(dim=-1)).tolist()
    # A model whose cache or masks are of another kind raises nearly anything.
    except Exception as error:
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
    else:
        # Of six, the fourth smallest: one token that goes to another expert after rounding is no fault.
        off = sorted(errors)[3]
        if off <= (1e-3 if model.dtype == torch.float32 else 0.1):
            return
        reason = f"its logits come out {off:.0%} off"
    raise BadInput(f"policy.sampler=batched cannot run {name} ({reason}); use policy.sampler=hf")


def empty_slots(model: Any) -> Slots:
    """A cache for a model."""
    found = attention_of(model.config)
    require(found.key_width == found.value_width, "its keys and values are of unequal width")
    return Slots(found.layers, found.key_heads, found.key_width, model.dtype, model.device)


def additive_mask(places: torch.Tensor, length: int, dtype: torch.dtype, window: int | None = None) -> torch.Tensor:
    """[rows, 1, tokens, length]: 0 where a token may look, at its own place and before it (the last `window` places,
    its own included, where there is one); minus infinity elsewhere."""
    other = torch.arange(length, device=places.device)
    seen = other <= places[:, None, :, None]
    if window is not None:
        seen &= other > places[:, None, :, None] - window
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
        self.model, self.slots, self.attention = model, empty_slots(model), attention_of(model.config)

    def forward(
        self, ids: torch.Tensor, places: torch.Tensor, last: torch.Tensor, start: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Decoder.forward`."""
        output = self.model(
            input_ids=ids,
            attention_mask=self.attention.masks(lambda window: additive_mask(places, length, self.model.dtype, window)),
            position_ids=places,
            past_key_values=SlotCache(self.slots, places, start, length),
            use_cache=True,
            output_hidden_states=True,
        )
        rows = torch.arange(len(ids), device=ids.device)
        return output.hidden_states[-1][rows, last], output.logits[rows, last].float()
