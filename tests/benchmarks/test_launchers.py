"""`launcher=NAME`: which there are, what a user may get wrong, and sweeps that each of them really carried out."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from broken_off import SMALL
from idle import __file__ as IDLE
from record_factory import write_record
from test_workers import PATIENCE_S, until, updates_saved

from benchmarks.analysis.table import read_table
from benchmarks.config.presets import presets, register
from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import records
from benchmarks.resume.lock import holders
from benchmarks.sweep.launch import launch
from benchmarks.sweep.launchers import PLUGINS
from tasks.errors import BadInput

CHEAPEST = (*(word for word in SMALL if not word.startswith("policy.threads")), "task.max_turns=1", "+algo=base")
FAKE_SLURM = Path(__file__).parent / "fake_slurm"
THERE_ARE = r"There are: joblib, ray, slurm, slurm_local$"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launcher=jolib"], f"^unknown launcher 'jolib'; did you mean joblib\\? {THERE_ARE}"),
        (["launcher=joblib,ray"], "^launcher=joblib,ray: a sweep has one launcher$"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        launch([*words, "+algo=base"], many=True)


def test_a_launcher_without_a_sweep_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^launcher= is for sweeps; add -m$"):
        launch(["launcher=joblib", "+algo=base"])


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
        launch([f"launcher={name}", *CHEAPEST, f"results.dir={tmp_path}"], many=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("runs", "words", "processes"), [(1, [], 1), (3, [], 3), (9, [], 4), (9, ["8"], 8)])
def test_joblib_gets_a_process_a_core_and_none_that_would_have_no_run(
    runs: int, words: list[str], processes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register()  # Hydra makes the modules of its plugins anew when it first looks for them.
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher

    asked = []
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    monkeypatch.setattr(JoblibLauncher, "launch", lambda self, jobs, initial_job_idx: asked.append((self, jobs)) or [])
    seeds = ",".join(map(str, range(runs)))
    typed = [f"hydra.launcher.n_jobs={word}" for word in words]
    launch(["launcher=joblib", *CHEAPEST, *typed, f"seed={seeds}", f"results.dir={tmp_path}"], many=True)
    ((launcher, jobs),) = asked
    assert launcher.joblib["n_jobs"] == processes
    assert [job[-3] for job in jobs] == [f"seed={seed}" for seed in range(runs)]
    assert {job[-1] for job in jobs} == {"launcher=joblib"}, "by which a worker's Hydra knows the launcher's keys"


def test_without_slurm_the_user_is_told_what_is_missing_and_what_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(BadInput, match=r"sbatch and srun are not on this machine's PATH; launcher=slurm_local"):
        launch(["launcher=slurm", *CHEAPEST], many=True)


def swept(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A sweep of its own, with no number of threads in its environment."""
    command = [sys.executable, "-m", "benchmarks", "run", "-m", *CHEAPEST, *words, f"results.dir={folder}"]
    env = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")} | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * PATIENCE_S)


def threads(folder: Path) -> list[int]:
    """Of every complete record."""
    return [record.read_json("manifest.json")["threads"] for record in records(folder) if record.status == "complete"]


@pytest.mark.slow
def test_workers_of_joblib_share_the_cores_which_the_manifest_says_and_the_name_does_not(tmp_path: Path) -> None:
    done = swept(tmp_path, "seed=0,1", "launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert threads(tmp_path) == [max(1, len(os.sched_getaffinity(0)) // 2)] * 2
    alone = [check_config(compose_config([*CHEAPEST, f"seed={seed}"])) for seed in (0, 1)]
    names = [config.run_name(config.task_class(config.task).fingerprint()) for config in alone]
    assert [record.name for record in records(tmp_path)] == sorted(names)


@pytest.mark.slow
def test_a_sweep_on_slurm_is_an_array_of_jobs_whose_script_a_user_can_foresee(tmp_path: Path) -> None:
    words = [f"hydra.launcher.{word}" for word in ("cpus_per_task=1", "gpus_per_node=1", "partition=short")]
    path = os.pathsep.join([str(FAKE_SLURM), os.environ["PATH"]])
    folder = tmp_path / "runs"
    done = swept(folder, "seed=0,1", "launcher=slurm", *words, PATH=path, FAKE_SLURM=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("sweep: 2 of 2 runs complete\n")
    script = (tmp_path / "script").read_text().replace(f"{folder}/.sweeps", "SWEEPS").replace(sys.executable, "PYTHON")
    assert script == (FAKE_SLURM / "expected_script").read_text()
    assert threads(folder) == [1, 1]


@pytest.mark.slow
@pytest.mark.xfail(
    reason="A bug: a requeued job of an algorithm from a file pickles a class whose module it cannot import"
)
def test_a_job_that_is_about_to_be_ended_is_queued_again_and_its_run_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "run", "-m", *SMALL, f"+algo={IDLE}:Idle", "budget.updates=200"]
    words = ["launcher=slurm_local", "task.max_turns=1", f"results.dir={tmp_path}"]
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: process.poll() is not None or updates_saved(tmp_path))
        (worker,) = holders(tmp_path)
        os.kill(worker, signal.SIGUSR2)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 0, said
    (record,) = records(tmp_path)
    assert record.status == "complete"
    (attempt,) = record.read_json("manifest.json")["resumed"]
    assert 0 < attempt["after_update"] < 200
    assert not (record.folder / "error.txt").exists()
    (log,) = tmp_path.glob(".sweeps/slurm/*/*_0_log.err")
    assert "Requeued job" in log.read_text() + log.with_suffix(".out").read_text()


@pytest.mark.slow
def test_two_workers_of_a_ray_cluster_carry_a_sweep_out(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="pip install 'grpo-bench[ray]' in an environment")
    done = swept(tmp_path, "seed=0,1", "launcher=ray", "hydra.launcher.ray.init.num_cpus=2", RAY_worker_niceness="0")
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"_run_job pid=(\d+)", done.stdout + done.stderr))) == 2
    assert done.stderr.endswith("sweep: 2 of 2 runs complete\n")
    assert threads(tmp_path) == [1, 1]


def test_the_folders_of_two_workers_copied_into_one_read_as_one(tmp_path: Path) -> None:
    for seed, worker in enumerate(("a", "b")):
        write_record(tmp_path / worker, seed=seed)
        write_record(tmp_path / worker, algo="base", seed=seed, experiment="b0b0b0b0b0")
        shutil.copytree(tmp_path / worker, tmp_path / "all", dirs_exist_ok=True)
    table = read_table(tmp_path / "all")
    assert table.set_aside == []
    assert sorted((row["algo"], row["seeds"]) for row in table.rows) == [("base", [0, 1]), ("grpo", [0, 1])]
