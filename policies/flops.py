"""Model FLOPs by formula: a multiply-add is two operations, and only matrix products count.

Per token at context length c (tokens it can see, itself included), with P the weights of all matrices that a token is
multiplied with (the embedding table counts once, as the output head; the adapters of LoRA count too; of the experts of
a mixture the share that a token is sent to), T those of them that are trained, and L attention layers of width A (query
heads times head width; where keys and values differ in width, times the mean):

    forward(c) = 2 P + 4 L A c          backward(c) = 2 P + 2 T + 8 L A c

The backward pass multiplies by every matrix once for the gradient of its input, and by every trained one once more for
the gradient of its weights; where all weights are trained it is twice the forward pass. Scores and weighted sum of
attention are each 2 A c per layer. Over n tokens from context c0 the sum over c is exact. Decoding computes the head
for every token, prefilling for the last one only; training computes it for the completion.

A prompt counts for every rollout, although the sampler, and the update where that saves much, read one that rollouts
share only once, or, with policy.sampler=hf, all that was said again each turn: what is booked does not depend on the
engine.

Left out: what a library multiplies beyond that (paddings, the masked half of the attention matrix, activations that
gradient checkpointing computes again), the scan of recurrent layers, value heads (one product of the hidden width per
turn), that a sliding window shortens c, and that the gradient of the first layer's input is not needed where the
embedding is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from policies.attention import attention_of
from tasks.errors import BadInput, require

CHOSEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_top_k", "moe_topk")
"""Where configurations say how many experts a token is sent to."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the formula needs of a causal language model."""

    body: int
    """Weights of all matrices but the output head; of experts, the share that a token is sent to."""
    head: int
    """Weights of the output head."""
    layers: int
    """Those with attention."""
    attention_width: float
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
    """Read the shape off a transformers causal language model.

    Raises:
        BadInput: it has no attention, or weights of which it is not known how a token meets them.
    """
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    head = config.vocab_size * config.hidden_size
    output = model.get_output_embeddings().weight  # type: ignore[operator]
    apart = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)} | {id(output)}
    used = {
        parameter: weights(parameter) * share
        for name, parameter in model.named_parameters()
        if id(parameter) not in apart and (share := share_used(name, parameter, config))
    }
    attention = attention_of(config)
    return ModelShape(
        body=round(sum(used.values())),
        head=head,
        layers=attention.layers,
        attention_width=attention.width,
        trained_body=round(sum(count for parameter, count in used.items() if parameter.requires_grad)),
        trained_head=head if output.requires_grad else 0,
    )


def share_used(name: str, parameter: torch.nn.Parameter, config: Any) -> float:
    """Which share of a parameter's weights one token is multiplied with: 0 of what is no matrix.

    transformers stacks the experts of a layer: [experts, in, out], and their biases [experts, out].

    Raises:
        BadInput: nobody says.
    """
    if ".experts." not in name:
        known = parameter.ndim < 3 or parameter.shape[1] == 1  # a convolution of each channel by itself
        require(known, f"the FLOPs formula does not know what {name} {list(parameter.shape)} is multiplied with")
        return float(parameter.ndim == 2)
    if parameter.ndim != 3:
        return 0.0
    return chosen_experts(config) / len(parameter)


def chosen_experts(config: Any) -> int:
    """How many experts of a layer a token is sent to.

    Raises:
        BadInput: the configuration does not say.
    """
    for key in CHOSEN:
        if getattr(config, key, None):
            return int(getattr(config, key))
    raise BadInput(f"{type(config).__name__} does not say how many experts a token is sent to ({', '.join(CHOSEN)})")


def weights(parameter: torch.nn.Parameter) -> int:
    """How many weights a parameter stands for; of 4-bit ones, bitsandbytes packs two into a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()
