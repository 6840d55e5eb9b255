"""Records on S3, as a server on this machine speaks it (moto): what the tests in memory cannot show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.records.index import read_index
from benchmarks.records.mirror import mirror
from broken_off import SMALL, configured, outcome
from rich.console import Console
from test_resume import GRPO

from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.records.store import Store, StoreAway
from benchmarks.running import store_lock
from benchmarks.running.run import run

pytest.importorskip("s3fs", reason="pip install s3fs 'moto[s3,server]'")
moto = pytest.importorskip("moto.server", reason="pip install s3fs 'moto[s3,server]'")
pytestmark = pytest.mark.slow
URL = "s3://bucket/runs"
SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    serving = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    # Nothing of the user's own must decide where this goes.
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA" + "A" * 16)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    import boto3

    boto3.client("s3").create_bucket(Bucket="bucket")
    yield
    serving.stop()


def words(scratch: Path, *more: str) -> list[str]:
    return [*SMALL, f"results.dir={URL}", f"results.scratch={scratch}", "results.upload_every_s=0", *more]


def begin(scratch: Path, *more: str) -> subprocess.Popen[str]:
    """A command on a machine of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")}
    command = [sys.executable, "-m", "benchmarks", "run", *words(scratch), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_objects_on_s3(tmp_path: Path) -> None:
    store = Store(URL)
    assert store.list() == {}
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    before = store.list()["a/b"]
    assert (store.read("a/b", 5), before.size) == (b"first", 5)
    assert abs(time.time() - (before.modified or 0)) < 600
    store.write("a/b", b"third")
    assert store.list()["a/b"].version != before.version
    (tmp_path / "c").write_bytes(b"")
    store.upload("a/c", tmp_path / "c")
    assert store.read("a/c", 5) == b""
    store.download("a/b", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"third"
    store.remove(["a/b", "a/nothing"])
    assert list(store.list("a")) == ["a/c"]
    with pytest.raises(FileNotFoundError):
        store.read("a/b", 5)
    nowhere = Store("s3://nobucket/runs")
    for ask in (nowhere.list, lambda: nowhere.write("a/b", b"x"), lambda: nowhere.create("a/b", b"x")):
        with pytest.raises(StoreAway, match="bucket does not exist"):
            ask()


def test_two_sweeps_at_once_on_two_machines_make_each_run_once(tmp_path: Path) -> None:
    sweep = ["-m", "+algo=base", "seed=0,1"]
    both = [begin(tmp_path / name, *sweep) for name in ("here", "there")]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(text.count("val after   0% of the budget") for text in said) == 2
    index = read_index(mirror(Store(URL)))
    assert [run.status for run in index.runs] == ["complete", "complete"]
    assert index.set_aside == []
    assert not any(key.startswith(".locks") for key in Store(URL).list())
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in contents)
    assert SECRET not in "".join(said)


def test_a_run_whose_machine_was_killed_goes_on_from_s3_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game, store = [*GRPO, "budget.updates=12"], Store(URL)
    process = begin(tmp_path / "here", *game)
    while process.poll() is None and not any(key.endswith("state/1.safetensors") for key in store.list()):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was too quick"
    process.communicate()
    monkeypatch.setattr(store_lock, "EXPIRED_S", -1.0)  # As if ten minutes had passed.
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere)
        done = run(check_config(compose_config(words(tmp_path / "there", *game))), console, "test")
        whole = run(configured(tmp_path / "local", *game), console, "test")
    copy = Record(mirror(Store(URL)) / done.record.name)
    assert copy.read_json("manifest.json")["resumed"][0]["after_update"] >= 1
    assert outcome(copy) == outcome(whole.record)
