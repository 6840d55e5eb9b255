"""gsm8k: grade-school word problems with worked solutions (Cobbe et al. 2021, arXiv:2110.14168), in one action.

The rows come from a folder or from the hub's openai/gsm8k. The test split is the test file as published; val is carved
out of the train file by a hash of the question.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import reprlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal, TypeGuard

from tasks.api import FeedbackLevel, RewardMode, Split, check_sizes, split_of
from tasks.errors import BadInput
from tasks.files import located, read_file, unzipped, why
from tasks.gsm import GsmProblem, GsmTask
from tasks.solutions import STRICT, number

File = Literal["train", "test"]
HUB = "openai/gsm8k"
ANNOTATION = re.compile(r"<<[^<>]*>>")
"""A calculator annotation in a published answer: `<<3+4=7>>`."""
QUOTED = 60
"""Characters of the user's text that an error quotes."""
NEEDS = "task.path=DIR needs train.jsonl and test.jsonl, .jsonl.gz or .parquet"
LAYOUTS = ("{}.jsonl", "{}.jsonl.gz", "{}*.parquet", "main/{}*.parquet")
"""Where a folder may hold the rows of a file, in order of preference."""
EXPECTED = "each line is a JSON object with question and answer"


@dataclass(kw_only=True)
class Gsm8kConfig:
    """Settings of gsm8k."""

    name: str = "gsm8k"
    path: str | None = None
    """A folder with train and test as .jsonl, .jsonl.gz or .parquet, or the hub's folder with main/ in it; null loads
    openai/gsm8k from the hub."""
    val: float = 0.05
    """Share of the train file kept for the learning curve."""
    reward: RewardMode = RewardMode.shaped
    """How the components are weighted: outcome, shaped or equal."""
    feedback: FeedbackLevel = FeedbackLevel.diagnostic
    """How much the feedback tells: none, outcome, diagnostic, hint or solution."""
    max_action_tokens: int = 256
    """Tokens that the solution may use."""

    def __post_init__(self) -> None:
        check_sizes(self.max_action_tokens, self.val, test=0.0)


class Gsm8k(GsmTask):
    """Grade-school word problems, solved in one action."""

    Config = Gsm8kConfig
    name: ClassVar[str] = "gsm8k"
    version: ClassVar[str] = "3"
    instructions = (
        "Solve the problem step by step. Write each calculation as an equation. "
        "End with a last line: #### and the answer as a number."
    )

    def __init__(self, config: Gsm8kConfig) -> None:
        super().__init__(list(_problems(config)), config.feedback, config.reward, config.max_action_tokens)
        self.config = config
        tested = {problem.question for problem in self.problems("test")}
        for problem in (*self.problems("train"), *self.problems("val")):
            if problem.question in tested:
                raise BadInput(f"{problem.id} is a test question too: {_quote(problem.question)}; keep it in one file")


def _problems(config: Gsm8kConfig) -> Iterator[GsmProblem]:
    for file, rows in _load(config.path).items():
        for index, (where, row) in enumerate(rows):
            question, gold, solution = _read(where, row)
            split: Split = "test" if file == "test" else split_of(question, val=config.val, test=0)
            yield GsmProblem(id=f"gsm8k/{file}/{index}", split=split, question=question, gold=gold, solution=solution)


Rows = Iterator[tuple[str, object]]
"""Where each row stands (file:line), and the row."""


def _load(path: str | None) -> dict[File, Rows]:
    if path is None:
        return _from_hub()
    folder = located(path, "task.path")
    if not folder.is_dir():
        raise BadInput(f"{NEEDS}; there is no folder {folder}")
    return {"train": _from_folder(folder, "train"), "test": _from_folder(folder, "test")}


def _from_folder(folder: Path, file: File) -> Rows:
    found = next((paths for layout in LAYOUTS if (paths := sorted(folder.glob(layout.format(file))))), None)
    if found is None:
        raise BadInput(f"{NEEDS}; there is no file {folder / file}.jsonl")
    for path in found:
        yield from _from_file(path)


def _from_file(path: Path) -> Rows:
    try:
        content = read_file(path)
        if path.suffix == ".parquet":
            yield from _from_parquet(path, content)
            return
        text = (unzipped(content) if path.suffix == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{NEEDS}; cannot read {path}: {why(error)}") from None
    # Not splitlines(): it also breaks at characters that JSON allows within a string (U+2028).
    for line_number, line in enumerate(text.rstrip().split("\n"), start=1):
        where = f"{path}:{line_number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{where}: {_quote(line)} is not JSON; {EXPECTED}") from None
        yield where, row


def _from_parquet(path: Path, content: bytes) -> Rows:
    try:
        # Looked up by name and only here, as below: tasks/ is plain Python and numpy.
        table = importlib.import_module("pyarrow.parquet").read_table(io.BytesIO(content))
        rows = table.select(["question", "answer"]).to_pylist()
    except (ImportError, OSError, ValueError, KeyError) as error:  # pyarrow's own are kinds of the last three
        raise BadInput(f"{path} is no parquet file with question and answer: {_quote(str(error))}") from None
    return ((f"{path}:{row_number}", row) for row_number, row in enumerate(rows, start=1))


def _from_hub() -> dict[File, Rows]:
    try:
        # Looked up by name and only here: tasks/ is plain Python and numpy, and a folder needs no `datasets`.
        files = importlib.import_module("datasets").load_dataset(HUB, "main")
        return {file: _number(file, files[file]) for file in ("train", "test")}
    except Exception as error:  # whatever stands between here and the hub, the way out is the same
        reason = _quote(f"{type(error).__name__}: {error}")
        raise BadInput(f"cannot load {HUB} from the hub ({reason}); offline, give a folder: {NEEDS}") from None


def _number(file: File, rows: Sequence[object]) -> Rows:
    return ((f"{HUB}/{file}:{line_number}", row) for line_number, row in enumerate(rows, start=1))


def _read(where: str, row: object) -> tuple[str, Fraction, str]:
    """The question, the gold answer and the worked solution of a row."""
    if not isinstance(row, dict):
        raise BadInput(f"{where}: {_quote(row)} is no object; {EXPECTED}")
    question, answer = row.get("question"), row.get("answer")
    if not _is_text(question):
        raise BadInput(f"{where}: question is {_quote(question)}; it must be a text")
    if not _is_text(answer):
        raise BadInput(f"{where}: answer is {_quote(answer)}; it must be a text that ends in a line #### N")
    solution = ANNOTATION.sub("", answer)
    ending = solution.rstrip().rsplit("\n", 1)[-1].strip()
    stated = STRICT.fullmatch(ending)
    gold = number(stated.group(1)) if stated else None
    if gold is None:
        raise BadInput(f"{where}: the answer ends in {_quote(ending)}; its last line must be #### N")
    return question, gold, solution


def _is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text, not blank, and free of the half surrogate pairs that JSON can spell but UTF-8 cannot."""
    return isinstance(value, str) and bool(value.strip()) and value.encode(errors="ignore").decode() == value


def _quote(value: object) -> str:
    """A value in one line, cut to QUOTED characters."""
    return repr(value[:QUOTED]) if isinstance(value, str) else reprlib.repr(value)[:QUOTED]
