"""Sweeps that share a grid with others: nothing is run twice, and nothing is left because somebody else gave up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from broken_off import SMALL, configured

from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record
from benchmarks.resume.lock import held
from benchmarks.sweep import launch


def base_record(folder: Path, seed: int) -> Record:
    config = configured(folder, "+algo=base", f"seed={seed}")
    return Record(folder / config.run_name(config.task_class(config.task).fingerprint()))


def sweep(folder: Path) -> int:
    return launch.launch(["-m", *SMALL, "+algo=base", "seed=0,1", f"results.dir={folder}"])


def test_a_sweep_leaves_a_run_to_the_process_that_is_at_work_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path, base_record(tmp_path, 0).name):
        assert sweep(tmp_path) == 0
    said = capsys.readouterr().err
    assert "sweep: 1 of 2 runs complete\nat work elsewhere (process " in said
    assert base_record(tmp_path, 0).status is None
    assert base_record(tmp_path, 1).status == "complete"


def test_a_sweep_takes_up_a_run_whose_process_ended_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (base_record(tmp_path, seed) for seed in (0, 1))
    first.folder.mkdir()
    other = [ExitStack()]
    other[0].enter_context(held(tmp_path, first.name))
    in_sweep = launch.run_in_sweep

    def meanwhile(config: RunConfig, words: Sequence[str]) -> None:
        in_sweep(config, words)
        if other:
            first.write_status("running")
            other.pop().close()

    monkeypatch.setattr(launch, "run_in_sweep", meanwhile)
    assert sweep(tmp_path) == 0
    assert [first.status, second.status] == ["complete", "complete"]
