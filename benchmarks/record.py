"""The folder that a run leaves behind.

Every file is written to a temporary name and renamed, so that a reader never sees half of one; `status` comes last.
A complete record is sealed: seal.json holds the hash of every other file, so that a later edit does not go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.disk import remove_parts, replace_file
from tasks.errors import BadInput

Status = Literal["running", "complete", "interrupted", "failed"]
RECORD_VERSION = 1
TABLES = ("ledger.parquet", "curve.parquet", "samples.parquet", "greedy.parquet")
KEPT = re.compile(r"[a-z][a-z0-9_]{0,40}\.parquet")
RUNS = Path("results/runs")
"""Where records go unless results.dir says otherwise."""
SEAL = "seal.json"
STATE = "state"
"""The folder of what a run needs to go on, while it is not complete: benchmarks/state.py."""


@dataclass(frozen=True, slots=True)
class Record:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """`<algo>-<task>-<policy>-s<seed>-<hash>`."""
        return self.folder.name

    @property
    def status(self) -> Status | None:
        """How far the run came; None where there is no record."""
        try:
            text = (self.folder / "status").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return text if text in ("running", "complete", "interrupted", "failed") else None  # type: ignore[return-value]

    def write(self, file: str, data: bytes) -> None:
        """Replace one file as a whole."""
        replace_file(self.folder / file, data)

    def write_status(self, status: Status) -> None:
        """Set how far the run came; a record that is complete is sealed first."""
        if status == "complete":
            self.write_json(SEAL, {"record_version": RECORD_VERSION, "sha256": self.hashes()})
        self.write("status", f"{status}\n".encode())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file by its path in the record.

        Without the seal and the status, which come after it, and the state, which goes when the record is complete.
        """
        files = {path.relative_to(self.folder): path for path in sorted(self.folder.rglob("*")) if path.is_file()}
        return {
            name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in files.items()
            if name.parts[0] not in (SEAL, "status", STATE)
        }

    def write_json(self, file: str, value: Any) -> None:
        """Write a JSON file; NaN and infinities are refused."""
        self.write(file, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def write_rows(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a parquet file, one row per mapping; a key that a row lacks is null there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(dict.fromkeys(name for row in rows for name in row))
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.write(file, sink.getvalue().to_pybytes())

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

    def read_json(self, file: str) -> Any:
        """Read a JSON file of the record."""
        return json.loads((self.folder / file).read_text(encoding="utf-8"))

    def read_rows(self, file: str) -> list[dict[str, Any]]:
        """Read a parquet file of the record."""
        import pyarrow.parquet as pq

        # Not `read_table`, which imports pandas.
        with pq.ParquetFile(self.folder / file) as opened:
            rows: list[dict[str, Any]] = opened.read(use_threads=False).to_pylist()  # Small: threads only wait.
        return rows

    def clear(self) -> None:
        """Remove what an earlier attempt left, so that nothing of it is taken for the next one's; its state stays."""
        for file in (SEAL, "summary.json", "error.txt", *(path.name for path in self.folder.glob("*.parquet"))):
            (self.folder / file).unlink(missing_ok=True)
        remove_parts(self.folder)


def open_record(directory: Path, name: str) -> Record:
    """Make a run's folder.

    Raises:
        BadInput: the results directory cannot be written.
    """
    folder = directory / name
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
