"""An optimiser's state in the form of `algorithms.api.State`: torch numbers parameters, a state's keys are text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from algorithms.api import State


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state with text as keys."""
    state = optimizer.state_dict()
    return {**state, "state": {str(number): each for number, each in state["state"].items()}}


def put_optimizer_state(optimizer: torch.optim.Optimizer, state: State) -> None:
    """The inverse of `optimizer_state`."""
    optimizer.load_state_dict({**state, "state": {int(number): each for number, each in state["state"].items()}})
