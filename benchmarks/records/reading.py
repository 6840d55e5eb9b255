"""Finding records and reading them with care: a damaged one is named, never half believed."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from benchmarks.records.parquet import LARGEST_FILE, read_columns, read_table
from benchmarks.records.record import OUTCOMES, RECORD_VERSION, SAMPLES, SEAL, Record, Status, records
from benchmarks.wording import COSTS, one_line
from tasks.errors import BadInput, RunFailed
from tasks.files import why

T = TypeVar("T")
NAMES = ("algo", "task", "policy", "budget", "experiment")
TABLES_OF_NUMBERS = ("metrics_final", "metrics_base", "phases", "reward_correlations")
OPTIONAL = ("dollars", "cpu_s", "gpu_s", "mfu")
"""Costs that not every summary has."""
LARGEST_SEAL = 2**20
"""Bytes: some ten thousand hashes."""
FILES = ("status", "config.json", "manifest.json", "summary.json", OUTCOMES, "ledger.parquet", "curve.parquet")
"""What makes a folder a record, whole or not."""
MUST_BE_SEALED = ("config.json", "manifest.json", "summary.json", OUTCOMES, "curve.parquet")
SAMPLED, TSTAR = "sampled", "tstar"
"""The evaluation that accuracies come from, at temperature 1, and the one at each policy's best temperature."""
SetAside = list[tuple[str, str]]
"""(name, reason) of the records that cannot be used."""


class Damaged(ValueError):
    """A record that cannot be used; the text is the reason, in one line of characters that print."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason[:300]))


@dataclass(frozen=True, slots=True)
class Run:
    """One record, read and checked."""

    record: Record
    status: Status
    summary: dict[str, Any]
    """summary.json of a complete run; of others the names and the seed alone."""
    manifest: dict[str, Any] = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    """By dotted key, such as `algo.learning_rate`."""
    curve: list[dict[str, float]] = field(repr=False)
    """Rows of curve.parquet: `spent/AXIS`, val metrics, `reward/COMPONENT`; an incomplete run may have none yet."""
    problems: tuple[str, ...] = ()
    """Of a complete run, the test problems' ids, ascending; of others none."""
    base: list[float] = field(default_factory=list, repr=False)
    final: list[float] = field(default_factory=list, repr=False)
    """Per test problem, in the order of `problems`, the share of its samples that were solved before and after."""
    tstar: tuple[list[float], list[float]] = field(default=([], []), repr=False)
    """The same at each policy's best temperature; empty where the record does not say."""

    @property
    def name(self) -> str:
        """The record's."""
        return self.record.name

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.summary["seed"])

    def outcomes(self, metric: str, stage: str = "final", mode: str = SAMPLED) -> list[float]:
        """Per test problem, by id, the mean over its samples of a column of outcomes.parquet.

        Args:
            metric: `solved`, `score`, `reward/COMPONENT`, or one of the task's metrics.
            stage: `base` or `final`.
            mode: how actions were sampled: `sampled`, `greedy` or `tstar`.

        Raises:
            BadInput: the record has no such metric, or no such samples.
        """
        if metric == "solved" and mode in (SAMPLED, TSTAR):
            base, final = (self.base, self.final) if mode == SAMPLED else self.tstar
            if found := final if stage == "final" else base:
                return found
            raise BadInput(f"solved_tstar: {self.name} has no outcomes at T*")
        column = metric if metric in ("solved", "score") or "/" in metric else f"metric/{metric}"
        names = read(self.record, OUTCOMES, lambda: self.record.column_names(OUTCOMES))
        if column not in names:
            there = [*(name.removeprefix("metric/") for name in names if "/" in name), "score"]
            raise BadInput(f"--metric {metric}: {self.name} has {', '.join(there)}")
        wanted = ["stage", "mode", "problem", column]
        columns = read(self.record, OUTCOMES, lambda: self.record.read_columns(OUTCOMES, wanted))
        by_problem: dict[str, list[float]] = defaultdict(list)
        for at, how, problem, value in zip(*(columns[name] for name in wanted), strict=True):
            if (at, how) == (stage, mode):
                if not is_number(value):
                    raise BadInput(f"--metric {metric}: {self.name} has a sample for which it is no finite number")
                by_problem[problem].append(float(value))
        if by_problem.keys() != set(self.problems):
            raise BadInput(f"{self.name}: no {mode} samples of stage {stage} for every test problem")
        return [math.fsum(by_problem[problem]) / len(by_problem[problem]) for problem in self.problems]


