"""A user's mistake: one line that names what is wrong and what would be right, exit code 2, no model loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks.config.budget import BudgetConfig
from benchmarks.config.schema import check_config, compose_config
from benchmarks.running.preflight import refuse_unmeasurable
from tasks.errors import BadInput


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["+algo=", "grpo"]),
        (["algo=grpo"], ["+algo=grpo"]),
        (["+algo=gropo"], ["gropo", "did you mean grpo"]),
        (["+algo=grpo", "task=wordel"], ["wordel", "did you mean wordle"]),
        (["+algo=grpo", "policy=tyni"], ["tyni", "did you mean tiny"]),
        (["+algo=grpo", "budget=quik"], ["quik", "did you mean quick"]),
        (["+algo=grpo", "task.wrods=core"], ["task.wrods", "did you mean task.words"]),
        (["+algo=grpo", "sede=1"], ["sede", "did you mean seed"]),
        (["+algo=grpo", "+task.foo=1"], ["task.foo", "words"]),
        (["+algo=grpo", "task.max_turns=many"], ["task.max_turns", "many"]),
        (["+algo=grpo", "task.max_turns=0"], ["task.max_turns", "1"]),
        (["+algo=grpo", "task.val=0.8", "task.test=0.5"], ["task.val", "task.test"]),
        (["+algo=grpo", "task.feedback=loud"], ["task.feedback", "diagnostic"]),
        (["+algo=grpo", "task=gsm_synth", "task.levels=[7]"], ["task.levels", "7"]),
        (["+algo=grpo", "budget.flops=-1"], ["budget.flops", "above 0"]),
        (["+algo=grpo", "budget.dollars=1"], ["budget.dollars", "budget.price_per_hour"]),
        (["+algo=grpo", "budget.price_per_hour=-1"], ["budget.price_per_hour", "0 or above"]),
        (["+algo=grpo", "algo.learning_rate=-1"], ["algo.learning_rate", "above 0"]),
        (["+algo=grpo", "algo.loss_type=huber"], ["algo.loss_type", "dapo"]),
        (["+algo=grpo", "algo.group_size=1"], ["algo.group_size", "at least 2"]),
        (["+algo=grpo", "evaluate.test_samples=0"], ["evaluate.test_samples", "at least 1"]),
        (["+algo=grpo", "seed=-1"], ["seed=-1"]),
        (["+algo=grpo", "seed=x"], ["seed: ", "'x'"]),
        (["+algo=grpo", "policy=path"], ["policy.path"]),
        (["+algo=grpo", "policy.threads=0"], ["policy.threads", "at least 1"]),
        (["+algo=grpo", "lr=1"], ["did you mean algo.learning_rate"]),
        (["+algo=grpo", "group=3"], ["did you mean algo.group_size"]),
        (["+algo=grpo", "words=core"], ["did you mean task.words"]),
        (["+algo=grpo", "adapter.rank=3"], ["adapter.rank=3", "choose adapter=NAME first"]),
        (["+algo=grpo", "+foo=1"], ["foo: there is no such key"]),
        (["+algo=grpo", "task=null"], ["task=null"]),
        (["+algo=grpo", "algo.name=gdpo"], ["algo.name=gdpo", "leave it out"]),
        (["+algo=grpo", "seed=0,1"], ["seed=0,1", "add -m"]),
        (["+algo=grpo", "results.save_every_s=-1"], ["results.save_every_s", "0 or above"]),
        (["+algo=grpo", "+experiment=gird"], ["did you mean grid"]),
        (["+algo=grpo", "nonsense"], ["nonsense", "KEY=VALUE"]),
    ],
)
def test_a_wrong_configuration_is_named_in_one_line(words: list[str], expected: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        check_config(compose_config(words))
    message = str(caught.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], "+algo="),
        (["run", "+algo=grpo", "policy.path=/no/such/model"], "/no/such/model"),
        (["run", "+algo=grpo", "task.words=/no/such/list"], "/no/such/list"),
        (["run", "+algo=grpo", "task=gsm8k", "task.path=/no/such/data"], "/no/such/data"),
        (["run", "+algo=grpo", "results.dir=/proc/nowhere"], "/proc/nowhere"),
        (["run", "+algo=grpo", "--speed"], "--speed"),
        (["run", "-m", "+algo=grpo", "task=wordle,wordel"], "wordel"),
        (["table", "--runs", "/no/such/results"], "/no/such/results"),
        (["table", "--format", "xml"], "xml"),
        (["show", "nothing", "--runs", "/no/such/results"], "/no/such/results"),
    ],
)
def test_the_command_line_says_it_in_one_line_and_exits_with_2(words: list[str], expected: str) -> None:
    done = benchmarks(*words)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_no_model_library_is_loaded_before_the_configuration_is_checked() -> None:
    code = (
        "import sys; from benchmarks.config.schema import check_config, compose_config; "
        "check_config(compose_config(['+algo=grpo'])); "
        "print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_the_package_import_no_model_library() -> None:
    code = (
        "import sys, contextlib, io, benchmarks, benchmarks.cli as cli\n"
        "sys.argv = ['benchmarks', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    cli.main()\n"
        "print([m for m in ('torch', 'transformers', 'trl', 'hydra', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_word_list_with_a_non_word_is_named_by_file_and_line(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("crane\nSLATE\n")
    done = benchmarks("run", "+algo=grpo", f"task.words={words}")
    assert done.returncode == 2
    assert f"{words}:2" in done.stderr


def test_joules_without_a_meter_are_refused_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import policies.language_model
    from benchmarks.running import energy
    from benchmarks.running.run import run

    monkeypatch.setattr(energy, "RAPL", tmp_path / "none")
    monkeypatch.setattr(policies.language_model, "load_policy", lambda *_: pytest.fail("loaded"))
    words = ["+algo=grpo", "policy.device=cpu", "budget.joules=5", f"results.dir={tmp_path}"]
    with pytest.raises(BadInput, match=r"budget\.joules=5: this machine has no energy meter"):
        run(check_config(compose_config(words)), Console(), "test")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("limits", "named"), [({"flops": 1e9}, "flops"), ({"dollars": 1}, "price_per_million_tokens")])
def test_limits_that_a_remote_reflector_makes_unmeasurable_are_refused(limits: dict[str, float], named: str) -> None:
    config = check_config(compose_config(["+algo=gepa", "budget=smoke"]))
    remote = replace(
        config,
        algo=SimpleNamespace(reflector="endpoint"),
        budget=BudgetConfig(name="b", price_per_hour=1.0, **limits),  # type: ignore[arg-type]
    )
    with pytest.raises(BadInput, match=named):
        refuse_unmeasurable(remote)
