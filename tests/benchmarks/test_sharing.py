"""Runs whose records go to a store: on one machine, on one after another, on two at once, and with the store away."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_off import SMALL, Killed, configured, dies, outcome
from rich.console import Console
from stores import URL, away, emptied, put
from test_resume import GRPO

from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.mirror import mirror
from benchmarks.records.record import Record
from benchmarks.records.store import Store
from benchmarks.resume.lock import FOLDER, Held
from benchmarks.resume.state import StateStore
from benchmarks.running import sharing as sharings
from benchmarks.running import store_lock
from benchmarks.running.run import run
from benchmarks.running.session import RunSession
from benchmarks.running.sharing import Sharing, shared, status_in
from benchmarks.running.store_lock import StoreLock, held_in_store, holder_in_store
from benchmarks.sweep import launch
from tasks.errors import RunFailed

NAME = "grpo-wordle-tiny-s0-0000000000"


@pytest.fixture(autouse=True)
def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("benchmarks.records.mirror.mirrors", lambda: tmp_path / "mirrors")
    with emptied():
        yield


class Machine:
    """One of several with a disk of its own."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.said: list[str] = []

    def config(self, *words: str) -> RunConfig:
        return check_config(compose_config(self.words(*words)))

    def words(self, *words: str) -> list[str]:
        return [*SMALL, f"results.dir={URL}", f"results.scratch={self.scratch}", "results.upload_every_s=0", *words]

    def run(self, *words: str) -> Any:
        with Path(os.devnull).open("w") as nowhere:
            return run(self.config(*words), Console(file=nowhere), "test")

    @property
    def folder(self) -> Path:
        return self.scratch / Store(URL).folder_name

    def record(self, updates: int = 0, status: str | None = "running") -> Record:
        """A record that a run has left here."""
        folder = self.folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        record = Record(folder)
        record.write("config.yaml", b"seed: 0\n")
        record.write("manifest.json", b"{}")
        if updates:
            states = StateStore(folder)
            for update in range(1, updates + 1):
                save(states, update)
        if status:
            record.write_status(status)  # type: ignore[arg-type]
        return record

    def share(self, record: Record) -> Any:
        return shared(URL, record, 0, self.said.append)


@pytest.fixture
def here(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "there")


def save(states: StateStore, updates: int) -> None:
    states.save(updates, {}, {"weights/w": torch.full((3,), float(updates))}, [{"update": updates}])


def keys() -> list[str]:
    return sorted(Store(URL).list())


def is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ten minutes had passed."""
    monkeypatch.setattr(store_lock, "EXPIRED_S", -1.0)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No upload is put off because the last one took long, as it may on a busy machine."""
    monkeypatch.setattr(sharings, "SHARE", 0)


def test_a_run_leaves_the_record_in_the_store_and_is_not_made_again(
    here: Machine, there: Machine, tmp_path: Path
) -> None:
    done = here.run("+algo=base")
    assert done.ran
    assert not done.record.folder.exists()
    assert "state" not in "".join(keys())
    assert not any(key.startswith(".") for key in keys())
    copy = Record(mirror(Store(URL)) / done.record.name)
    with Path(os.devnull).open("w") as nowhere:
        same = run(configured(tmp_path / "local", "+algo=base"), Console(file=nowhere), "test").record
    assert outcome(copy) == outcome(same)
    assert copy.name == same.name
    assert {path.name for path in copy.folder.iterdir()} == {path.name for path in same.folder.iterdir()} - {"policy"}
    kept = {f"{same.name}/policy/{path.name}": path.stat().st_size for path in (same.folder / "policy").iterdir()}
    assert {key: entry.size for key, entry in Store(URL).list().items() if "/policy/" in key} == kept
    before = Store(URL).list()
    for machine in (here, there):
        assert not machine.run("+algo=base").ran
        assert list(machine.folder.glob("*-*")) == []
    assert Store(URL).list() == before


