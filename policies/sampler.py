"""The one way in which actions are sampled: sequences go in, actions come out, and sequences go on or are forgotten.

    sampler.add(prompt)                 a sequence that waits for an action
    for action in sampler.actions():    actions, as they end
        sampler.feed(action.key, ids)       what is said next: the sequence waits for another action
        sampler.fork(action.key, blocks)    the same, several ways at once, each a sequence of its own
                                            neither: the sequence is over and its memory is used for another

Backends: `batched` (policies/batched_sampler.py) and `hf` (policies/hf_sampler.py). Both draw from the same
distribution, that of a plain forward pass over the whole sequence; which random numbers they draw differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from policies.api import Sampling
from tasks.errors import BadInput


@dataclass(frozen=True, slots=True)
class Action:
    """What was sampled for one sequence."""

    key: int
    """The sequence's, as `add`, `feed` or `fork` gave it."""
    ids: list[int]
    """Sampled ids; the end token is the last one where it came."""
    logprobs: list[float] | None
    """Where asked for: of each id, under the distribution at the sampling's temperature (at 1 where that is 0)."""
    hidden: torch.Tensor | None
    """Where asked for: the last hidden state before the first id, float32 [width]."""


class Sampler(Protocol):
    """Samples an action for every sequence that waits for one. Keys count up in the order of entering."""

    def add(self, ids: list[int]) -> int:
        """Enter a sequence; returns its key."""
        ...

    def feed(self, key: int, ids: list[int]) -> None:
        """Let a sequence whose action was just yielded read `ids` and act again."""
        ...

    def fork(self, key: int, blocks: Sequence[list[int]]) -> list[int]:
        """Let a sequence whose action was just yielded go on once per block; returns the keys of the new sequences."""
        ...

    def actions(self) -> Iterator[Action]:
        """Actions in the order in which they end, until no sequence waits. One that is not fed or forked before the
        next action is asked for is over."""
        ...


def learned_positions(model: Any) -> int | None:
    """How many places of a sequence a model has numbers for; None where it computes them as far as needed."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    words = model.get_input_embeddings()
    embeddings = (each for each in model.modules() if isinstance(each, torch.nn.Embedding) and each is not words)
    tables = [each.num_embeddings for each in embeddings]
    tables += [len(table) for name, table in model.named_buffers() if name.endswith("embed_positions")]
    # OPT has two more than it says.
    return most if most and any(most <= size <= most + 2 for size in tables) else None


def check_room(tokens: int, positions: int | None) -> None:
    """Refuse a sequence that a model's `learned_positions` do not reach.

    Raises:
        BadInput: it may come to more tokens.
    """
    if positions is not None and tokens > positions:
        raise BadInput(
            f"the policy has {positions} learned positions, and an episode may come to {tokens} tokens; "
            "lower task.max_action_tokens or task.max_turns, or use another model"
        )


def build_sampler(
    name: str, model: Any, *, pad: int, ends: Sequence[int], limit: int, sampling: Sampling, seed: int, first: int = 0
) -> Sampler:
    """A sampler that has read nothing yet.

    Args:
        name: one of `policies.source.SAMPLERS`.
        model: a causal language model; used under no_grad, in the mode it is in.
        pad: id written into holes.
        ends: ids that end an action.
        limit: tokens that an action may have.
        sampling: how actions are drawn.
        seed: of the draws.
        first: the first sequence's key, where other processes sample those before it (`batched` only).

    Raises:
        BadInput: `batched` cannot run this model.
    """
    if name == "hf":
        from policies.hf_sampler import HFSampler

        return HFSampler(model, pad=pad, ends=ends, limit=limit, sampling=sampling, seed=seed)
    from policies.batched_sampler import BatchedSampler

    return BatchedSampler(model, pad=pad, ends=ends, limit=limit, sampling=sampling, seed=seed, first=first)


def draw(logits: torch.Tensor, sampling: Sampling, chances: torch.Tensor) -> torch.Tensor:
    """One token per row, by the inverse of the cumulative distribution.

    Args:
        logits: float32 [rows, vocabulary].
        chances: float64 [rows] on any device, uniform in [0, 1): one number decides one draw.

    Returns:
        int64 [rows].
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits if sampling.temperature == 1 else logits / sampling.temperature, dim=-1)
    order = None
    if sampling.top_p < 1:
        probabilities, order = probabilities.sort(dim=-1, descending=True)
        probabilities = probabilities.masked_fill(probabilities.cumsum(-1) - probabilities >= sampling.top_p, 0.0)
    # In float64, which MPS has not, or the sum's rounding would move the odds of rare tokens of a large vocabulary.
    below = (probabilities.cpu() if logits.device.type == "mps" else probabilities).cumsum(-1, dtype=torch.float64)
    token = torch.searchsorted(below, (chances.to(below.device) * below[:, -1])[:, None], right=True).to(logits.device)
    return (token if order is None else order.gather(-1, token)).squeeze(-1)
