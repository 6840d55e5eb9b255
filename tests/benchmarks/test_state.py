"""States on disk: what is read back, and what damage, a kill or a full disk leaves."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_off import Killed, dies

from benchmarks.records.record import Record
from benchmarks.resume.state import StateStore, pack, read_state, unpack, write_state


def save(store: StateStore, updates: int) -> None:
    tensors = {"w": torch.full((3, 2), float(updates)), "half": torch.ones(2, dtype=torch.bfloat16)}
    store.save(updates, {"said": "x" * updates}, tensors, [{"update": updates}])


def saved_up_to(folder: Path, updates: int) -> StateStore:
    store = StateStore(folder)
    for update in range(1, updates + 1):
        save(store, update)
    return StateStore(folder)


def files(folder: Path) -> list[Path]:
    """The states, the newest first."""
    return sorted((folder / "state").glob("*.safetensors"), reverse=True)


def test_the_newest_state_is_read_back_with_its_log(tmp_path: Path) -> None:
    found = saved_up_to(tmp_path, 7).newest()
    assert found
    assert found.updates == 7
    assert found.about["said"] == "x" * 7
    assert found.tensors["w"].tolist() == [[7.0, 7.0]] * 3
    assert found.tensors["half"].dtype == torch.bfloat16
    assert found.log == [{"update": update} for update in range(1, 8)]


def test_two_states_are_kept(tmp_path: Path) -> None:
    saved_up_to(tmp_path, 7)
    assert [read_state(path)[0]["updates"] for path in files(tmp_path)] == [7, 6]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        *("00000006.safetensors", "00000007.safetensors", "log.jsonl")
    ]


@pytest.mark.parametrize("place", [0, 9, 40, -1])
def test_one_wrong_bit_anywhere_is_noticed_and_the_state_before_is_used(tmp_path: Path, place: int) -> None:
    store = saved_up_to(tmp_path, 4)
    newest = files(tmp_path)[0]
    content = bytearray(newest.read_bytes())
    content[place] ^= 1
    newest.write_bytes(content)
    found = store.newest()
    assert found
    assert found.updates == 3
    assert found.log == [{"update": update} for update in (1, 2, 3)]
    assert len(store.damage) == 1
    assert newest.name in store.damage[0]


def test_after_damage_the_run_is_saved_as_before(tmp_path: Path) -> None:
    store = saved_up_to(tmp_path, 4)
    files(tmp_path)[0].write_bytes(b"")
    assert store.newest()
    for update in (4, 5, 6):
        save(store, update)
    found = StateStore(tmp_path).newest()
    assert found
    assert (found.updates, found.log) == (6, [{"update": update} for update in range(1, 7)])


def test_a_damaged_log_takes_the_states_that_need_it_along(tmp_path: Path) -> None:
    store = saved_up_to(tmp_path, 4)
    log = tmp_path / "state" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-3])
    found = store.newest()
    assert found
    assert found.updates == 3
    log.write_bytes(b"nothing of it")
    assert store.newest() is None
    assert not store.exist()


def test_what_is_left_of_a_kill_at_any_fsync_or_rename_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(1, 30):
        folder = tmp_path / str(at)
        folder.mkdir()
        record, store = Record(folder), StateStore(folder)
        with monkeypatch.context() as patched:
            for name in ("fsync", "replace"):
                patched.setattr(os, name, dies(at, getattr(os, name)))
            done = 0
            try:
                for update in range(1, 5):
                    record.write("status", f"{update}".encode() * 1000)
                    save(store, update)
                    done = update
            except Killed:
                pass
        found = StateStore(folder).newest()
        assert found.updates >= done if found else done == 0
        if (folder / "status").exists():
            assert (folder / "status").read_bytes() in [f"{update}".encode() * 1000 for update in range(1, 5)]


def test_a_disk_that_is_full_in_the_middle_of_a_state_leaves_the_two_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    store = saved_up_to(tmp_path, 2)
    found = store.newest()

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="No space left on device"):
            save(store, 3)
    assert [path.name for path in files(tmp_path)] == ["00000002.safetensors", "00000001.safetensors"]
    assert not list((tmp_path / "state").glob(".*"))
    save(store, 3)
    found = StateStore(tmp_path).newest()
    assert found
    assert (found.updates, len(found.log)) == (3, 3)


def test_a_state_that_its_reader_cannot_take_over_is_damage_and_the_one_before_is_used(tmp_path: Path) -> None:
    def takes_the_first(saved: Any) -> None:
        if saved.updates > 1:
            raise KeyError("ledger")

    store = saved_up_to(tmp_path, 2)
    found = store.newest(takes_the_first)
    assert found
    assert found.updates == 1
    assert store.damage == ["state/00000002.safetensors: 'ledger'"]


@pytest.mark.parametrize("change", [{"log_bytes": 1e400}, {"updates": 10**400}, {"log_bytes": -1}, {"version": None}])
def test_a_state_that_says_what_cannot_be_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    store = saved_up_to(tmp_path, 1)
    about, tensors = read_state(files(tmp_path)[0])
    write_state(files(tmp_path)[0], about | change, tensors)
    assert store.newest() is None
    assert len(store.damage) == 1


def test_a_sparse_log_and_a_sparse_state_are_not_read(tmp_path: Path) -> None:
    store = saved_up_to(tmp_path, 1)
    os.truncate(files(tmp_path)[0], 2**42)
    os.truncate(tmp_path / "state" / "log.jsonl", 20 * 2**30)
    assert store.newest() is None
    assert "larger than" in store.damage[0]
    assert "larger than the memory" in store.damage[1]


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def test_a_pickle_in_the_place_of_a_state_is_not_unpickled(tmp_path: Path) -> None:
    store = saved_up_to(tmp_path, 2)
    trace = tmp_path / "executed"
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()
    trace.unlink()
    for path in [*(tmp_path / "state").iterdir()]:
        path.write_bytes(pickle.dumps(Bomb(trace)))
    torch.save(Bomb(trace), tmp_path / "state" / "00000009.safetensors")
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "pytorch_model.bin", "gepa_state.bin"):
        (tmp_path / "state" / name).write_bytes(pickle.dumps(Bomb(trace)))
    assert store.newest() is None
    assert len(store.damage) == 3
    assert not trace.exists()


def test_nothing_is_read_or_written_through_planted_links(tmp_path: Path) -> None:
    elsewhere, record = tmp_path / "elsewhere", tmp_path / "record"
    for folder in (elsewhere, record):
        folder.mkdir()
        saved_up_to(folder, 2)
    treasure = {path: path.read_bytes() for path in (elsewhere / "state").iterdir()}
    for path in (record / "state").iterdir():
        path.unlink()
        path.symlink_to(elsewhere / "state" / path.name)
    store = StateStore(record)
    assert store.newest() is None
    assert len(store.damage) == 3
    save(store, 3)
    store.remove()
    (record / "state").symlink_to(elsewhere / "state")
    assert store.newest() is None
    save(store, 3)
    Record(record).write("status", b"failed")
    (record / ".status.part").symlink_to(elsewhere / "state" / "00000001.safetensors")
    Record(record).write("status", b"running")
    assert {path: path.read_bytes() for path in (elsewhere / "state").iterdir()} == treasure


def test_a_pipe_in_the_place_of_a_state_is_not_waited_for(tmp_path: Path) -> None:
    store = saved_up_to(tmp_path, 2)
    newest = files(tmp_path)[0]
    newest.unlink()
    os.mkfifo(newest)
    found = store.newest()
    assert found
    assert found.updates == 1


def test_tensors_of_all_kinds_survive(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "bytes": torch.tensor([0, 255], dtype=torch.uint8),
        "long": torch.tensor([-(2**62)]),
        "nan": torch.tensor([float("nan")]),
    }
    tensors["the same again"] = tensors["turned"]
    tensors["a part"] = tensors["turned"][1]
    write_state(tmp_path / "file", {}, tensors)
    _, found = read_state(tmp_path / "file")
    for name, tensor in tensors.items():
        assert torch.equal(found[name].nan_to_num(7), tensor.nan_to_num(7))
        assert found[name].dtype == tensor.dtype


def test_a_state_may_nest_and_says_what_it_cannot_hold() -> None:
    tensors: dict[str, torch.Tensor] = {}
    state = {"a": [1, {"b": torch.ones(2)}], "c": None, "d": (1.5, "text")}
    packed = pack(state, tensors, "algorithm")
    assert list(tensors) == ["algorithm/a/1/b"]
    found = unpack(packed, tensors)
    assert torch.equal(found["a"][1].pop("b"), torch.ones(2))
    assert found == {"a": [1, {}], "c": None, "d": [1.5, "text"]}
    with pytest.raises(TypeError, match=r"algorithm/x/0: .*not set"):
        pack({"x": [set()]}, {}, "algorithm")
    with pytest.raises(TypeError, match="must be text"):
        pack({1: 2}, {}, "algorithm")
