"""A record is made to be shown: it says neither whose home it comes from nor any secret of the environment."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.records.redaction import redact
from benchmarks.running.manifest import command_line
from benchmarks.running.run import run

TOKEN = "correct-horse-battery"


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("REFLECTOR_API_KEY", TOKEN)
    monkeypatch.setenv("SHORT_TOKEN", "grpo")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/somebody/data", "~/data"),
        ("'/home/somebody'", "'~'"),
        ("/home/somebodyelse/data", "/home/somebodyelse/data"),
        (f"bad key {TOKEN}.", "bad key ***."),
        ("+algo=grpo", "+algo=grpo"),
        ("hf_" + "a" * 34, "***"),
        ("sk-" + "a1" * 12, "***"),
        ("https://user:passw0rd@host/x", "https://***@host/x"),
        ("Authorization: Bearer abcdefghijklmnop1234", "Authorization: Bearer ***"),
        ("a task-force of 12, disk-usage", "a task-force of 12, disk-usage"),
    ],
)
def test_homes_and_secrets_are_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_command_in_the_manifest_is_redacted() -> None:
    said = command_line(["run", "task.path=/home/somebody/gsm8k", f"policy.path=https://me:{TOKEN}@host/m"])
    assert said == "python -m benchmarks run task.path=~/gsm8k policy.path=https://***@host/m"


def test_a_config_names_a_path_in_the_home_folder_by_its_tilde() -> None:
    words = ["+algo=base", "task=gsm8k", "task.path=/home/somebody/gsm8k"]
    config = check_config(compose_config(words))
    assert config.resolved["task"]["path"] == "~/gsm8k"
    assert config.task.path == "/home/somebody/gsm8k"
    assert config.run_name("x") == check_config(compose_config([*words[:2], "task.path='~/gsm8k'"])).run_name("x")


def test_no_file_of_a_failed_run_holds_the_home_or_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = tmp_path / "words.txt"
    words.write_text("crane\nslate\ntrain\nstare\nraise\nirate\narise\nleast\nsteal\ntales\n")

    def fail(*_: object) -> None:
        raise RuntimeError(f"401: key {TOKEN} refused \udcff, see {tmp_path}/log")

    monkeypatch.setattr("algorithms.base.Base.improve", fail)
    settings = ["+algo=base", "budget=smoke", f"task.words={words}", f"results.dir={tmp_path}/runs"]
    settings += ["evaluate.val_problems=1", "policy.device=cpu"]
    with pytest.raises(RuntimeError):
        run(check_config(compose_config(settings)), Console(file=io.StringIO()), command_line(["run", *settings]))
    (folder,) = (path for path in (tmp_path / "runs").glob("[!.]*") if path.is_dir())
    assert Record(folder).status == "failed"
    assert "key *** refused \\udcff, see ~/log" in (folder / "error.txt").read_text()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content, path.name
        assert TOKEN.encode() not in content, path.name
