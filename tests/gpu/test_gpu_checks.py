"""The checks of `gpu-check`, run on the CPU: here it is they that are checked, with the embedded policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.checking import gpu as gpu_checks
from policies.language_model import LanguageModel
from tasks.errors import BadInput

TINY = ("policy=tiny",)


@pytest.mark.parametrize(("algo", "adapter"), [("grpo", "none"), ("vector_grpo", "lora"), ("gepa", "none")])
def test_two_updates_pass_on_the_cpu(algo: str, adapter: str) -> None:
    assert "2 updates in" in gpu_checks.trains(TINY, "cpu", algo, adapter)


def test_an_algorithm_that_breaks_the_weights_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from algorithms.grpo import GRPO

    def improve(self: GRPO, policy: LanguageModel, task: object, session: gpu_checks.Rehearsal) -> None:
        with torch.no_grad():
            next(policy.model.parameters())[0] = torch.nan
        session.step({})
        session.step({})

    monkeypatch.setattr(GRPO, "improve", improve)
    with pytest.raises(AssertionError, match="is not finite"):
        gpu_checks.trains(TINY, "cpu", "grpo", "none")


def test_greedy_answers_agree_with_themselves_and_a_device_that_writes_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert gpu_checks.greedy_agrees(TINY, "cpu").startswith("8 greedy answers")
    play, calls = LanguageModel.play, []

    def slips(self: LanguageModel, *args: object, **kwargs: object) -> object:
        rollouts, cost = play(self, *args, **kwargs)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            rollouts[3].completion_ids[0] += 1
        return rollouts, cost

    monkeypatch.setattr(LanguageModel, "play", slips)
    with pytest.raises(AssertionError, match="1 of 8 answers differ"):
        gpu_checks.greedy_agrees(TINY, "cpu")


def test_checkpoints_move_and_one_that_changes_on_the_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "bit by bit" in gpu_checks.checkpoints_move(TINY, "cpu")
    restore = LanguageModel.restore_adapter

    def rounds(self: LanguageModel, folder: Path) -> None:
        restore(self, folder)
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.copy_(weight.bfloat16())

    monkeypatch.setattr(LanguageModel, "restore_adapter", rounds)
    with pytest.raises(AssertionError, match="adapter=lora from cpu to cpu differs"):
        gpu_checks.checkpoints_move(TINY, "cpu")


def test_readings_are_sane_and_a_meter_that_stands_still_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "formula at most" in gpu_checks.memory_and_energy(TINY, "cpu")
    monkeypatch.setattr(gpu_checks, "meters", lambda device: {"energy_j": lambda: 5.0})
    with pytest.raises(AssertionError, match="a meter stood still"):
        gpu_checks.memory_and_energy(TINY, "cpu")


def test_speed_is_told_with_what_it_was_measured_on() -> None:
    told = gpu_checks.figures(TINY, "cpu")
    assert "64 side by side" in told
    assert "FLOP/s" in told


def test_all_checks_are_run_and_one_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise RuntimeError("CUDA error\non two lines")

    monkeypatch.setattr(gpu_checks, "checks", lambda policy, device: {"a": broken, "b": lambda: "fine"})
    said: list[str] = []
    assert gpu_checks.check_all(TINY, "cpu", said.append) == 1
    assert said[:2] == ["FAILED  a: RuntimeError: CUDA error on two lines", "ok      b: fine"]


def test_every_algorithm_is_checked_with_all_weights_and_with_an_adapter() -> None:
    names = list(gpu_checks.checks(TINY, "cpu"))
    assert len([name for name in names if "adapter=" in name]) == 2 * len(gpu_checks.ALGORITHMS) == 14
    assert names[0].startswith("greedy"), "the cheapest and most telling first"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what it needs")
def test_without_cuda_it_says_so_and_checks_nothing() -> None:
    with pytest.raises(BadInput, match="torch sees none here; nothing was checked"):
        gpu_checks.check_cuda(TINY, print)
