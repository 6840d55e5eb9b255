"""Gradients as they reach the optimiser, on rollouts that algorithms share, while no weight moves.

An algorithm runs as in a training run, through its own `improve`: its sampling, credit, demonstrations, loss,
micro-batches and accumulation. Only the optimiser's step is taken out, by a hook of torch that reads the gradient and
clears it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from algorithms.api import State
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel
from tasks.api import Problem, Task

LARGEST = 1 << 22
"""Coordinates of a gradient that is kept whole. A larger one is sketched to as many (see `flat_gradient`)."""


class SharedRollouts:
    """Rollouts of the starting policy: the same problems, number and sampling give the same rollouts, to everybody."""

    def __init__(self, task: Task, seed: int, batch_size: int, askers: Sequence[Sampling] = ()) -> None:
        """`batch_size`: the most episodes side by side. `askers`: what one of them keeps, rollouts keep for all."""
        self.task, self.seed, self.batch_size = task, seed, batch_size
        self.kept = {key: any(getattr(each, key) for each in askers) for key in ("hidden", "logprobs")}
        self.played: dict[Any, list[Rollout]] = {}

    def play(
        self, policy: LanguageModel, problems: Sequence[Problem], count: int, sampling: Sampling, *, forks: bool = False
    ) -> list[Rollout]:
        """See `algorithms.api.Session.play` and `play_forks`."""
        from policies.forks import play_forks

        sampling = replace(sampling, **self.kept, batch_size=min(sampling.batch_size, self.batch_size))
        ids = tuple(problem.id for problem in problems)
        # Neither what is kept nor how many are played at once may change what is drawn.
        key = (ids, count, sampling.temperature, sampling.top_p, forks)
        if key not in self.played:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed} {key}".encode()).digest()[:4])
            if forks:
                self.played[key], _ = play_forks(policy, self.task, problems, count, sampling, seed)
            else:
                self.played[key], _ = policy.play(self.task, problems, count, sampling, seed)
        return list(self.played[key])


class ProbeSession:
    """See `algorithms.api.Session`: open for a number of updates, on given problems; nothing is booked or recorded."""

    def __init__(
        self,
        policy: LanguageModel,
        shared: SharedRollouts,
        problems: Sequence[Problem],
        updates: int,
        budget: Mapping[str, float],
        scratch: Path,
    ) -> None:
        self.policy, self.shared, self.updates, self.budget, self.scratch = policy, shared, updates, budget, scratch
        self.order = problems
        self.seed = shared.seed
        self.rng = random.Random(f"algorithm {shared.seed}")
        self.log: list[Any] = []
        self.facts: list[dict[str, float]] = []
        """Of each update: what the algorithm says of its rollouts."""
        self.samples = 0

    def open(self) -> bool:
        """Whether there are batches left."""
        return len(self.facts) < self.updates

    def problems(self) -> Iterator[Problem]:
        """The problems, again and again."""
        return cycle(self.order)

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        """The rollouts that every algorithm gets."""
        return self.shared.play(self.policy, problems, group_size, sampling)

    def play_forks(self, problems: Sequence[Problem], forks: int, sampling: Sampling) -> list[Rollout]:
        """Trees, which only algorithms that fork share."""
        return self.shared.play(self.policy, problems, forks, sampling, forks=True)

    def remaining(self) -> Mapping[str, float]:
        """The limits of the budget, untouched."""
        return self.budget

    def sample(self, contexts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """Actions of its own."""
        self.samples += 1
        limit = self.policy.action_limit(self.shared.task)
        return self.policy.sample(contexts, limit, sampling, self.seed * 1000 + self.samples)[0]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Nothing is booked."""
        yield

    def charge(self, phase: str, **amounts: float) -> None:
        """Nothing is booked."""

    def step(self, metrics: Mapping[str, float]) -> None:
        """Count an update."""
        self.facts.append(dict(metrics))

    def resumable(self, state: Callable[[], State | None], *, weights: bool = True) -> State | None:
        """A probe does not resume."""
        return None

    def keep(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing is recorded."""


@contextmanager
def captured_gradients(policy: LanguageModel) -> Iterator[list[torch.Tensor]]:
    """The gradient of every optimiser step on the policy's weights, in a list that grows; the steps do nothing."""
    weights = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    own = {id(parameter) for parameter in weights}
    found: list[torch.Tensor] = []

    def capture(optimizer: Optimizer, *_: Any) -> None:
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if any(id(parameter) in own for parameter in held):  # value heads have an optimiser of their own
            found.append(flat_gradient(weights))
            for parameter in held:
                parameter.grad = None  # the step then skips it, weight decay included

    handle = register_optimizer_step_pre_hook(capture)
    try:
        yield found
    finally:
        handle.remove()


def flat_gradient(weights: Sequence[torch.nn.Parameter], largest: int = LARGEST) -> torch.Tensor:
    """The gradient as one vector: float32 [coordinates] on the CPU.

    With more than `largest` coordinates it is a count sketch of `largest` (Charikar, Chen and Farach-Colton 2002): each
    coordinate is added with a random sign to a random place, the same for every gradient. Dot products stay what they
    are in expectation; the standard error of a cosine is at most sqrt(2 / largest), .0007.
    """
    parts = [
        torch.zeros(weight.numel()) if weight.grad is None else weight.grad.detach().float().flatten().cpu()
        for weight in weights
    ]
    if sum(part.numel() for part in parts) <= largest:
        return torch.cat(parts)
    generator = torch.Generator().manual_seed(0)
    sketch = torch.zeros(largest)
    for part in parts:
        places = torch.randint(2 * largest, part.shape, generator=generator)
        sketch.index_add_(0, places // 2, part * (places % 2 * 2 - 1))
    return sketch


def gram_matrix(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Dot products of all pairs, summed in float64: [vectors, vectors]."""
    gram = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for start in range(0, vectors[0].numel(), 1 << 18):
        rows = torch.stack([vector[start : start + (1 << 18)] for vector in vectors]).double()
        gram += rows @ rows.T
    return gram
