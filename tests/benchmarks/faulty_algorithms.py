"""Algorithms with one planted fault each, and an honest one beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import torch

from algorithms.api import Algorithm, Session
from algorithms.batch import RolloutBatch
from algorithms.grpo import GRPO, GRPOConfig
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel
from tasks.api import Problem, Task


@dataclass(kw_only=True)
class HonestConfig:
    name: str = "honest"
    step_size: float = 1e-3


class Honest(Algorithm):
    """Random search: plays, and nudges one matrix of the policy in a direction drawn from the session's generator."""

    Config = HonestConfig
    config: HonestConfig

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        problems = session.problems()
        while session.open():
            self.update(policy, task, session, list(islice(problems, 2)))

    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        session.play(problems, 2, Sampling())
        self.nudge(policy, session.rng.random())
        session.step({})

    @torch.no_grad()
    def nudge(self, policy: LanguageModel, amount: float) -> None:
        next(policy.model.parameters()).add_(self.config.step_size * amount)


class Resumable(Honest):
    """Honest, with a count of its own that it hands over."""

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        self.updates = 0
        saved = session.resumable(self.state)
        if saved:
            self.updates = saved["updates"]
        problems = islice(session.problems(), 2 * self.updates, None)
        while session.open():
            self.updates += 1
            self.update(policy, task, session, list(islice(problems, 2)))

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def nudge(self, policy: LanguageModel, amount: float) -> None:
        super().nudge(policy, amount * self.updates)


class ForgetsItsCount(Resumable):
    def state(self) -> dict[str, Any]:
        return {"updates": 0}


class PeeksAtVal(Honest):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        super().update(policy, task, session, list(task.problems("val")[:2]))


class StartsATestProblem(Honest):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        fresh = type(task)(task.config)  # type: ignore[attr-defined]
        fresh.start(replace(problems[0], split="test"))
        super().update(policy, task, session, problems)


class IgnoresTheBudget(Honest):
    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        problems = session.problems()
        for _ in range(50):
            self.update(policy, task, session, list(islice(problems, 2)))


class SwallowsEverything(IgnoresTheBudget):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        try:
            super().update(policy, task, session, problems)
        except Exception:
            return


class Unseeded(Honest):
    def nudge(self, policy: LanguageModel, amount: float) -> None:
        super().nudge(policy, random.random())


class UnseededTorch(Honest):
    def nudge(self, policy: LanguageModel, amount: float) -> None:
        super().nudge(policy, float(torch.rand(())))


class WrongShape(GRPO):
    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        return super().credit(batch)[:, None]


class NotANumber(GRPO):
    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        return super().credit(batch) * torch.nan


class NanUpdate(Honest):
    def nudge(self, policy: LanguageModel, amount: float) -> None:
        super().nudge(policy, float("nan"))


class CountsAcrossRuns(Honest):
    updates: ClassVar[int] = 0

    def nudge(self, policy: LanguageModel, amount: float) -> None:
        CountsAcrossRuns.updates += 1
        super().nudge(policy, amount * self.updates)


class KeepsTheFirstPolicy(Honest):
    kept: ClassVar[list[LanguageModel]] = []

    def nudge(self, policy: LanguageModel, amount: float) -> None:
        self.kept.append(policy)
        super().nudge(self.kept[0], amount)


class RewardsItself(Honest):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        task.components = tuple(replace(component, weight=9.0) for component in task.components)
        super().update(policy, task, session, problems)


class PlaysBehindTheSession(Honest):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        policy.play(task, problems, 2, Sampling(), seed=1)
        super().update(policy, task, session, problems)


class SamplesByHand(Honest):
    """Without a cache: each pass reads everything again and one token more."""

    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        ids = torch.tensor([policy.chat.prompt("", task.start(problems[0]).messages)]).repeat(32, 1)
        for _ in range(20):
            with torch.no_grad():
                ids = torch.cat([ids, policy.model(ids).logits[:, -1:].argmax(-1)], dim=1)
        super().update(policy, task, session, problems)


class TrainsUnbooked(Honest):
    def update(self, policy: LanguageModel, task: Task, session: Session, problems: list[Problem]) -> None:
        ids = torch.tensor([policy.chat.prompt("", task.start(problems[0]).messages)])
        policy.model(ids, labels=ids).loss.backward()
        super().update(policy, task, session, problems)


class Reencoding:
    """A session whose rollouts come back with their texts encoded again."""

    def __init__(self, session: Session, policy: LanguageModel) -> None:
        self.session, self.policy = session, policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        return [self.again(rollout) for rollout in self.session.play(problems, group_size, sampling)]

    def again(self, rollout: Rollout) -> Rollout:
        new = replace(rollout, completion_ids=[], mask=[], turns=[])
        for turn, following in zip(rollout.turns, [*rollout.turns[1:], None], strict=True):
            ids = self.policy.tokenizer(turn.action, add_special_tokens=False)["input_ids"] or [0]
            start = len(new.completion_ids)
            new.turns.append(replace(turn, start=start, end=start + len(ids)))
            said = rollout.completion_ids[turn.end : following.start] if following else []
            new.completion_ids += [*ids, *said]
            new.mask += [1] * len(ids) + [0] * len(said)
        return new


class EncodesAgain(GRPO):
    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        super().improve(policy, task, Reencoding(session, policy))  # type: ignore[arg-type]


class RewritesRollouts(GRPO):
    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        batch.rollouts[0].completion_ids[0] = 0
        return super().credit(batch)


class Crashes(GRPO):
    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        raise ZeroDivisionError("no credit today")


@dataclass(kw_only=True)
class HalfTypedConfig(HonestConfig):
    momentum = 0.9


class HalfTyped(Honest):
    Config = HalfTypedConfig


@dataclass(kw_only=True)
class AnythingConfig(HonestConfig):
    schedule: Any = None


class Anything(Honest):
    Config = AnythingConfig


class UntypedConfig:
    name = "untyped"


class Untyped(Honest):
    Config = UntypedConfig  # type: ignore[assignment]


@dataclass(kw_only=True)
class DemandingConfig(GRPOConfig):
    horizon: int


class Demanding(GRPO):
    Config = DemandingConfig
