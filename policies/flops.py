"""Model FLOPs by formula: a multiply-add is two operations, and only matrix products count.

Per token at context length c (tokens it can see, itself included), with P the weights of all matrices that a token is
multiplied with (the embedding table counts once, as the output head) and L layers of attention width A:

    forward(c) = 2 P + 4 L A c          backward = 2 x forward

Scores and weighted sum of attention are each 2 A c per layer. Over n tokens from context c0 the sum over c is exact.
Decoding computes the head for every token, prefilling for the last one only; training computes it for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the formula needs of a causal language model."""

    body: int
    """Weights of all matrices but the output head."""
    head: int
    """Weights of the output head."""
    layers: int
    attention_width: int
    """Query heads times head width."""

    def forward(self, tokens: int, context: int = 0, heads: int | None = None) -> float:
        """FLOPs of a forward pass over `tokens` new tokens after `context` cached ones.

        Args:
            tokens: new tokens of one sequence.
            context: tokens already in the cache.
            heads: tokens that the output head is computed for; all of them if None.
        """
        seen = tokens * context + tokens * (tokens + 1) / 2
        heads = tokens if heads is None else heads
        return 2.0 * self.body * tokens + 2.0 * self.head * heads + 4.0 * self.layers * self.attention_width * seen

    def update(self, tokens: int, heads: int | None = None) -> float:
        """FLOPs of a forward and a backward pass over one sequence of `tokens`."""
        return 3.0 * self.forward(tokens, heads=heads)


def model_shape(model: torch.nn.Module) -> ModelShape:
    """Read the shape off a transformers causal language model."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    head = config.vocab_size * config.hidden_size
    embeddings = {
        id(p) for module in model.modules() if isinstance(module, torch.nn.Embedding) for p in [module.weight]
    }
    output = model.get_output_embeddings()  # type: ignore[operator]
    body = sum(
        p.numel() for p in model.parameters() if p.ndim == 2 and id(p) not in embeddings and p is not output.weight
    )
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(body, head, config.num_hidden_layers, head_width * config.num_attention_heads)
