"""The command line: Hydra's own words, what the help names, and what a user's folder may hide."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.sweep.campaign_defaults import DEFAULTS
from tasks.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def said(*words: str) -> str:
    """What a command prints; whatever it raises is raised."""
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version_is_the_packages() -> None:
    assert said("--version").strip() == f"grpo-bench {version('grpo-bench')}"


def test_the_help_of_run_shows_its_options_and_how_to_list_keys() -> None:
    text = said("run", "--help")
    for part in ("-m, --multirun", "--dry-run", "-c, --cfg", "--config-dir", "run +algo=grpo --cfg job"):
        assert part in text


def test_cfg_prints_every_key_of_the_job() -> None:
    config = yaml.safe_load(said("run", "+algo=grpo", "algo.beta=0.5", "--cfg", "job"))
    assert (config["algo"]["beta"], config["algo"]["learning_rate"]) == (0.5, "${policy.learning_rate}")
    assert "hydra" not in config
    resolved = yaml.safe_load(said("run", "+algo=grpo", "--cfg", "job", "--resolve", "--package", "algo"))
    assert resolved["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("words", "part"), [(["--info", "searchpath"], "plugins://"), (["--info", "seed=1"], "algo/grpo")]
)
def test_info_prints_how_hydra_composes_and_its_value_may_be_left_out(words: list[str], part: str) -> None:
    # In a process of its own: Hydra leaves its log open on this one's standard output.
    command = [sys.executable, "-m", "benchmarks", "run", "+algo=grpo", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert part in done.stdout


def test_a_folder_of_the_users_holds_presets_that_extend_ours(tmp_path: Path) -> None:
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo/kl.yaml").write_text("defaults:\n  - grpo\n  - _self_\nbeta: 0.1\n")
    (tmp_path / "budget").mkdir()
    (tmp_path / "budget/mine.yaml").write_text("name: mine\nupdates: 3\n")
    words = ("+algo=kl", "budget=mine", "--config-dir", str(tmp_path), "--cfg", "job")
    config = yaml.safe_load(said("run", *words))
    assert (config["algo"]["name"], config["algo"]["beta"]) == ("grpo", 0.1)
    assert (config["budget"]["name"], config["budget"]["updates"], config["budget"]["checkpoints"]) == ("mine", 3, 4)
    with pytest.raises(BadInput, match="there is no such folder"):
        said("run", "+algo=kl", "--config-dir", str(tmp_path / "nowhere"))


@pytest.mark.parametrize("words", [["--cfg", "jobs"], ["--speed"], ["--info", "x", "--hydra"]])
def test_an_option_that_is_none_is_refused(words: list[str]) -> None:
    with pytest.raises(BadInput):
        said("run", "+algo=grpo", *words)


def test_an_algorithm_is_explained_with_its_settings_and_its_source() -> None:
    text = said("list", "algo", "grpo")
    for part in ("GRPO: group-relative policy optimisation", "arXiv 2402.03300", "algo.beta=0.0", "KL divergence"):
        assert part in text
    assert "algo.learning_rate=policy.learning_rate" in text
    assert "budget.updates=2" in said("list", "budget", "smoke")
    with pytest.raises(BadInput, match="did you mean grpo"):
        said("list", "algo", "gropo")
    with pytest.raises(BadInput, match="did you mean algo"):
        said("list", "algos")


def test_one_group_is_listed_alone() -> None:
    text = said("list", "experiment")
    assert "run -m +experiment=grid" in text
    assert "algo:" not in text


def test_the_help_of_campaign_names_its_defaults() -> None:
    words = said("campaign", "--help").split()
    for key, value in DEFAULTS.items():
        assert f"{key}={value}" in words


def test_a_dry_run_of_a_campaign_lists_its_runs_with_the_policy_and_makes_nothing(tmp_path: Path) -> None:
    words = ["policy=tiny", "policy.device=cpu", "warmstart=none", "task=gsm_synth", "seed=0", "+algo=base,grpo"]
    lines = said("campaign", *words, "--dry-run", "--state", str(tmp_path)).splitlines()
    assert lines[:2] == ["not begun    base gsm_synth seed 0", "not begun    grpo gsm_synth seed 0"]
    assert "0 of 2 runs complete; policy tiny (package:policies/tiny/weights), budget campaign" in lines[2]
    assert not list(tmp_path.iterdir())


def benchmarks_in(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks", "--version"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["tasks.py", "algorithms/__init__.py", "policies/__init__.py"])
def test_what_hides_a_package_of_ours_is_named_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1 / 0\n")
    done = benchmarks_in(tmp_path)
    hiding = str(tmp_path / name.removesuffix("/__init__.py"))
    assert done.returncode == 2
    assert done.stderr == f"error: {hiding} hides a package of grpo-bench; run grpo-bench, or python -P -m benchmarks\n"


def test_a_folder_without_python_in_it_hides_nothing(tmp_path: Path) -> None:
    for name in ("tasks", "algorithms", "policies", "benchmarks"):
        (tmp_path / name).mkdir()
    done = benchmarks_in(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
