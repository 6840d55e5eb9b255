"""Linear value heads: the return of each reward component, predicted from the policy's hidden state.

    V_k(h) = w_k . h + c_k,      loss = mean over turns and components of (V_k(h) - G_k)^2

One regression per component on its return G, with an optimiser of its own. The hidden states were kept from sampling,
so the policy gets no gradient from here and no further pass through it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from algorithms.optimizer_state import optimizer_state, put_optimizer_state

STEPS = 8
"""Gradient steps per update."""


class ValueHeads:
    """One linear head per component.

    Args:
        hidden: float32 [B, T, width] of the first update; NaN where there was no turn.
        returns: float32 [B, T, K] of the first update, NaN likewise; the heads begin as the mean of each component.
        learning_rate: AdamW's.
    """

    def __init__(self, hidden: torch.Tensor, returns: torch.Tensor, learning_rate: float) -> None:
        self.linear = torch.nn.Linear(hidden.shape[-1], returns.shape[-1], device=hidden.device)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.copy_(returns.flatten(0, 1).nanmean(0).nan_to_num(0.0))
        self.optimizer = torch.optim.AdamW(self.linear.parameters(), lr=learning_rate, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"linear": self.linear.state_dict(), "optimizer": optimizer_state(self.optimizer)}

    @classmethod
    def restored(cls, state: Mapping[str, Any], learning_rate: float, device: torch.device) -> ValueHeads:
        """The heads that `state` was returned for."""
        components, width = state["linear"]["weight"].shape
        heads = cls(torch.zeros(1, 1, width, device=device), torch.zeros(1, 1, components), learning_rate)
        heads.linear.load_state_dict(dict(state["linear"]))
        put_optimizer_state(heads.optimizer, state["optimizer"])
        return heads

    @torch.no_grad()
    def predict(self, hidden: torch.Tensor) -> torch.Tensor:
        """Values [B, T, K] of states [B, T, width]; NaN where there was no turn."""
        values: torch.Tensor = self.linear(hidden)
        return values

    @torch.enable_grad()  # TRL asks for credit under no_grad
    def learn(self, hidden: torch.Tensor, returns: torch.Tensor) -> None:
        """Move the values towards the returns. A return that is NaN teaches nothing."""
        known = ~returns.isnan()
        states, wanted = hidden.detach().nan_to_num(0.0), returns.nan_to_num(0.0)
        for _ in range(STEPS):
            loss = ((self.linear(states) - wanted).square() * known).sum() / known.sum().clamp(min=1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
