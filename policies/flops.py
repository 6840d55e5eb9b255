"""Model FLOPs by formula: a multiply-add is two operations, and only matrix products count.

Per token at context length c (tokens it can see, itself included), with P the weights of all matrices that a token is
multiplied with (the embedding table counts once, as the output head; the adapters of LoRA count too), T those of them
that are trained, and L layers of attention width A:

    forward(c) = 2 P + 4 L A c          backward(c) = 2 P + 2 T + 8 L A c

The backward pass multiplies by every matrix once for the gradient of its input, and by every trained one once more for
the gradient of its weights; where all weights are trained it is twice the forward pass. Scores and weighted sum of
attention are each 2 A c per layer. Over n tokens from context c0 the sum over c is exact. Decoding computes the head
for every token, prefilling for the last one only; training computes it for the completion.

A prompt counts for every rollout, although the sampler, and the update where that saves much, read one that rollouts
share only once, or, with policy.sampler=hf, all that was said again each turn: what is booked does not depend on the
engine.

Left out: what a library multiplies beyond that (paddings, the masked half of the attention matrix, activations that
gradient checkpointing computes again), value heads (one product of the hidden width per turn), and that the gradient of
the first layer's input is not needed where the embedding is frozen.
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
    trained_body: int
    """Of the body's weights, those that are trained."""
    trained_head: int
    """Of the head's."""

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
        frozen = 2.0 * (self.body - self.trained_body) * tokens
        frozen += 2.0 * (self.head - self.trained_head) * (tokens if heads is None else heads)
        return 3.0 * self.forward(tokens, heads=heads) - frozen


def model_shape(model: torch.nn.Module) -> ModelShape:
    """Read the shape off a transformers causal language model."""
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    head = config.vocab_size * config.hidden_size
    output = model.get_output_embeddings().weight  # type: ignore[operator]
    apart = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)} | {id(output)}
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in apart]
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(
        body=sum(weights(p) for p in matrices),
        head=head,
        layers=config.num_hidden_layers,
        attention_width=head_width * config.num_attention_heads,
        trained_body=sum(weights(p) for p in matrices if p.requires_grad),
        trained_head=head if output.requires_grad else 0,
    )


def weights(parameter: torch.nn.Parameter) -> int:
    """How many weights a parameter stands for; of 4-bit ones, bitsandbytes packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
