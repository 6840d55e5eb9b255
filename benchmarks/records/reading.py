"""Finding a record and reading it with care: a damaged one is named, never half believed."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from benchmarks.records.parquet import LARGEST_FILE
from benchmarks.records.record import LARGEST, RECORD_VERSION, SEAL, Record, records
from benchmarks.wording import COSTS, one_line
from tasks.errors import BadInput
from tasks.files import why

T = TypeVar("T")
NAMES = ("algo", "task", "policy", "budget", "experiment")
TABLES_OF_NUMBERS = ("metrics_final", "metrics_base", "phases", "reward_correlations")
OPTIONAL = ("dollars", "cpu_s", "gpu_s", "mfu")
"""Costs that not every summary has."""
LARGEST_SEAL = 2**20
"""Bytes: some ten thousand hashes."""
FILES = ("status", "config.yaml", "manifest.json", "summary.json", "samples.parquet", "ledger.parquet", "curve.parquet")
"""What makes a folder a record, whole or not."""
OUTCOMES = "outcomes.parquet"
MUST_BE_SEALED = ("config.yaml", "manifest.json", "summary.json", "samples.parquet", "curve.parquet")
Answers = dict[str, float]
"""Per problem id, the share of its samples that were solved."""
COMPACT = (",", ":")
"""Between what JSON holds."""


class Damaged(ValueError):
    """A record that cannot be used; the text is the reason, in one line of characters that print."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason[:300]))


@dataclass(frozen=True, slots=True)
class Details:
    """What a record holds that not every reader wants."""

    manifest: str
    """manifest.json, and"""
    curve: str
    """the rows of curve.parquet as JSON; `[]` where an incomplete run has none yet."""
    base: list[float]
    final: list[float]
    """Per test problem, in the order of `Run.problems`, the share of its samples that were solved before and after."""
    base_tstar: list[float]
    final_tstar: list[float]
    """The same at each policy's best temperature; empty where the record does not say."""


@dataclass(frozen=True, slots=True)
class Run:
    """What tables and reports read of one record."""

    name: str
    status: str
    about: dict[str, Any]
    """Names and seed; of a complete run, all of its summary."""
    problems: tuple[str, ...]
    """Of a complete run, the test problems' ids, ascending; of others none."""
    seal: str
    """Of a complete run, a hash of all that it holds: two runs with the same seal are the same."""
    details: Callable[[], Details] = field(compare=False, repr=False)
    """The rest, which an index unpacks only where somebody asks for it."""

    @property
    def manifest(self) -> str:
        """manifest.json as text."""
        return self.details().manifest

    @property
    def curve(self) -> str:
        """The rows of curve.parquet as JSON."""
        return self.details().curve

    @property
    def base(self) -> list[float]:
        """Per test problem the share of its samples that were solved before improving."""
        return self.details().base

    @property
    def final(self) -> list[float]:
        """The same after improving."""
        return self.details().final

    @property
    def tstar(self) -> tuple[list[float], list[float]]:
        """The same before and after, each at the policy's best temperature; empty where the record does not say."""
        details = self.details()
        return details.base_tstar, details.final_tstar


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
    # A damaged file makes JSON, YAML and Arrow raise nearly anything; all of it means the same.
    except Exception as error:
        raise Damaged(f"{file}: {type(error).__name__}: {error}") from None


class _Once(Record):
    """A record of which every file is read once: what is hashed is what was believed."""

    __slots__ = ("contents",)
    contents: dict[str, bytes]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        object.__setattr__(self, "contents", {})  # The class above is frozen.

    def read(self, file: str, largest: int = LARGEST) -> bytes:
        """See `Record.read`."""
        content = self.contents.get(file)
        if content is None or len(content) > largest:
            content = self.contents[file] = super().read(file, largest)
        return content


def read_run(record: Record) -> Run:
    """Read one record.

    Raises:
        Damaged: it cannot be read, it was changed after the run ended, or its files contradict each other.
    """
    if record.folder.is_symlink():
        raise Damaged("it is a symbolic link; copy the record")
    record = _Once(record.folder)
    status = read(record, "status", lambda: record.read("status", 100) and record.status)
    if not status:
        raise Damaged("status: must be running, complete, interrupted or failed")
    if status != "complete":
        plan = read_plan(record)
        curve = read(record, "curve.parquet", lambda: _curve(record)) if _has(record, "curve.parquet") else "[]"
        details = Details(_text(record, "manifest.json"), curve, [], [], [], [])
        return Run(record.name, status, plan, (), "", lambda: details)
    summary = read_summary(record)
    base, final = read(record, "samples.parquet", lambda: _answers(record, summary))
    curve = read(record, "curve.parquet", lambda: _curve(record))
    seal = check_seal(record)
    ids = sorted(final)
    tstar = read(record, OUTCOMES, lambda: _tstar(record, summary, ids)) if _has(record, OUTCOMES) else ()
    answers = ([shares[problem] for problem in ids] if shares else [] for shares in (base, final, *(tstar or ({}, {}))))
    details = Details(_text(record, "manifest.json"), curve, *answers)
    return Run(record.name, status, summary, tuple(ids), seal, lambda: details)


