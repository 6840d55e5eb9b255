"""`launcher=NAME`: which there are, what a user may get wrong, and sweeps that each of them really carried out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from broken_off import SMALL

from benchmarks.launch import launch
from benchmarks.launchers import PLUGINS, words_about_runs, words_for_launcher
from benchmarks.presets import presets
from tasks.errors import BadInput

CHEAPEST = (*SMALL, "task.max_turns=1", "+algo=base")
THERE_ARE = r"There are: joblib, ray, slurm, slurm_local$"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "launcher=jolib"], f"^unknown launcher 'jolib'; did you mean joblib\\? {THERE_ARE}"),
        (["-m", "launcher=joblib,ray"], f"^unknown launcher 'joblib,ray'.*{THERE_ARE}"),
        (["-m", "launcher=joblib", "launcher=slurm"], "^launcher=joblib launcher=slurm: a sweep has one launcher$"),
        (["launcher=joblib"], "^launcher= is for sweeps; add -m$"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        launch([*words, "+algo=base"])


def test_every_preset_says_what_it_needs_installed() -> None:
    assert presets("launcher") == sorted(PLUGINS)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_launcher_that_is_not_installed_is_named_with_what_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    package, extra = PLUGINS[name]
    message = rf"^launcher={name} needs the package {package}: pip install 'grpo-bench\[{extra}\]'$"
    with pytest.raises(BadInput, match=message):
        launch(["-m", f"launcher={name}", *CHEAPEST, f"results.dir={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_words_about_the_launcher_are_no_words_about_runs() -> None:
    words = ["launcher=slurm", "hydra.launcher.mem_gb=8", "hydra/launcher=submitit_local", "seed=0,1"]
    assert words_about_runs(words) == ["seed=0,1"]


@pytest.mark.parametrize(("runs", "processes"), [(1, 1), (3, 3), (9, 4)])
def test_joblib_gets_a_process_a_core_and_none_that_would_have_no_run(
    runs: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert words_for_launcher("joblib", [], runs) == ["launcher=joblib", f"hydra.launcher.n_jobs={processes}"]
    assert words_for_launcher("joblib", ["hydra.launcher.n_jobs=8"], runs) == ["launcher=joblib"]
    assert words_for_launcher(None, [], runs) == []
