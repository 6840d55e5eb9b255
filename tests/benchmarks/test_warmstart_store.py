"""Warm starts shared through a store: every machine starts from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import URL, emptied, put

from benchmarks.records.store import Store, StoreAway
from benchmarks.running.warmstart_store import settle_warm_start

KEY = ".warmstarts/0123456789abcdef"


@pytest.fixture(autouse=True)
def in_memory() -> Iterator[None]:
    with emptied():
        yield


def folder(machine: Path) -> Path:
    machine.mkdir(parents=True, exist_ok=True)
    return machine / KEY.rpartition("/")[2]


def making(machine: Path, weights: str) -> Callable[[], None]:
    def make() -> None:
        folder(machine).mkdir()
        (folder(machine) / "model.safetensors").write_text(weights)
        (folder(machine) / "warmstart.json").write_text("{}")

    return make


def never() -> None:
    raise AssertionError("it is there already")


def weights(machine: Path) -> str:
    return (folder(machine) / "model.safetensors").read_text()


def test_the_first_machine_makes_it_and_the_second_takes_it(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert settle_warm_start(URL, folder(here), making(here, "mine"))
    assert not settle_warm_start(URL, folder(there), never)
    assert weights(there) == "mine"
    assert not settle_warm_start(URL, folder(here), never)
    assert sorted(path.name for path in folder(there).iterdir()) == ["model.safetensors", "warmstart.json"]


def test_who_finishes_second_takes_the_first_one_s_and_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"

    def slowly() -> None:
        making(there, "mine, too")()
        settle_warm_start(URL, folder(here), making(here, "mine"))

    assert not settle_warm_start(URL, folder(there), slowly)
    assert weights(there) == weights(here) == "mine"
    assert len(Store(URL).list(KEY)) == 3


def test_one_that_was_made_while_the_store_was_away_is_offered_later_or_gives_way(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    making(here, "mine")()
    making(there, "other")()
    assert not settle_warm_start(URL, folder(here), never)
    assert not settle_warm_start(URL, folder(there), never)
    assert weights(there) == "mine"


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({"chosen": b"../../x"}, "no token"),
        ({"chosen": b""}, "no token"),
        ({"chosen": b"0" * 16}, "holds no warm start"),
        ({"chosen": b"0" * 16, "0000000000000000/../x": b"hostile"}, "holds no warm start"),
        ({"chosen": b"0" * 16, "0000000000000000/deeper/x": b"hostile"}, "holds no warm start"),
        ({"chosen": b"0" * 16, **{f"0000000000000000/{n}": b"" for n in range(101)}}, "holds no warm start"),
    ],
)
def test_what_is_no_warm_start_is_named_and_nothing_of_it_is_written(
    objects: dict[str, bytes], said: str, tmp_path: Path
) -> None:
    for key, content in objects.items():
        put(f"{KEY}/{key}", content)
    with pytest.raises(StoreAway, match=said):
        settle_warm_start(URL, folder(tmp_path / "here"), never)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
