"""Links planted at every place that a run opens: none is followed, neither for reading nor for writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from broken_off import SMALL
from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.running.run import run
from tasks.errors import BadInput

WORDS = ("+algo=base", *SMALL, "warmstart=sft", "warmstart.transcripts=2")
WRITTEN_ON_THE_WAY = (
    *("{run}/.status.part", "{run}/.manifest.json.part", "{run}/.policy", "{run}/error.txt", "{run}/state/log.jsonl"),
    *("{run}/state/00000000.safetensors", "{run}/state/.00000000.safetensors.part", "{warm}.unfinished", "{lock}.json"),
)
"""What is gone when a run is complete."""


def ran(results: Path) -> Record:
    with Path(os.devnull).open("w") as nowhere:
        config = check_config(compose_config([*WORDS, f"results.dir={results}"]))
        return run(config, Console(file=nowhere), "test").record


def snapshot(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every path below a results folder that a run writes, files and folders."""
    results = tmp_path_factory.mktemp("clean") / "runs"
    name = ran(results).name
    (warm,) = (path for path in (results / ".warmstarts").iterdir() if path.is_dir())
    places = {"run": name, "warm": f".warmstarts/{warm.name}", "lock": f".locks/{name}"}
    return [*snapshot(results), *(place.format(**places) for place in WRITTEN_ON_THE_WAY)]


def plant(place: Path, private: Path) -> None:
    """A link in a place: to a folder where the run makes one, and else to a file."""
    if not os.path.lexists(place) and not any(parent.is_symlink() for parent in place.parents):
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = place.suffix == "" or place.name in (".policy", ".locks") or place.suffix == ".unfinished"
        place.symlink_to(private if folder and place.name != "status" else private / "secret")


def test_links_in_the_place_of_whatever_a_run_writes_are_not_followed(opened: list[str], tmp_path: Path) -> None:
    private, results = tmp_path / "private", tmp_path / "runs"
    private.mkdir()
    (private / "secret").write_text("gold")
    before = snapshot(private)
    folders = {str(Path(path).parent) for path in opened}
    for path in opened:
        # Locks, and the folders in which the rest is, are another test's.
        if not path.endswith(".lock") and (path not in folders or path.count("/")):
            plant(results / path, private)
    record = ran(results)
    assert record.status == "complete"
    assert snapshot(private) == before
    left = [str(path.relative_to(results)) for path in results.rglob("*") if path.is_symlink()]
    assert left == []
    assert not any(b"gold" in (content or b"") for content in snapshot(results).values())


def test_a_folder_or_a_lock_that_is_a_link_is_refused_in_one_line(opened: list[str], tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret").write_text("gold")
    before = snapshot(private)
    places = [path for path in opened if path.endswith(".lock") or "/" not in path]
    assert len(places) == 7
    for number, path in enumerate(places):
        plant(tmp_path / str(number) / path, private)
        with pytest.raises(BadInput, match=r"symbolic link|cannot be locked") as refused:
            ran(tmp_path / str(number))
        assert "\n" not in str(refused.value)
        assert snapshot(private) == before
