"""Records on S3, as a server on this machine speaks it (moto): what the tests in memory cannot show."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_off import SMALL
from record_factory import write_record

from benchmarks.records.reading import read_runs
from benchmarks.records.store import Store, StoreAway, mirror, upload, uploaded

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
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    import boto3

    boto3.client("s3").create_bucket(Bucket="bucket")
    yield
    serving.stop()


def test_a_record_goes_to_s3_is_read_back_and_is_there_for_readers(tmp_path: Path) -> None:
    store = Store(URL)
    assert store.list() == {}
    record = write_record(tmp_path / "runs")
    record.write("empty.txt", b"")
    before = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    upload(URL, record)
    assert not record.folder.exists()
    assert uploaded(URL, record.name)
    assert {key.partition("/")[2]: store.read(key, 10**7) for key in store.list()} == before
    runs, aside = read_runs(mirror(store))
    assert ([run.status for run in runs], aside) == (["complete"], [])
    nowhere = Store("s3://nobucket/runs")
    for ask in (nowhere.list, lambda: nowhere.put("a/b", tmp_path / "file"), lambda: nowhere.read("a/b", 1)):
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(StoreAway, match=r"^s3://nobucket/runs: "):
            ask()


def test_a_sweep_leaves_its_records_on_s3_and_no_secret_anywhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "run", "-m", *SMALL, "+algo=base", "seed=0,1"]
    command += [f"results.dir={URL}", f"results.scratch={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sweep: 2 of 2 runs complete" in done.stderr
    assert [run.status for run in read_runs(mirror(Store(URL)))[0]] == ["complete", "complete"]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout.count("is complete already") == 2
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in contents)
    assert SECRET not in done.stdout + done.stderr
