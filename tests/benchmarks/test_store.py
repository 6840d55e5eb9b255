"""Records under a URL: what a store is asked for, and what readers take of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from broken_off import SMALL
from fsspec.implementations.memory import MemoryFileSystem
from record_factory import write_record
from rich.console import Console
from stores import URL, away, emptied, put, upload_folder
from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.config.schema import check_config, compose_config
from benchmarks.records import store as stores
from benchmarks.records.record import Record
from benchmarks.records.redaction import redact
from benchmarks.records.store import Store, StoreAway, is_url, mirror, readable, upload, upload_left, uploaded
from benchmarks.running.run import run
from benchmarks.sweep.runs import planned
from tasks.errors import BadInput, RunFailed

PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with emptied():
        yield tmp_path / "cache"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(URL if request.param == "memory" else f"file://{tmp_path}/bucket/runs")


def all_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def what_it_says(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://user:{PASSWORD}@bucket/runs", "credentials come from the environment"),
        (f"s3://{PASSWORD}@bucket", "credentials come from the environment"),
        (f"s3://bucket/runs?secret={PASSWORD}", "leave out"),
        (f"simplecache::s3://bucket/{PASSWORD}", "leave out"),
        ("s3://", "write SCHEME://PLACE"),
        ("s3:/bucket/runs", "write SCHEME://PLACE"),
        ("s3://bucket/../other", "leave out empty parts"),
        ("s3://bucket//runs", "leave out empty parts"),
        ("https://host/runs", "nothing can be put there"),
        ("nosuch://host/runs", "no such kind of store"),
        ("s3://bucket/\x1b[2J", "printable"),
        ("nosuch://[", "no such kind of store"),
    ],
)
def test_a_url_that_cannot_be_is_refused_in_one_line_that_repeats_no_password(url: str, said: str) -> None:
    assert is_url(url)
    with pytest.raises(BadInput, match=said) as refused:
        Store(url)
    assert PASSWORD not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_s3fs_is_missing_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(BadInput, match=r"pip install 'grpo-bench\[s3\]'"):
        Store("s3://bucket/runs")


def test_what_is_put_is_listed_and_read(store: Store, tmp_path: Path) -> None:
    for key, content in {"a/b": b"two", "a/c": b"three", "ab/d": b""}.items():
        (tmp_path / "file").write_bytes(content)
        store.put(key, tmp_path / "file")
    assert {key: about["size"] for key, about in store.list().items()} == {"a/b": 3, "a/c": 5, "ab/d": 0}
    assert list(store.list("a")) == ["a/b", "a/c"]
    assert (store.read("a/b", 3), store.read("a/c", 2), store.read("ab/d", 3)) == (b"two", b"th", b"")
    assert store.hash("a/b") == hashlib.sha256(b"two").hexdigest()
    with pytest.raises(StoreAway):
        store.read("a/nothing", 3)


def with_policy(runs: Path, **names: Any) -> Record:
    record = write_record(runs, **names)
    record.keep_policy(lambda folder: (folder.mkdir(), (folder / "model.safetensors").write_bytes(b"weights"))[0])
    (record.folder / ".nfs1").write_bytes(b"x")
    return record


def test_a_complete_record_is_uploaded_read_back_and_then_removed_here(store: Store, tmp_path: Path) -> None:
    record = with_policy(tmp_path / "runs")
    before = all_files(record.folder)
    assert not uploaded(store.url, record.name)
    upload(store.url, record)
    assert uploaded(store.url, record.name)
    assert not record.folder.exists()
    listed = store.list(record.name)
    assert {key.removeprefix(f"{record.name}/"): store.read(key, 10**6) for key in listed} == before


@pytest.mark.parametrize("loses", ["put_file", "hash"])
def test_the_only_copy_of_a_record_stays_unless_the_store_has_every_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loses: str
) -> None:
    record, store = with_policy(tmp_path / "runs"), Store(URL)
    upload_folder(tmp_path / "runs", store)
    before = all_files(record.folder)
    if loses == "hash":  # Of the right name and length, and of another content.
        monkeypatch.setattr(Store, "put", lambda self, key, path: put(key, bytes(path.stat().st_size)))
    else:  # Nothing arrives; a status that says `complete` was there before.
        monkeypatch.setattr(Store, "put", lambda self, key, path: None)
        put(f"{record.name}/policy/model.safetensors", b"other")
    with pytest.raises(RunFailed, match=f"{record.name} is complete in .* and not uploaded.*not there as it was put"):
        upload(URL, record)
    assert all_files(record.folder) == before


def test_a_store_that_is_away_keeps_the_record_here_and_the_next_command_uploads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = with_policy(tmp_path / "runs")
    write_record(tmp_path / "runs", seed=1, status="interrupted")
    with away(monkeypatch), pytest.raises(RunFailed, match=r"not uploaded, which the same command does: .*no answer"):
        upload(URL, record)
    said: list[str] = []
    upload_left(URL, tmp_path / "runs", said.append)
    assert said == [f"{record.name}: uploaded"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["grpo-wordle-tiny-s1-e0e0e0e0e0"]


def test_a_run_whose_record_goes_to_a_store_is_made_here_uploaded_and_not_made_again(tmp_path: Path) -> None:
    words = ("+algo=base", f"results.dir={URL}", f"results.scratch={tmp_path}")
    config = check_config(compose_config([*SMALL, *words]))
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere)
        (plan,) = planned([[*SMALL, *words]])
        assert plan.state() == "not run"
        first = run(config, console, "test")
        assert (first.ran, plan.state()) == (True, "complete")
        assert not first.record.folder.exists()
        second = run(config, console, "test")
    assert (second.ran, second.record.name) == (False, first.record.name)
    assert Record(mirror(Store(URL)) / first.record.name).status == "complete"
    assert not [key for key in Store(URL).list() if "lock" in key or "state" in key]


def test_a_store_that_is_away_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", "no answer")  # What the server happens to say.
    with away(monkeypatch), pytest.raises(StoreAway, match=rf"^{URL}: \*\*\* from the server$"):
        Store(URL).list()


def test_secrets_of_fsspec_s_configuration_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"key": "access-key-1", "client": {"secret": PASSWORD}, "anon": "false"}
    )
    assert redact(f"{PASSWORD}, access-key-1, false") == "***, ***, false"


def test_readers_say_of_a_store_what_they_say_of_the_folder(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for seed in range(3):
        write_record(runs, seed=seed)
        write_record(runs, algo="base", experiment="b0b0b0b0b0", seed=seed)
    write_record(runs, algo="rft", experiment="r0r0r0r0r0", status="running")
    upload_folder(runs, Store(URL))
    name = next(path.name for path in runs.iterdir() if path.name.startswith("grpo"))
    for words in (
        ["table", "--format", "csv"],
        ["compare", "grpo", "base"],
        ["claims"],
        ["show", name],
    ):
        assert what_it_says(*words, "--runs", URL) == what_it_says(*words, "--runs", str(runs))
    pages = []
    for where in (URL, str(runs)):
        what_it_says("report", "--runs", where, "--out", str(tmp_path / "page.html"))
        page = (tmp_path / "page.html").read_text()
        pages.append(page[: page.index("grpo-bench 0")].rpartition(" UTC")[0].rpartition(" ")[0])
    assert pages[0] == pages[1]


def test_a_reader_fetches_what_has_changed_and_forgets_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, store = tmp_path / "runs", Store(URL)
    first, second = write_record(runs, seed=0), write_record(runs, seed=1)
    upload_folder(runs, store)
    assert all_files(mirror(store)) == all_files(runs)
    fetched: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, key, *more: fetched.append(key) or read(self, key, *more))
    mirror(store)
    assert fetched == []
    shutil.rmtree(first.folder)
    gone(store, first.name)
    second.write("summary.json", b"{}")
    store.put(f"{second.name}/summary.json", second.folder / "summary.json")
    assert all_files(mirror(store)) == all_files(runs)
    assert fetched == [f"{second.name}/summary.json"]


def test_a_reader_of_one_record_leaves_the_others_of_the_mirror_alone(tmp_path: Path) -> None:
    runs, store = tmp_path / "runs", Store(URL)
    first, second = write_record(runs, seed=0), write_record(runs, seed=1)
    upload_folder(runs, store)
    folder = mirror(store, only=first.name)
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [first.name]
    assert all_files(mirror(store)) == all_files(runs)
    gone(store, second.name)
    mirror(store, only=first.name)
    assert (folder / second.name).is_dir()


def gone(store: Store, name: str) -> None:
    for key in store.list(name):
        MemoryFileSystem().rm_file(f"/bucket/runs/{key}")


def test_a_record_that_is_being_uploaded_is_not_there_yet(tmp_path: Path) -> None:
    write_record(tmp_path / "runs")
    upload_folder(tmp_path / "runs", Store(URL))
    put("a/summary.json", b"{}")
    assert all_files(mirror(Store(URL))) == all_files(tmp_path / "runs")


HOSTILE = (
    "../../../../x",
    "/abs/status",
    "//abs",
    "a/../../escaped",
    "../.mirror.json",
    "..",
    "a/..",
    "a/./status",
    "a//status",
    "a/status/deeper",
    "a/b/c/d",
    "a\\b/status",
    "~/status",
    "a/\x1b[2J",
    "a/name with\nbreak",
    "a/\u202egpj.exe",
    "a/.mirror.json",
    "name" * 100 + "/status",
    "a/" + "x" * 300,
    "a/-rf",
)


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_that_is_no_name_of_a_record_s_file_is_named_and_left_there(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(tmp_path / "runs")
    upload_folder(tmp_path / "runs", Store(URL))
    before = all_files(tmp_path)
    put(key, b"hostile")
    folder = mirror(Store(URL))
    fetched = {path: content for path, content in all_files(tmp_path).items() if path not in before}
    assert all_files(folder) == all_files(tmp_path / "runs")
    assert b"hostile" not in fetched.values()
    said = capsys.readouterr().err
    assert said.startswith(f"not read: {URL}: ")
    assert said.count("\n") == 1
    assert said.strip().isprintable()


def test_many_strange_keys_are_three_lines_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    put("a/status", b"running\n")
    for number in range(100):
        put(f"../{number}", b"hostile")
    mirror(Store(URL))
    assert capsys.readouterr().err.splitlines()[3:] == [f"not read: {URL}: 97 more"]


def test_an_object_that_is_too_large_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_record(tmp_path / "runs")
    upload_folder(tmp_path / "runs", Store(URL))
    size = (record.folder / "samples.parquet").stat().st_size
    monkeypatch.setattr(stores, "LARGEST_FILE", size - 1)
    folder = mirror(Store(URL))
    assert "samples.parquet" in capsys.readouterr().err
    assert not (folder / record.name / "samples.parquet").exists()


def test_a_listing_that_lies_about_a_size_gets_no_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a/status", b"running\n")
    put("a/summary.json", b"x" * 1000)
    monkeypatch.setattr(stores, "LARGEST_FILE", 100)
    listed = Store.list
    monkeypatch.setattr(
        Store,
        "list",
        lambda self, under="": {key: {"size": 1} for key in listed(self, under)},
    )
    assert {key: len(content) for key, content in all_files(mirror(Store(URL))).items()} == {
        **{"a/status": 8, "a/summary.json": 100}
    }


def test_what_does_not_fit_on_this_disk_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    put("a/status", b"running\n")
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda folder: SimpleNamespace(free=stores.SPARE + 7))
    with pytest.raises(BadInput, match="has room for 0 MiB"):
        mirror(Store(URL))


def test_links_in_a_folder_that_serves_as_a_store_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/summary.json").write_text("hers")
    folder = tmp_path / "bucket/runs"
    (folder / "a").mkdir(parents=True)
    (folder / "a/status").write_text("running\n")
    (folder / "a/summary.json").symlink_to(tmp_path / "secret/summary.json")
    (folder / "b").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "a/pipe")
    store = Store(f"file://{folder}")
    assert list(all_files(mirror(store))) == ["a/status"]
    with pytest.raises(StoreAway, match="link"):
        store.read("b/summary.json", 10)
    with pytest.raises(StoreAway, match="link"):
        store.put("a/summary.json", folder / "a/status")
    assert (tmp_path / "secret/summary.json").read_text() == "hers"


def test_a_broken_memory_of_what_was_fetched_costs_a_second_fetch_and_no_more(tmp_path: Path) -> None:
    write_record(tmp_path / "runs")
    upload_folder(tmp_path / "runs", Store(URL))
    folder = mirror(Store(URL))
    for broken in (b"{", b"[]", json.dumps({"../../x": "v", "a": 3}).encode()):
        (folder / stores.KNOWN).write_bytes(broken)
        assert all_files(mirror(Store(URL))) == all_files(tmp_path / "runs")


def test_a_store_without_records_and_one_that_is_away_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there are no records yet" in what_it_says("table", "--runs", URL)
    printed = what_it_says("claims", "--missing", "--runs", URL)
    commands = [line for line in printed.splitlines() if line.startswith("python -m benchmarks run")]
    assert commands
    assert all(f"results.dir={URL}" in line for line in commands)
    with away(monkeypatch), pytest.raises(StoreAway, match="no answer from the server"):
        readable(URL)


def test_two_servers_with_a_bucket_of_the_same_name_share_no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Store(URL).folder_name
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://here")
    assert Store(URL).folder_name != before
