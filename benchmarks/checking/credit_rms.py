"""How large an algorithm's credit is, by the span that it falls on and by the component that it comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import torch

from algorithms.batch import RolloutBatch
from algorithms.policy_gradient import PolicyGradient

ELSEWHERE = "elsewhere"
"""Action tokens that no component's span holds."""

ABLATED = 3
"""Batches of which the components' parts are measured: each takes one more call of `credit`, which may be slow."""


@dataclass(slots=True)
class CreditRms:
    """Root mean squares of the credit, one a batch."""

    everywhere: list[float] = field(default_factory=list)
    """Over all action tokens."""
    by_span: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Over the tokens that a component judges, for components with spans; and over those `ELSEWHERE`."""
    by_component: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Over all action tokens, of the change in credit where the component's weight is set to 0; of the first `ABLATED`
    batches."""

    def add(self, batch: RolloutBatch, credit: torch.Tensor) -> None:
        """Measure one batch; `credit` is float32 [rollouts, tokens]."""
        self.everywhere.append(rms(credit, batch.action_mask))
        spans = batch.span_mask()
        narrow = (spans.sum((0, 1)) < batch.action_mask.sum()).tolist()
        if any(narrow):
            for k, component in enumerate(batch.components):
                if narrow[k]:
                    self.by_span[component.name].append(rms(credit, spans[:, :, k]))
            self.by_span[ELSEWHERE].append(rms(credit, batch.action_mask & ~spans[:, :, narrow].any(2)))


def rms(credit: torch.Tensor, mask: torch.Tensor) -> float:
    """Over the tokens of a mask; both [rollouts, tokens]. NaN where there are none."""
    return float(credit[mask].square().mean().sqrt())


@contextmanager
def measured_credit(algorithm: PolicyGradient) -> Iterator[CreditRms]:
    """Measure the credit of every batch while the algorithm improves a policy.

    A component's part is what its weight makes: for that the credit is computed again by a fresh instance, in the same
    state, on the same batch with the weight at 0.
    """
    found = CreditRms()
    original = algorithm.credit

    def per_token(credit: torch.Tensor, batch: RolloutBatch) -> torch.Tensor:
        return (credit if credit.dim() == 2 else credit[:, None]) * batch.action_mask

    def credit(batch: RolloutBatch) -> torch.Tensor:
        state, draws = algorithm.state(), algorithm.session.rng.getstate()
        advantages = original(batch)
        after = algorithm.session.rng.getstate()
        whole = per_token(advantages, batch)
        found.add(batch, whole)
        for k, component in enumerate(batch.components if len(found.everywhere) <= ABLATED else ()):
            twin = type(algorithm)(algorithm.config)
            twin.policy, twin.task, twin.session = algorithm.policy, algorithm.task, algorithm.session
            twin.restore(state)
            algorithm.session.rng.setstate(draws)
            weights = batch.weights.clone()
            weights[k] = 0
            without = per_token(twin.credit(replace(batch, weights=weights)), batch)
            found.by_component[component.name].append(rms(whole - without, batch.action_mask))
        algorithm.session.rng.setstate(after)
        return advantages

    with patch.object(algorithm, "credit", credit):
        yield found
