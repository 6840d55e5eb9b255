"""The weights of a policy that may change: all of them, or the adapter's where only that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


def trained_weights(policy: LanguageModel) -> dict[str, torch.Tensor]:
    """The parameters that take gradients, by name: the tensors themselves, not copies."""
    parameters = policy.model.named_parameters()
    return {name: parameter.detach() for name, parameter in parameters if parameter.requires_grad}


@torch.no_grad()
def put_weights(policy: LanguageModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a policy the weights that `trained_weights` said of one like it.

    Raises:
        ValueError: they are another model's.
    """
    own = trained_weights(policy)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError(f"the saved weights are not of this policy's shape ({policy.name})")
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def all_finite(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether there is no NaN or infinity in them."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
