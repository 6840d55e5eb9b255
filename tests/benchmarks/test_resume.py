"""A run that is broken off at any moment goes on with the same command to the same result."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_off import Killed, dies, outcome, run_on

from benchmarks.records.record import records
from benchmarks.running.session import RunSession
from tasks.errors import BadInput, RunFailed

GAME = ("task.max_turns=2", "task.max_action_tokens=40", "batch.problems=1")
GRPO = ("+algo=grpo", "budget.updates=3", *GAME)
ALGORITHMS = {
    "vector_grpo with value heads": ("+algo=vector_grpo", "algo.baseline=heads", "budget.updates=3", *GAME),
    "feedback_grpo": (
        *("+algo=feedback_grpo", "algo.mode=refine", "algo.shuffled=true", "budget.updates=3"),
        *(*GAME, "batch.problems=2"),
    ),
    "grpo with an adapter": ("+algo=grpo", "adapter=lora", "budget.updates=3", *GAME),
    "gepa": ("+algo=gepa", "algo.valset_size=4", "algo.minibatch_size=2", "budget.updates=6", *GAME),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a grpo run comes to that nothing disturbs."""
    return outcome(run_on(tmp_path_factory.mktemp("whole"), *GRPO))


def break_off(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str, owner: Any, name: str, at: int) -> None:
    """A run whose process ends at the n-th call of a function."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dies(at, getattr(owner, name)))
        patched.setattr("benchmarks.running.attempt.end", lambda record, session, error: error)
        with pytest.raises(Killed):
            run_on(folder, *words)


def fails_at(at: int, error: Callable[[], Exception], what: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose n-th call fails."""
    calls = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise error()
        return what(*args, **kwargs)

    return failing


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_that_dies_in_an_update_goes_on_to_the_same_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ALGORITHMS[name]
    break_off(monkeypatch, tmp_path / "broken", *words, owner=RunSession, name="step", at=3)
    assert outcome(run_on(tmp_path / "broken", *words)) == outcome(run_on(tmp_path / "whole", *words))


def test_a_run_that_dies_twice_while_it_evaluates_goes_on_to_the_same_end(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Val at the start and in the end; then test.
    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="measure", at=2)
    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="measure", at=3)
    record = run_on(tmp_path, *GRPO)
    assert outcome(record) == whole
    attempts = record.read_json("manifest.json")["resumed"]
    assert [each["after_update"] for each in attempts] == [3, 3]


def test_a_run_goes_on_from_the_state_before_where_the_last_one_is_damaged(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="step", at=3)
    (record,) = records(tmp_path)
    newest = max((record.folder / "state").glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    record = run_on(tmp_path, *GRPO)
    assert outcome(record) == whole
    assert [each["after_update"] for each in record.read_json("manifest.json")["resumed"]] == [1]


def test_a_run_that_dies_after_it_has_left_its_start_s_evaluation_for_others_has_the_same_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("+algo=base", *GAME)

    def dying(*args: Any) -> None:
        evaluate_start(*args)
        raise Killed

    from benchmarks.running import closing

    evaluate_start = closing.evaluate_start
    with monkeypatch.context() as patched:
        patched.setattr(closing, "evaluate_start", dying)
        patched.setattr("benchmarks.running.attempt.end", lambda record, session, error: error)
        with pytest.raises(Killed):
            run_on(tmp_path / "broken", *words)
    assert outcome(run_on(tmp_path / "broken", *words)) == outcome(run_on(tmp_path / "whole", *words))


def test_a_full_disk_fails_the_run_and_keeps_the_state_before(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.resume import state

    with monkeypatch.context() as patched:
        full = fails_at(3, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), state.write_state)
        patched.setattr(state, "write_state", full)
        with pytest.raises(
            RunFailed, match="update 2 cannot be saved: No space left on device; the state after update 1"
        ):
            run_on(tmp_path, *GRPO)
    (record,) = records(tmp_path)
    assert record.status == "failed"
    assert "No space left" in (record.folder / "error.txt").read_text()
    assert outcome(run_on(tmp_path, *GRPO)) == whole


def test_a_loss_that_is_not_a_number_fails_the_run_and_keeps_the_state_before(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.trainer import RolloutTrainer

    with monkeypatch.context() as patched:
        compute = RolloutTrainer.compute_loss
        nan = fails_at(2, Killed, compute)  # type: ignore[arg-type]

        def spoiled(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return nan(self, *args, **kwargs)
            except Killed:
                return compute(self, *args, **kwargs) * torch.nan

        patched.setattr(RolloutTrainer, "compute_loss", spoiled)
        with pytest.raises(RunFailed, match="the loss of update 2 is nan"):
            run_on(tmp_path, *GRPO)
    assert [record.status for record in records(tmp_path)] == ["failed"]
    assert outcome(run_on(tmp_path, *GRPO)) == whole


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


def test_where_memory_runs_out_the_run_fails_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.trainer import RolloutTrainer

    monkeypatch.setattr(RolloutTrainer, "compute_loss", fails_at(2, out_of_memory, RolloutTrainer.compute_loss))
    with pytest.raises(RunFailed, match=r"out of memory: .*budget\.on_oom=halve; the state after update 1 is kept"):
        run_on(tmp_path, *GRPO)
    assert [record.status for record in records(tmp_path)] == ["failed"]


def test_where_asked_for_the_update_is_tried_again_in_micro_batches_of_half_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.trainer import RolloutTrainer

    compute, sizes = RolloutTrainer.compute_loss, []

    def hungry(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(self.args.per_device_train_batch_size)
        if sizes == [4, 4]:
            raise out_of_memory()
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(RolloutTrainer, "compute_loss", hungry)
    words = (*GRPO, "algo.micro_batch_size=4", "budget.on_oom=halve")
    record = run_on(tmp_path, *words)
    assert sizes == [4, 4, 2, 2, 2, 2]
    halving = {"after_update": 1, "micro_batch_size": 2}
    assert record.status == "complete"
    assert record.read_json("manifest.json")["out_of_memory"] == [halving]


def test_force_starts_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="step", at=3)
    assert "resumed" not in run_on(tmp_path, *GRPO, "force=true").read_json("manifest.json")


def test_an_algorithm_that_is_not_resumable_starts_from_the_beginning(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunSession, "resumable", lambda self, state, weights=True: None)
    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="step", at=3)
    record = run_on(tmp_path, *GRPO)
    assert outcome(record) == whole
    assert [each["after_update"] for each in record.read_json("manifest.json")["resumed"]] == [0]


def test_a_run_does_not_go_on_from_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.language_model import LanguageModel

    break_off(monkeypatch, tmp_path, *GRPO, owner=RunSession, name="step", at=2)
    monkeypatch.setattr(LanguageModel, "state_hash", lambda self: "other")
    with pytest.raises(BadInput, match=r"began with other weights .* force=true"):
        run_on(tmp_path, *GRPO)