def check_seal(record: Record) -> str:
    """Compare a complete record with the hashes that were taken when it was closed.

    Returns:
        The hash of the seal itself.

    Raises:
        Damaged: no seal, or a file that is gone, was changed, or was never sealed.
    """
    seal = read(record, SEAL, lambda: record.read(SEAL, LARGEST_SEAL))
    hashes: Any = read(record, SEAL, lambda: json.loads(seal)["sha256"])
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise Damaged(f"{SEAL}: must hold a hash per file")
    for file in MUST_BE_SEALED:
        if file not in hashes:
            raise Damaged(f"{SEAL}: says nothing of {file}")
    for file, sealed in hashes.items():
        within = Path(file)
        if ".." in within.parts or within.is_absolute():
            raise Damaged(f"{SEAL}: names a file outside the record")
        # Other spellings of a name would have the same file read again and again.
        if within.as_posix() != file:
            raise Damaged(f"{SEAL}: names a file in a roundabout way")
        content = read(record, file, lambda file=file: record.read(file, LARGEST_FILE))  # type: ignore[misc]
        if hashlib.sha256(content).hexdigest() != sealed:
            raise Damaged(f"{file}: changed after the run ended (its hash is not the one in {SEAL})")
    return hashlib.sha256(seal).hexdigest()


def _has(record: Record, file: str) -> bool:
    return (record.folder / file).is_file()


def _text(record: Record, file: str) -> str:
    def load() -> str:
        text = record.read(file).decode()
        if not isinstance(json.loads(text), dict):
            raise ValueError("must be an object")
        return text

    return read(record, file, load)


def _curve(record: Record) -> str:
    """The learning curve's rows as JSON, checked: every value a finite number, or null where nothing was measured."""
    rows = record.read_rows("curve.parquet")
    if not rows:
        raise ValueError("it has no row, and the first is measured before anything else")
    if not all(value is None or is_number(value) for row in rows for value in row.values()):
        raise ValueError("every value must be a finite number")
    return json.dumps(rows, separators=COMPACT)


def _answers(record: Record, summary: Mapping[str, Any]) -> tuple[Answers, Answers]:
    # Without the texts, which are nearly all of the file, and column by column: dictionaries of rows take twice as
    # long, and a folder may hold thousands of records.
    columns = record.read_columns("samples.parquet", ["stage", "problem", "solved"])
    outcomes: dict[str, dict[str, list[float]]] = {"base": defaultdict(list), "final": defaultdict(list)}
    if set(map(type, columns["problem"])) - {str}:
        raise ValueError("problem must be a text")
    for stage, problem, solved in zip(columns["stage"], columns["problem"], columns["solved"], strict=True):
        outcomes[stage][problem].append(float(solved))
    shares = {}
    for stage, problems in outcomes.items():
        samples = set(map(len, problems.values()))
        if len(problems) != summary["n_test"] or samples != {summary["test_samples"]}:
            raise ValueError(f"not n_test problems × test_samples {stage} samples, as summary.json says")
        shares[stage] = {problem: math.fsum(solved) / len(solved) for problem, solved in problems.items()}
        if abs(math.fsum(shares[stage].values()) / len(problems) - summary[f"accuracy_{stage}"]) > 1e-6:
            raise ValueError(f"the {stage} samples do not average to accuracy_{stage}, as summary.json says")
    if shares["base"].keys() != shares["final"].keys():
        raise ValueError("the base and the final samples are not of the same problems")
    return shares["base"], shares["final"]


def _tstar(record: Record, summary: Mapping[str, Any], ids: Sequence[str]) -> tuple[Answers, Answers]:
    """Per problem the share of its samples at T* that were solved, before and after."""
    columns = record.read_columns(OUTCOMES, ["stage", "mode", "problem", "solved"])
    outcomes: dict[str, dict[str, list[float]]] = {"base": defaultdict(list), "final": defaultdict(list)}
    rows = zip(columns["stage"], columns["mode"], columns["problem"], columns["solved"], strict=True)
    for stage, mode, problem, solved in rows:
        if mode == "tstar":
            outcomes[stage][problem].append(float(solved))
    shares = [{problem: math.fsum(each) / len(each) for problem, each in outcomes[stage].items()} for stage in outcomes]
    for stage, found in zip(outcomes, shares, strict=True):
        if sorted(found) != list(ids):
            raise ValueError(f"the {stage} outcomes at T* are not of the problems of samples.parquet")
        if abs(math.fsum(found.values()) / len(found) - summary[f"accuracy_tstar_{stage}"]) > 1e-6:
            raise ValueError(
                f"the {stage} outcomes at T* do not average to accuracy_tstar_{stage}, as summary.json says"
            )
    return shares[0], shares[1]


def read_summary(record: Record) -> dict[str, Any]:
    """The summary of a complete run, checked.

    Raises:
        Damaged: absent, unreadable, of another record version, or with a missing or impossible value.
    """
    summary = read(record, "summary.json", lambda: record.read_json("summary.json"))
    if not isinstance(summary, dict) or summary.get("record_version") != RECORD_VERSION:
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
    summary.setdefault("reward_correlations", {})  # Records of earlier versions have none.
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
    """What a run was to be, from config.yaml and manifest.json: per entry of `NAMES` a string, and `seed`, an integer.

    Raises:
        Damaged: either file is absent, unreadable, or lacks one of them.
    """
    config: Any = read(record, "config.yaml", lambda: record.read_yaml("config.yaml"))
    manifest: Any = read(record, "manifest.json", lambda: record.read_json("manifest.json"))
    try:
        plan = {name: config[name]["name"] for name in NAMES[:-1]}
        plan |= {"experiment": manifest["experiment"], "seed": config["seed"]}
    except (LookupError, TypeError):
        plan = {}
    if not plan or not all(_is_name(plan[name]) for name in NAMES) or type(plan["seed"]) is not int:
        raise Damaged(f"config.yaml and manifest.json: must name {', '.join(NAMES)} and seed")
    return plan


def _is_name(value: object) -> bool:
    """Names end up on terminals and in CSV files: nothing that does not print may hide in one."""
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def is_number(value: object, low: float = -sys.float_info.max, high: float = sys.float_info.max) -> TypeGuard[float]:
    """Finite, and short enough for a float: NaN fails the comparison, as does an integer of 400 digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
