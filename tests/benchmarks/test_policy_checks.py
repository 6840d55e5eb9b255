"""Every planted fault of a policy is found under its own name, and an honest policy passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.checking.conformance import check_words
from benchmarks.checking.policy_checks import Alternating, policy_violations
from benchmarks.checking.rules import POLICY_RULES
from benchmarks.config.schema import RunConfig, check_config, compose_config
from policies.chat import Chat
from policies.language_model import LanguageModel

SHORT = ("task=gsm_synth", "task.max_action_tokens=8", "policy.device=cpu")


@pytest.fixture
def config(untrained_folder: Path) -> RunConfig:
    return check_config(compose_config(["+algo=grpo", "policy=path", f"policy.path={untrained_folder}", *SHORT]))


def unseeded(play: Callable[..., Any]) -> Callable[..., Any]:
    seeds = iter(range(1000))
    return lambda self, task, problems, group_size, sampling, seed: play(
        self, task, problems, group_size, sampling, next(seeds)
    )


def other_logprobs(play: Callable[..., Any]) -> Callable[..., Any]:
    def played(*args: Any) -> Any:
        rollouts, cost = play(*args)
        for rollout in rollouts:
            rollout.logprobs = [each - 0.01 for each in rollout.logprobs]
        return rollouts, cost

    return played


def lossy(text: Callable[..., str]) -> Callable[..., str]:
    calls = iter(range(1000))
    return lambda self, ids: text(self, ids) + " " * (next(calls) % 2)


def forgetful(save: Callable[..., None]) -> Callable[..., None]:
    def saved(self: LanguageModel, folder: Path) -> None:
        save(self, folder)
        (folder / "instructions.txt").write_text("Do as you like.")

    return saved


def constant(credit: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda self, batch: 0 * credit(self, batch)


@pytest.mark.parametrize(
    ("owner", "method", "fault", "rule"),
    [
        (LanguageModel, "play", unseeded, "repeatable"),
        (LanguageModel, "play", other_logprobs, "logprobs"),
        (Chat, "text", lossy, "tokens"),
        (LanguageModel, "save", forgetful, "saves"),
        (Alternating, "credit", constant, "gradients"),
    ],
)
def test_a_planted_fault_of_a_policy_is_found(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, owner: type[Any], method: str, fault: Any, rule: str
) -> None:
    monkeypatch.setattr(owner, method, fault(getattr(owner, method)))
    assert {each.rule for each in policy_violations(config)} == {rule}


@pytest.mark.parametrize("words", [(), ("adapter=lora",)])
def test_an_honest_policy_keeps_every_rule(untrained_folder: Path, words: tuple[str, ...]) -> None:
    said: list[str] = []
    policy = ("policy=path", f"policy.path={untrained_folder}")
    code = check_words([*policy, *SHORT[1:], *words, "task.max_turns=2"], lambda line: said.append(str(line)))
    assert code == 0, said
    assert [line.split()[:2] for line in said[1:]] == [["ok", rule] for rule in POLICY_RULES]
