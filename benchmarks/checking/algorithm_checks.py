"""The rules for algorithms: three small watched runs, and what they have in common."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.checking.rules import RuleViolation, Violations
from benchmarks.checking.watched_run import watch
from benchmarks.config.schema import RunConfig
from benchmarks.resume.state import StateStore
from policies.language_model import LanguageModel, load_policy
from tasks.api import Episode, Problem, Task, Verdict

OURS = ("algorithms.api", "algorithms.policy_gradient", "abc", "builtins")
"""Modules whose classes a plugin inherits from."""


def run_violations(config: RunConfig) -> list[RuleViolation]:
    """Run an algorithm three times and say which rules it breaks.

    Two runs with the same seed start from the same policy, with the global generators in different states. The third
    has random weights, which sample texts that would be encoded in other tokens, and rewards that depend on nothing but
    the text, so that there is something to train on. A resumable algorithm also resumes
    where the first run was after one update.
    """
    violations = Violations()
    before = global_values(config.algorithm_class)
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder:
        states: StateStore = FirstState(Path(folder))
        with global_generators(1):
            first = watch(config, load_policy(config.policy), states)
        states = StateStore(Path(folder))
        with global_generators(2):
            resumed = watch(config, load_policy(config.policy), states) if states.exist() else None
    after = global_values(config.algorithm_class)
    with global_generators(2):
        second = watch(config, load_policy(config.policy))
    with global_generators(3):
        noisy = replace(config, task_class=with_signal(config.task_class))
        third = watch(noisy, scrambled(load_policy(config.policy)))
    for each in (*first.violations, *second.violations, *third.violations):
        violations.add(each.rule, each.problem)
    if resumed and not first.violations:
        for each in resumed.violations:
            violations.add("resumes", f"in a run that resumes after an update: {each.problem}")
        if resumed.state != first.state:
            violations.add(
                "resumes",
                "a run that resumed after its first update came to another end than an uninterrupted one: "
                "the state given to session.resumable must hold all that the next update depends on",
            )
    if first.policy.state_hash() != first.state:
        violations.add("isolation", "a second run changed the policy of the first one, which was over")
    elif first.outcome != second.outcome:
        if changed := sorted(key for key in after if before.get(key) != after[key]):
            problem = f"a second run with the same seed differed, and {', '.join(changed)} changed"
            violations.add("isolation", problem)
        else:
            problem = "two runs with the same seed differed: draw from session.rng, or from a generator seeded with "
            violations.add("repeatable", f"{problem}session.seed")
    return sorted(violations, key=lambda each: each.rule)


class FirstState(StateStore):
    """States of which only the one after the first update is kept."""

    def save(self, updates: int, *parts: Any) -> None:
        """As in a run, once."""
        if updates == 1:
            super().save(updates, *parts)


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seed every global generator, and put its state back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def with_signal(task: type[Task]) -> type[Task]:
    """The same task with rewards that are a hash of the action: groups of texts that are all wrong differ."""

    class WithSignal(task):  # type: ignore[misc, valid-type]
        def start(self, problem: Problem) -> Episode:
            episode: Episode = super().start(problem)
            judge = episode.step

            def step(action: str) -> Verdict:
                verdict = judge(action)
                share = int.from_bytes(hashlib.sha256(action.encode("utf-8", "replace")).digest()[:4], "big") / 2**32
                rewards = {each.name: each.low + share * (each.high - each.low) for each in self.components}
                return replace(verdict, rewards=rewards)

            episode.step = step  # type: ignore[method-assign]
            return episode

    return WithSignal


@torch.no_grad()
def scrambled(policy: LanguageModel) -> LanguageModel:
    """The same policy with random matrices."""
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.model.parameters():
        if parameter.ndim >= 2:
            parameter.copy_((torch.randn(parameter.shape, generator=generator) * 0.02).to(parameter))
    return policy


def global_values(algorithm: type[Any]) -> dict[str, str]:
    """What an algorithm's classes and modules hold that a run could change, as text."""
    found: dict[str, str] = {}
    for each in algorithm.__mro__:
        module = sys.modules.get(each.__module__)
        for owner, values in ((each.__qualname__, vars(each)), (each.__module__, vars(module) if module else {})):
            for key, value in values.items():
                fixed = key.startswith("__") or isinstance(value, FunctionType | ModuleType | type | property)
                if each.__module__ not in OURS and not fixed:
                    found[f"{owner}.{key}"] = repr(value)[:2000]
    return found
