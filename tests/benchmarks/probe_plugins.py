"""For tests of the probe: a task with a gradient to find whatever the policy, and algorithms with planted credit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from faulty_tasks import Echo, EchoEpisode

from algorithms.batch import RolloutBatch
from algorithms.grpo import GRPO, GRPOConfig
from tasks.api import Component, Verdict

COMPONENTS = (
    Component(name="right", weight=1.0, low=0, high=1, about="the action begins with an even letter"),
    Component(name="idle", weight=1.0, low=0, high=0, about="never anything"),
)


class EvenEpisode(EchoEpisode):
    """Solved where the first letter's code is even: half of what a policy with random weights writes."""

    def right(self, action: str) -> bool:
        return ord((action or "a")[0]) % 2 == 0

    def step(self, action: str) -> Verdict:
        verdict = super().step(action)
        spans = {"right": (0, min(1, len(action)))}
        return Verdict(rewards=verdict.rewards, feedback=verdict.feedback, spans=spans, solved=verdict.solved)


class Even(Echo):
    components = COMPONENTS[:1]
    max_turns = 1
    max_action_tokens = 6
    episode = EvenEpisode


class EvenAndIdle(Even):
    components = COMPONENTS

    class episode(EvenEpisode):
        def rewards(self, action: str) -> dict[str, float]:
            return super().rewards(action) | {"idle": 0.0}


@dataclass(kw_only=True)
class PlantedConfig(GRPOConfig):
    name: str = "planted"


class Against(GRPO):
    """Follows the gradient the other way."""

    Config = PlantedConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        return -super().credit(batch)


class Noise(GRPO):
    """Credit drawn at random."""

    Config = PlantedConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        return torch.tensor([self.session.rng.gauss(0, 1) for _ in batch.rollouts])


class Nothing(GRPO):
    """No credit at all."""

    Config = PlantedConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        return 0 * super().credit(batch)