def find_record(directory: Path, wanted: str) -> Record:
    """The record with this name, with the only name that starts so, or (`last`) the one started most recently.

    Raises:
        BadInput: none or several such records; or a path, which could lead out of the directory.
    """
    if not wanted or wanted in (".", "..") or any(mark in wanted for mark in "/\\\0"):
        raise BadInput(f"{wanted!r}: give the name of a record in {directory}, or the start of one, not a path")
    # Names are only compared with what is there: nothing that the user gave becomes part of a path.
    found = {record.name: record for record in records(directory)}
    if not found:
        raise BadInput(f"{directory}: there are no records yet; python -m benchmarks run +algo=grpo makes one")
    if wanted == "last":
        return max(found.values(), key=_started)
    starting = [wanted] if wanted in found else [name for name in found if name.startswith(wanted)]
    if len(starting) == 1:
        return found[starting[0]]
    near = starting or difflib.get_close_matches(wanted, found, n=3, cutoff=0.3) or list(found)
    what = f"{len(starting)} records start so" if starting else "no such record"
    raise BadInput(f"{wanted!r}: {what} in {directory}; there is {some(near)}")


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    return one_line(", ".join(names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _started(record: Record) -> tuple[datetime, str]:
    """When a run started; a run that does not say so counts as the oldest."""
    try:
        when = datetime.fromisoformat(record.read_json("manifest.json")["started"])
    except (OSError, ValueError, LookupError, TypeError):
        when = datetime.min
    return (when if when.tzinfo else when.replace(tzinfo=UTC)), record.name


def read_runs(directory: Path, only: str | None = None) -> tuple[list[Run], SetAside]:
    """Read every record of a directory, by name, or only the one with this name.

    Raises:
        BadInput: there is no such directory.
        RunFailed: there are records, and none of them can be used.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such results folder; run something first, or give --runs DIR")
    runs: list[Run] = []
    aside: SetAside = []
    for folder in _folders(directory) if only is None else [directory / only]:
        try:
            if _is_record(folder):
                runs.append(read_run(Record(folder)))
        except Damaged as damage:
            aside.append((folder.name, str(damage)))
    if aside and not runs:
        raise RunFailed(f"{directory}: none of {len(aside)} records can be used: {'; '.join(reasons(aside)[:5])}")
    return runs, aside


def reasons(aside: SetAside) -> list[str]:
    """Why records were set aside, the most frequent reason first: `83 x REASON (the first few names)`."""
    counted = Counter(reason for _, reason in aside)
    return [
        f"{count} x {reason} ({some([name for name, why_ in aside if why_ == reason], 3)})"
        for reason, count in counted.most_common()
    ]


def say_set_aside(aside: SetAside) -> None:
    """Say on standard error which records entered nothing, and why."""
    for reason in reasons(aside):
        print(f"set aside {reason}", file=sys.stderr)
    if aside:
        print(f"{len(aside)} records set aside", file=sys.stderr)


def _folders(directory: Path) -> list[Path]:
    with os.scandir(directory) as entries:
        # A link is looked at, and set aside: what it leads to is no record of this folder.
        names = sorted(entry.name for entry in entries if entry.is_symlink() or entry.is_dir(follow_symlinks=False))
    return [directory / name for name in names if not name.startswith(".")]


def _is_record(folder: Path) -> bool:
    return folder.is_dir() if folder.is_symlink() else any((folder / file).exists() for file in FILES)


def read(record: Record, file: str, load: Callable[[], T]) -> T:
    """What `load` makes of a file of the record.

    Raises:
        Damaged: there is no such file, or it cannot be read.
    """
    try:
        return load()
    except FileNotFoundError:
        raise Damaged(f"{file}: missing") from None
    except OSError as error:
        raise Damaged(f"{file}: {why(error)}") from None
    # A damaged file makes JSON and Arrow raise nearly anything; all of it means the same.
    except Exception as error:
        raise Damaged(f"{file}: {type(error).__name__}: {error}") from None


def read_run(record: Record) -> Run:
    """Read one record. Of a complete one every file is read once: what is hashed is what is believed.

    Raises:
        Damaged: it cannot be read, it was changed after the run ended, or its files contradict each other.
    """
    if record.folder.is_symlink():
        raise Damaged("it is a symbolic link; copy the record")
    status = read(record, "status", lambda: record.read("status", 100) and record.status)
    if not status:
        raise Damaged("status: must be running, complete, interrupted or failed")
    if status != "complete":
        config, manifest, plan = _plan(record)
        there = (record.folder / "curve.parquet").is_file()
        return Run(record, status, plan, manifest, config, _curve(record, None) if there else [])
    contents = check_seal(record)
    summary = read_summary(record, contents["summary.json"])
    config, manifest = (
        _config(record, contents["config.json"]),
        _mapping(record, "manifest.json", contents["manifest.json"]),
    )
    solved = read(record, OUTCOMES, lambda: _solved(contents[OUTCOMES], summary))
    ids = tuple(sorted(solved["final", SAMPLED]))
    base, final, *tstar = (
        [solved[stage, mode][problem] for problem in ids if (stage, mode) in solved]
        for mode in (SAMPLED, TSTAR)
        for stage in ("base", "final")
    )
    curve = _curve(record, contents["curve.parquet"])
    return Run(record, status, summary, manifest, config, curve, ids, base, final, (tstar[0], tstar[1]))


def check_seal(record: Record) -> dict[str, bytes]:
    """Compare a complete record with the hashes that were taken when it was closed.

    Returns:
        The contents of the files that every reader needs.

    Raises:
        Damaged: no seal or one of another version, or a file that is gone (but for those of SAMPLES), was changed, or
            was never sealed.
    """
    seal: Any = read(record, SEAL, lambda: dict(json.loads(record.read(SEAL, LARGEST_SEAL))))
    if (found := seal.get("record_version")) != RECORD_VERSION:
        raise Damaged(f"{SEAL}: record_version {found}, and {RECORD_VERSION} is read; make the run again")
    hashes = seal.get("sha256")
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise Damaged(f"{SEAL}: must hold a hash per file")
    for file in MUST_BE_SEALED:
        if file not in hashes:
            raise Damaged(f"{SEAL}: says nothing of {file}")
    contents = {}
    for file, sealed in hashes.items():
        within = Path(file)
        if ".." in within.parts or within.is_absolute():
            raise Damaged(f"{SEAL}: names a file outside the record")
        # Other spellings of a name would have the same file read again and again.
        if within.as_posix() != file:
            raise Damaged(f"{SEAL}: names a file in a roundabout way")
        if file in SAMPLES and not os.path.lexists(record.folder / file):
            continue
        content = read(record, file, lambda file=file: record.read(file, LARGEST_FILE))  # type: ignore[misc]
        if hashlib.sha256(content).hexdigest() != sealed:
            raise Damaged(f"{file}: changed after the run ended (its hash is not the one in {SEAL})")
        if file in MUST_BE_SEALED:
            contents[file] = content
    return contents


def _mapping(record: Record, file: str, content: bytes | None = None) -> dict[str, Any]:
    value: Any = read(record, file, lambda: json.loads(record.read(file) if content is None else content))
    if not isinstance(value, dict):
        raise Damaged(f"{file}: must be an object")
    return value


def _config(record: Record, content: bytes | None = None) -> dict[str, Any]:
    tree = _mapping(record, "config.json", content)
    return read(record, "config.json", lambda: flat(tree))  # It may be nested too deep.


def _curve(record: Record, content: bytes | None) -> list[dict[str, float]]:
    """The learning curve's rows, checked: every value a finite number, or null where nothing was measured."""

    def load() -> list[dict[str, float]]:
        rows = read_table(record.read("curve.parquet", LARGEST_FILE) if content is None else content)
        if not rows:
            raise ValueError("it has no row, and the first is measured before anything else")
        if not all(value is None or is_number(value) for row in rows for value in row.values()):
            raise ValueError("every value must be a finite number")
        return rows

    return read(record, "curve.parquet", load)


def _solved(content: bytes, summary: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    """Per stage and mode (sampled, and at T* where that was measured) each problem's share of solved samples.

    Raises:
        ValueError: they are not of the same problems everywhere, or average to another accuracy than summary.json says.
    """
    wanted = ["stage", "mode", "problem", "solved"]
    columns = read_columns(content, wanted)
    if set(map(type, columns["problem"])) - {str}:
        raise ValueError("problem must be a text")
    outcomes: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for stage, mode, problem, value in zip(*(columns[name] for name in wanted), strict=True):
        outcomes[stage, mode][problem].append(float(value))
    shares = {}
    problems = outcomes["final", SAMPLED].keys()
    for mode, accuracy in ((SAMPLED, "accuracy"), (TSTAR, "accuracy_tstar")):
        for stage in ("base", "final") if mode == SAMPLED or mode in {each for _, each in outcomes} else ():
            found = outcomes[stage, mode]
            samples = set(map(len, found.values()))
            if len(found) != summary["n_test"] or (mode == SAMPLED and samples != {summary["test_samples"]}):
                raise ValueError(f"not n_test problems × test_samples {stage} samples, as summary.json says")
            if found.keys() != problems:
                raise ValueError("not all samples are of the same problems")
            share = {problem: math.fsum(solved) / len(solved) for problem, solved in found.items()}
            if not all(0 <= value <= 1 for value in share.values()):
                raise ValueError("solved must be true or false")
            if abs(math.fsum(share.values()) / len(share) - summary[f"{accuracy}_{stage}"]) > 1e-6:
                raise ValueError(f"the {stage} samples do not average to {accuracy}_{stage}, as summary.json says")
            shares[stage, mode] = share
    return shares


def read_summary(record: Record, content: bytes | None = None) -> dict[str, Any]:
    """The summary of a complete run, checked.

    Raises:
        Damaged: absent, unreadable, of another record version, or with a missing or impossible value.
    """
    summary = _mapping(record, "summary.json", content)
    if summary.get("record_version") != RECORD_VERSION:
        raise Damaged(f"summary.json: must be an object with record_version {RECORD_VERSION}")
    checks: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(NAMES, _is_name),
        **dict.fromkeys(("seed", "n_test", "test_samples"), lambda value: type(value) is int and value >= 0),
        **dict.fromkeys(("accuracy_base", "accuracy_final"), lambda value: is_number(value, 0, 1)),
        **dict.fromkeys(COSTS, lambda value: value is None or is_number(value, 0)),  # Not measurable: null.
        **dict.fromkeys(("task_version", "stopped_by"), lambda value: value == "" or _is_name(value)),
        **dict.fromkeys(("updates", "tokens_prompt", "evaluate_wall_s"), lambda value: is_number(value, 0)),
        **dict.fromkeys(TABLES_OF_NUMBERS, lambda value: type(value) is dict and all(map(_is_name, value))),
    }
    missing = [key for key in checks if key not in summary]
    if missing:
        raise Damaged(f"summary.json: lacks {', '.join(missing)}")
    wrong = [key for key, fits in checks.items() if not fits(summary[key])]
    for key in TABLES_OF_NUMBERS:
        wrong += [] if key in wrong else [name for name, value in summary[key].items() if not is_number(value)]
    wrong += [key for key in OPTIONAL if not (summary.get(key) is None or is_number(summary[key], 0))]
    if wrong:
        raise Damaged(f"summary.json: impossible value of {', '.join(wrong)}")
    return summary


def read_plan(record: Record) -> dict[str, Any]:
    """What a run was to be: per entry of `NAMES` a string, and `seed`, an integer.

    Raises:
        Damaged: config.json or manifest.json is absent, unreadable, or lacks one of them.
    """
    return _plan(record)[2]


def _plan(record: Record) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Configuration by dotted key, manifest, and what `read_plan` says."""
    config, manifest = _config(record), _mapping(record, "manifest.json")
    plan = {name: config.get(f"{name}.name") for name in NAMES[:-1]}
    plan |= {"experiment": manifest.get("experiment"), "seed": config.get("seed")}
    if not all(_is_name(plan[name]) for name in NAMES) or type(plan["seed"]) is not int:
        raise Damaged(f"config.json and manifest.json: must name {', '.join(NAMES)} and seed")
    return config, manifest, plan


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping by dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def _is_name(value: object) -> bool:
    """Names end up on terminals and in CSV files: nothing that does not print may hide in one."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def is_number(value: object, low: float = -sys.float_info.max, high: float = sys.float_info.max) -> TypeGuard[float]:
    """Finite, and short enough for a float: NaN fails the comparison, as does an integer of 400 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
