"""Sweeps that share a grid with others: nothing is run twice, and nothing is left because somebody else gave up."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from broken_off import SMALL, configured

from benchmarks.config import schema
from benchmarks.config.presets import presets
from benchmarks.config.schema import RunConfig, compose_all, compose_config
from benchmarks.records.record import Record
from benchmarks.resume.lock import held
from benchmarks.sweep import launch
from benchmarks.sweep.launch import combinations, master_of


def base_record(folder: Path, seed: int) -> Record:
    config = configured(folder, "+algo=base", f"seed={seed}")
    return Record(folder / config.run_name(config.task_class(config.task).fingerprint()))


def sweep(folder: Path) -> int:
    return launch.launch([*SMALL, "+algo=base", "seed=0,1", f"results.dir={folder}"], many=True)


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


def test_runs_are_composed_as_hydra_composes_each_and_presets_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["+algo=grpo,vector_grpo", "task=wordle,gsm_synth", "seed=0,1", "++algo.beta=0.1,0.2", "batch.problems=2"]
    runs = combinations(master_of(words, None)[1])
    alone = [compose_config(run) for run in runs]
    calls = []
    monkeypatch.setattr(schema, "compose_config", lambda *given: calls.append(given) or compose_config(*given))
    assert list(compose_all(runs)) == alone
    assert len(runs) == 16
    calls.clear()
    plain = [[word for word in run if not word.startswith("++")] for run in runs]
    assert list(compose_all(plain)) == [compose_config(run) for run in plain]
    assert len(calls) == 2, "one for each task"


def test_an_experiment_holds_a_sweep_whose_values_the_command_line_may_change() -> None:
    runs = combinations(master_of(["+experiment=grid", "task=wordle", "+algo=base,grpo"], None)[1])
    assert len(runs) == 3 * 2
    assert runs[0] == ["seed=0", "task=wordle", "+algo=base", "+experiment=grid"]
    config = schema.check_config(compose_config(runs[-1]))
    assert (config.algo.name, config.seed, config.policy.threads, config.results.keep_policy) == ("grpo", 2, 1, False)


@pytest.mark.parametrize("name", presets("experiment"))
def test_every_run_of_every_experiment_is_in_order(name: str) -> None:
    runs = combinations(master_of([f"+experiment={name}"], None)[1])
    configs = [schema.check_config(composed) for composed in compose_all(runs)]
    assert len({config.run_name("") for config in configs}) == len(runs) >= 3
