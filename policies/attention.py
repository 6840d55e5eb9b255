"""What a model's layers attend to, by its configuration and the code with which transformers makes their caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from transformers.cache_utils import get_layer_types_and_kwargs

from tasks.errors import BadInput

T = TypeVar("T")
FULL, SLIDING = "full_attention", "sliding_attention"
WITHOUT = ("linear_attention", "conv", "mamba", "moe", "mlp")
"""Kinds of layers without attention."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention of a causal language model."""

    layers: int
    """Layers that attend; others recur, convolve or hold experts only."""
    heads: int
    key_heads: int
    key_width: int
    """Of one head, like `value_width`."""
    value_width: int
    windows: dict[str, int | None] | None
    """By kind of layer, how many tokens one sees, itself included; None: all before it. None in the place of the whole
    where some layers do something else (recur, say, or attend in chunks)."""

    @property
    def width(self) -> float:
        """Query heads times head width, the mean of the keys' and the values'."""
        return self.heads * (self.key_width + self.value_width) / 2

    def masks(self, build: Callable[[int | None], T]) -> T | dict[str, T]:
        """Masks as the model's forward takes them: one, or one for each kind of its layers.

        Args:
            build: makes the mask of a window.

        Raises:
            BadInput: for some layers no mask decides what they see.
        """
        if self.windows is None:
            raise BadInput("the model has layers that neither attend to everything nor in a sliding window")
        found = {kind: build(window) for kind, window in self.windows.items()}
        return found if len(found) > 1 else next(iter(found.values()))


def attention_of(config: Any) -> Attention:
    """The attention of a configuration's model.

    Raises:
        BadInput: it has none, or one that only its own code knows.
    """
    text = config.get_text_config()
    name = type(text).__name__.removesuffix("Config")
    kinds, settings = get_layer_types_and_kwargs(text)
    layers = [kind for kind in getattr(text, "layer_types", None) or kinds if kind not in WITHOUT]
    heads = getattr(text, "num_attention_heads", None)
    if heads is None or not layers:
        raise BadInput(f"{name} has no attention; a policy must be a transformer, at least in part")
    if "local" in (getattr(text, "attention_layers", None) or ()):
        raise BadInput(f"{name} has local attention layers, whose windows count paddings; use another model")
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    latent = getattr(text, "qk_nope_head_dim", None)
    windows = {kind: each.get("sliding_window") for kind, each in zip(kinds, settings, strict=True)}
    return Attention(
        layers=len(layers),
        heads=heads,
        key_heads=getattr(text, "num_key_value_heads", None) or heads,
        key_width=latent + text.qk_rope_head_dim if latent else width,
        value_width=text.v_head_dim if latent else width,
        windows=windows if set(windows) <= {FULL, SLIDING} else None,
    )