def test_a_run_whose_machine_dies_goes_on_from_the_store_on_another(
    here: Machine, there: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(RunSession, "step", dies(3, RunSession.step))
        patched.setattr("benchmarks.running.attempt.end", lambda record, session, error: error)
        patched.setattr(Sharing, "give_up", lambda self: None)
        patched.setattr(StoreLock, "release", lambda self: self._over.set())
        with pytest.raises(Killed):
            here.run(*GRPO)
    assert there.run(*GRPO).held_by
    is_silent(monkeypatch)
    done = there.run(*GRPO)
    copy = Record(mirror(Store(URL)) / done.record.name)
    assert [each["after_update"] for each in copy.read_json("manifest.json")["resumed"]] == [2]
    with Path(os.devnull).open("w") as nowhere:
        whole = run(configured(tmp_path / "local", *GRPO), Console(file=nowhere), "test").record
    assert outcome(copy) == outcome(whole)
    assert not here.run(*GRPO).ran
    assert list(here.folder.glob("*-*")) == []


def test_a_store_that_goes_away_costs_nothing_and_gets_the_record_with_the_next_command(
    here: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = RunSession.begin
    with ExitStack() as until_then:

        def begin_and_go_away(session: RunSession) -> None:
            begin(session)
            until_then.enter_context(away(monkeypatch))

        monkeypatch.setattr(RunSession, "begin", begin_and_go_away)
        with pytest.raises(RunFailed, match=r"is complete in .* and not uploaded, which the same command does"):
            here.run("+algo=base")
    (record,) = here.folder.glob("base-*")
    assert Record(record).status == "complete"
    assert status_in(Store(URL), record.name) == "running"
    monkeypatch.setattr(RunSession, "begin", dies(1, begin))
    assert launch.launch(here.words("+algo=base")) == 0
    assert f"{record.name}: uploaded" in capsys.readouterr().out
    assert status_in(Store(URL), record.name) == "complete"
    assert not record.exists()


def test_a_run_that_is_forced_takes_away_what_the_store_had_of_it(here: Machine) -> None:
    for file in ("summary.json", "seal.json", "state/0.safetensors", "credit_first.parquet"):
        put(f"{NAME}/{file}", b"old")
    put(f"{NAME}/status", b"complete\n")
    record = here.record()
    with here.share(record) as shared_run:
        assert not shared_run.settle(StateStore(record.folder), force=True)
        shared_run.begin()
    assert keys() == [f"{NAME}/{file}" for file in ("config.yaml", "manifest.json", "status")]
    assert status_in(Store(URL), NAME) == "running"


def test_another_run_s_command_uploads_what_was_left(here: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    record = here.record(status="complete")
    sharings.upload_left(URL, here.folder, print)
    assert capsys.readouterr().out == f"{NAME}: uploaded\n"
    assert status_in(Store(URL), NAME) == "complete"
    assert not record.folder.exists()


def test_a_record_that_another_machine_completed_meanwhile_is_not_overwritten(here: Machine) -> None:
    record = here.record(status="complete")
    put(f"{NAME}/manifest.json", b'{"of": "another"}')
    put(f"{NAME}/status", b"complete\n")
    sharings.upload_left(URL, here.folder, here.said.append)
    assert Store(URL).read(f"{NAME}/manifest.json", 100) == b'{"of": "another"}'
    assert not record.folder.exists()


def test_while_a_run_goes_on_the_store_gets_its_state_and_whatever_happens_status_last(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, put_in_order = here.record(), list[str]()
    for name in ("write", "upload"):
        method = getattr(Store, name)

        def noted(self: Store, key: str, what: Any, method: Any = method) -> None:
            put_in_order.append(key.removeprefix(f"{NAME}/"))
            method(self, key, what)

        monkeypatch.setattr(Store, name, noted)
    with here.share(record) as shared_run:
        states = StateStore(record.folder, saved=shared_run.saved)
        assert not shared_run.settle(states, force=False)
        shared_run.begin()
        assert put_in_order == ["status", "config.yaml", "manifest.json"]
        save(states, 1)
        record.write("samples.parquet", b"x")
        save(states, 2)
        assert put_in_order[-4:] == ["samples.parquet", "state/log.jsonl", "state/1.safetensors", "state/newest.json"]
        record.write_status("interrupted")
        shared_run.finish()
        assert put_in_order[-1] == "status"
    assert status_in(Store(URL), NAME) == "interrupted"
    assert record.status == "interrupted"


def test_uploads_take_a_tenth_of_the_time_at_most(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(sharings.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sharings, "SHARE", 9)
    pushes: list[float] = []

    def push(self: Sharing, *, state: bool) -> None:
        pushes.append(clock[0])
        clock[0] += 10

    monkeypatch.setattr(Sharing, "_push", push)
    with here.share(here.record()) as shared_run:
        for _ in range(300):
            shared_run.saved()
            clock[0] += 1
    assert {later - sooner for sooner, later in itertools.pairwise(pushes)} == {100.0}


def test_the_store_away_in_a_run_is_said_once_and_its_return_too(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = here.record()
    with here.share(record) as shared_run:
        states = StateStore(record.folder, saved=shared_run.saved)
        shared_run.settle(states, force=False)
        with away(monkeypatch):
            save(states, 1)
            save(states, 2)
        save(states, 3)
    assert [text.partition(":")[0] for text in here.said] == ["not uploaded, and tried again later", "memory"]
    assert json.loads(Store(URL).read(f"{NAME}/state/newest.json", 100))["updates"] == 3


@pytest.mark.parametrize(("updates", "after"), [(1, 4), (4, 4), (6, 6)])
def test_a_run_goes_on_from_whichever_has_made_more_updates(
    here: Machine, there: Machine, updates: int, after: int
) -> None:
    record = there.record(4)
    with there.share(record) as shared_run:
        states = StateStore(record.folder)
        shared_run.states = states
        assert states.newest()
        shared_run.finish()
    record = here.record(updates)
    with here.share(record) as shared_run:
        states = StateStore(record.folder)
        assert not shared_run.settle(states, force=False)
        found = states.newest()
    assert found
    assert found.updates == after
    assert found.tensors["weights/w"].tolist() == [float(after)] * 3
    assert found.log == [{"update": update} for update in range(1, after + 1)]


@pytest.mark.parametrize(
    "pointer",
    [
        b"",
        b"[]",
        b"{",
        b'{"updates": 9}',
        b'{"updates": 9, "file": "../../../x"}',
        b'{"updates": 9, "file": "/etc/passwd"}',
        b'{"updates": "9", "file": "0.safetensors"}',
        b'{"updates": true, "file": "0.safetensors"}',
        b'{"updates": 9, "file": "0.safetensors"}' + b" " * 5000,
    ],
)
def test_a_hostile_pointer_to_a_state_is_no_pointer(pointer: bytes, here: Machine) -> None:
    record = here.record(2)
    put(f"{NAME}/state/newest.json", pointer)
    put(f"{NAME}/state/0.safetensors", b"hostile")
    with here.share(record) as shared_run:
        states = StateStore(record.folder)
        shared_run.settle(states, force=False)
        found = states.newest()
    assert found
    assert found.updates == 2


def test_a_state_in_the_store_that_is_damaged_starts_the_run_afresh_and_is_named(here: Machine) -> None:
    record = here.record()
    put(f"{NAME}/state/newest.json", b'{"updates": 9, "file": "0.safetensors"}')
    put(f"{NAME}/state/0.safetensors", b"hostile")
    put(f"{NAME}/state/log.jsonl", b"")
    with here.share(record) as shared_run:
        states = StateStore(record.folder)
        shared_run.settle(states, force=False)
        assert states.newest() is None
        assert "0.safetensors" in states.damage[0]


def test_a_run_that_another_machine_holds_is_not_to_be_had_until_that_is_silent(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_in_store(Store(URL), NAME, here.folder / FOLDER) as lock:
        with pytest.raises(Held, match=f"process {os.getpid()} on "), held_in_store(Store(URL), NAME, there.folder):
            pass
        assert holder_in_store(Store(URL), NAME, there.folder)
        lock.confirm()
        is_silent(monkeypatch)
        assert holder_in_store(Store(URL), NAME, there.folder) is None
        with held_in_store(Store(URL), NAME, there.folder):
            with pytest.raises(RunFailed, match="has taken this run"):
                lock.confirm()
            with pytest.raises(RunFailed, match="has taken this run"):
                lock.must_be_held()
            lock.release()
            assert Store(URL).entry(f"{FOLDER}/{NAME}")
    assert keys() == []


def test_a_machine_that_lost_its_run_uploads_nothing_more(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = here.record(1)
    with here.share(record) as slow:
        slow.states = StateStore(record.folder)
        is_silent(monkeypatch)
        other = there.record(2, status="complete")
        with there.share(other) as quick:
            quick.settle(StateStore(other.folder), force=False)
            before = Store(URL).list(NAME)
            with pytest.raises(RunFailed, match="has taken this run"):
                slow.finish()
        slow.give_up()
    assert Store(URL).list(NAME) == before
    assert status_in(Store(URL), NAME) == "complete"
    assert "has taken this run" in here.said[-1]


def test_the_lock_of_a_killed_process_is_no_lock_on_the_same_disk(here: Machine) -> None:
    lock = StoreLock(Store(URL), NAME, here.folder / FOLDER)
    lock._over.set()  # Killed: nothing is released.
    assert holder_in_store(Store(URL), NAME, here.folder / FOLDER) is None
    with held_in_store(Store(URL), NAME, here.folder / FOLDER):
        pass
    assert keys() == []
    assert list((here.folder / FOLDER).iterdir()) == []


def test_where_a_store_creates_what_is_there_already_the_last_writer_holds_the_run(
    here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "create", lambda self, key, data: self.write(key, data) or True)
    with held_in_store(Store(URL), NAME, here.folder) as first, held_in_store(Store(URL), NAME, there.folder) as second:
        second.confirm()
        with pytest.raises(RunFailed, match="has taken this run"):
            first.confirm()


@pytest.mark.parametrize("text", [b"", b"x" * 5000, b"\xff", b"[]", b'{"host": "\\u001b[2J", "pid": "9\\n9"}'])
def test_a_strange_lock_is_a_lock_and_steers_no_terminal(text: bytes, here: Machine) -> None:
    put(f"{FOLDER}/{NAME}", text)
    with pytest.raises(Held) as held, held_in_store(Store(URL), NAME, here.folder):
        pass
    assert str(held.value).isprintable()


def test_a_beating_lock_stays_fresh_and_notices_that_it_was_taken(
    here: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_lock, "BEAT_S", 0.01)
    with held_in_store(Store(URL), NAME, here.folder) as lock:
        first = Store(URL).entry(lock.key)
        until = time.monotonic() + 20
        while Store(URL).entry(lock.key) == first and time.monotonic() < until:
            time.sleep(0.01)
        assert Store(URL).entry(lock.key) != first
        put(lock.key, b'{"host": "another", "pid": 7}')
        while not lock.taken_by and time.monotonic() < until:
            put(lock.key, b'{"host": "another", "pid": 7}')
            time.sleep(0.01)
        assert lock.taken_by == "process 7 on another"


def test_a_sweep_leaves_to_another_machine_what_that_is_at_work_on(
    here: Machine, there: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    config = here.config("+algo=base", "seed=0")
    name = config.run_name(config.task_class(config.task).fingerprint())
    with held_in_store(Store(URL), name, there.folder / FOLDER):
        assert launch.launch(here.words("+algo=base", "seed=0,1"), many=True) == 0
    said = capsys.readouterr().err
    assert "sweep: 1 of 2 runs complete\nat work elsewhere (process " in said
    assert launch.launch(here.words("+algo=base", "seed=0,1"), many=True) == 0
    assert "sweep: 2 of 2 runs complete" in capsys.readouterr().err
    assert not Path("memory:").exists()


def test_where_records_go_is_no_part_of_their_names(tmp_path: Path, here: Machine) -> None:
    configs = [here.config("+algo=base"), configured(tmp_path, "+algo=base")]
    assert len({config.run_name("fingerprint") for config in configs}) == 1
    assert "memory" not in json.dumps(configs[0].resolved)
