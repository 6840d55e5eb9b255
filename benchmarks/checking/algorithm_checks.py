"""The rules for algorithms: three small runs under watch, and what they have in common."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.checking.findings import Finding, Notes
from benchmarks.checking.probe import watch
from benchmarks.config.schema import RunConfig
from benchmarks.resume.state import StateStore
from policies.language_model import LanguageModel, load_policy

HOUSE = ("algorithms.api", "algorithms.policy_gradient", "abc", "builtins")


def run_findings(config: RunConfig) -> list[Finding]:
    """Run an algorithm three times and say which rules it breaks.

    Two runs with the same seed start from the same policy, with the global generators in different states. The third
    has random weights: they sample texts that would be encoded in other tokens. An algorithm that is resumable also
    goes on from where the first run was after one update.
    """
    notes = Notes()
    before = left_behind(config.algorithm_class)
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder:
        with global_generators(1):
            first = watch(config, load_policy(config.policy), FirstState(Path(folder)))
        states = StateStore(Path(folder))
        with global_generators(2):
            goes_on = watch(config, load_policy(config.policy), states) if states.exist() else None
    if goes_on and not first.findings:
        for finding in goes_on.findings:
            notes.add("resumes", f"in a run that goes on after an update: {finding.problem}")
        if goes_on.state != first.state:
            notes.add(
                "resumes",
                "a run that went on after its first update came to another end than one that was not broken off: "
                "what session.resumable is told must hold all that the next update depends on",
            )
    after = left_behind(config.algorithm_class)
    with global_generators(2):
        second = watch(config, load_policy(config.policy))
    if first.policy.state_hash() != first.state:
        notes.add("isolation", "a second run changed the policy of the first one, which was over")
    elif first.outcome != second.outcome:
        changed = sorted(key for key in after if before.get(key) != after[key])
        if changed:
            notes.add(
                "isolation", f"a second run with the same seed went another way, and {', '.join(changed)} changed"
            )
        else:
            notes.add(
                "repeatable",
                "two runs with the same seed went different ways: draw from session.rng, or from a generator "
                "that is seeded with session.seed",
            )
    with global_generators(3):
        third = watch(config, scrambled(load_policy(config.policy)))
    for finding in (*first.findings, *second.findings, *third.findings, *notes.findings):
        notes.add(finding.rule, finding.problem)
    return sorted(notes.findings, key=lambda finding: finding.rule)


class FirstState(StateStore):
    """States of which only the one after the first update is kept."""

    def save(self, updates: int, *parts: Any) -> None:
        """As in a run, once."""
        if updates == 1:
            super().save(updates, *parts)


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Put every global generator into a known state, and back afterwards."""
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


@torch.no_grad()
def scrambled(policy: LanguageModel) -> LanguageModel:
    """The same policy with random matrices."""
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.model.parameters():
        if parameter.ndim >= 2:
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.copy_(noise.to(parameter))
    return policy


def left_behind(algorithm: type[Any]) -> dict[str, str]:
    """What an algorithm's classes and modules hold that a run could change, as text."""
    found: dict[str, str] = {}
    for each in algorithm.__mro__:
        if each.__module__ in HOUSE:
            continue
        module = sys.modules.get(each.__module__)
        for owner, values in ((each.__qualname__, vars(each)), (each.__module__, vars(module) if module else {})):
            for key, value in values.items():
                if not key.startswith("__") and not isinstance(value, FunctionType | ModuleType | type | property):
                    found[f"{owner}.{key}"] = repr(value)[:2000]
    return found
