"""The folder that a run leaves behind.

Every file is written to a temporary name and renamed, so that a reader never sees half of one; `status` comes last.
A complete record is sealed: seal.json holds the hash of every other file, so that a later edit does not go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.records.disk import remove_folder, remove_parts, replace_file, settle_files
from benchmarks.records.parquet import LARGEST_FILE, column_names, read_columns, read_table, write_table
from benchmarks.records.redaction import redact
from tasks.errors import BadInput
from tasks.files import read_file

Status = Literal["running", "complete", "interrupted", "failed"]
RECORD_VERSION = 2
OUTCOMES, SAMPLES = "outcomes.parquet", ("samples.parquet", "greedy.parquet")
"""The test outcomes as numbers, which every comparison reads; and with all texts, which only `show` and the page read,
so that a record may be published without them."""
TABLES = ("ledger.parquet", "curve.parquet", OUTCOMES, *SAMPLES)
KEPT = re.compile(r"[a-z][a-z0-9_]{0,40}\.parquet")
RUNS = Path("results/runs")
"""Where records go unless results.dir says otherwise."""
SEAL = "seal.json"
LARGEST = 64 * 2**20
"""Bytes of a file that is no table."""
STATE = "state"
"""The folder of what a run needs to resume, while it is not complete: benchmarks/resume/state.py."""
POLICY = "policy"
"""The folder of the improved policy. It is not sealed, since weights are large and no reader of records looks at them:
the summary's `policy_state` says what it must be."""


@dataclass(frozen=True, slots=True)
class Record:
    """One run's folder."""

    folder: Path
    writable: bool = True
    """Whether this process owns it; where it does not, writing does nothing."""

    @property
    def name(self) -> str:
        """`<algo>-<task>-<policy>-s<seed>-<hash>`."""
        return self.folder.name

    @property
    def status(self) -> Status | None:
        """How far the run came; None where there is no record."""
        try:
            text = self.read("status", 100).decode().strip()
        except (OSError, ValueError):
            return None
        return text if text in ("running", "complete", "interrupted", "failed") else None  # type: ignore[return-value]

    def write(self, file: str, data: bytes) -> None:
        """Replace one file as a whole."""
        if self.writable:
            replace_file(self.folder / file, data)

    def write_status(self, status: Status) -> None:
        """Set how far the run came; a record that is complete is sealed first."""
        if status == "complete" and self.writable:
            self.write_json(SEAL, {"record_version": RECORD_VERSION, "sha256": self.hashes()})
        self.write("status", f"{status}\n".encode())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file by its path in the record.

        Without the seal and the status, which come after it, the state, which goes when the record is complete, the
        policy, hidden files, which a network disk leaves there, and links.
        """
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or name.parts[0] in (SEAL, "status", STATE, POLICY):
                continue
            if path.is_file() and not path.is_symlink():
                found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def write_json(self, file: str, value: Any) -> None:
        """Write a JSON file; NaN and infinities are refused."""
        self.write(file, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def write_rows(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a parquet file, one row per mapping; a key that a row lacks is null there."""
        self.write(file, write_table(rows))

    def keep(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table that an algorithm wants on record.

        Raises:
            ValueError: the name is none of a parquet file in this folder, or one that the record uses itself.
        """
        if not KEPT.fullmatch(file) or file in TABLES:
            raise ValueError(
                f"cannot keep {file!r}: use NAME.parquet of a-z, 0-9 and _, and none of {', '.join(TABLES)}"
            )
        self.write_rows(file, rows)

    def keep_policy(self, save: Callable[[Path], None]) -> None:
        """Have the improved policy written into a folder, which takes its name when it is whole.

        Args:
            save: writes the policy into the folder that it is given.
        """
        if not self.writable:
            return
        unfinished = self.folder / f".{POLICY}"
        remove_folder(unfinished)
        save(unfinished)
        for file in sorted(unfinished.iterdir()):
            if file.suffix in (".json", ".md"):  # Libraries write down which folder a model came from.
                file.write_text(redact(file.read_text(encoding="utf-8")), encoding="utf-8")
        settle_files(unfinished)
        remove_folder(self.folder / POLICY)
        unfinished.rename(self.folder / POLICY)

    def read(self, file: str, largest: int = LARGEST) -> bytes:
        """A file of the record.

        Raises:
            OSError: it is not there, is larger than that many bytes, is no regular file, or is reached through a
                symbolic link: a record that came from somewhere else must not show what lies elsewhere on this disk.
        """
        parents: Iterable[Path] = (self.folder,)
        if "/" in file or file == "..":
            within = Path(file)
            if within.is_absolute() or ".." in within.parts:
                raise OSError("it is no file of the record")
            parents = (self.folder / part for part in within.parents)
        if any(parent.is_symlink() for parent in parents):
            raise OSError("it is reached through a symbolic link")
        return read_file(self.folder / file, largest, follow=False)

    def read_json(self, file: str) -> Any:
        """Read a JSON file of the record."""
        return json.loads(self.read(file))

    def column_names(self, file: str) -> list[str]:
        """The columns of a parquet file of the record."""
        return column_names(self.read(file, LARGEST_FILE))

    def read_columns(self, file: str, names: Sequence[str]) -> dict[str, list[Any]]:
        """Read some columns of a parquet file of the record, by name."""
        return read_columns(self.read(file, LARGEST_FILE), names)

    def read_rows(self, file: str) -> list[dict[str, Any]]:
        """Read a parquet file of the record."""
        return read_table(self.read(file, LARGEST_FILE))

    def clear(self, *, resumes: bool = False) -> None:
        """Remove what an earlier attempt left, so that nothing of it is taken for the next one's; its state stays.

        Args:
            resumes: keep the tables that the algorithm put there, with which the next attempt resumes.
        """
        if not self.writable:
            return
        tables = TABLES if resumes else [path.name for path in self.folder.glob("*.parquet")]
        for file in (SEAL, "summary.json", "error.txt", *tables):
            (self.folder / file).unlink(missing_ok=True)
        for folder in (self.folder / POLICY, self.folder / f".{POLICY}"):
            remove_folder(folder)
        remove_parts(self.folder)


def open_record(directory: Path, name: str) -> Record:
    """Make a run's folder.

    Raises:
        BadInput: the results directory cannot be written.
    """
    folder = directory / name
    if folder.is_symlink():
        raise BadInput(f"{folder}: is a symbolic link, and the run would write where it leads; remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"results.dir={directory}: cannot write there ({error.strerror}); give a writable folder"
        ) from None
    return Record(folder)


def records(directory: Path) -> Iterator[Record]:
    """All records below a directory, by name."""
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such results folder; run something first, or give --runs DIR")
    for folder in sorted(directory.iterdir()):
        record = Record(folder)
        if record.status is not None:
            yield record
