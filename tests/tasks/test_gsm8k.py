from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pyarrow
import pytest
from pyarrow import parquet

from tasks.api import SPLITS, FeedbackLevel, split_of
from tasks.errors import BadInput
from tasks.files import unzipped
from tasks.gsm import GsmProblem
from tasks.gsm8k import NEEDS, Gsm8k, Gsm8kConfig

TRAIN = [
    {"question": "Ana has 3 pens and buys 4. How many?", "answer": "She has 3+4=<<3+4=7>>7 pens.\n#### 7"},
    {"question": "A car costs $1,200 and a bike $34. Both?", "answer": "1,200+34=$<<1200+34=1234>>1,234\n#### 1,234"},
    {"question": "It was 2 degrees and fell by 7.", "answer": "2-7=<<2-7=-5>>-5\n#### -5"},
]
TEST = [{"question": "Half of nine?", "answer": "9/2=<<9/2=4.5>>4.5\n#### 4.5"}]


def write(folder: Path, train: object = None, test: object = None) -> Gsm8kConfig:
    """A folder of rows (a text is written as it is), and the config that reads it."""
    for name, rows in (("train", TRAIN if train is None else train), ("test", TEST if test is None else test)):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)  # type: ignore[attr-defined]
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return Gsm8kConfig(path=str(folder))


def everything(task: Gsm8k) -> list[GsmProblem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


# --- the published rows -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(gsm8k_folder: Path) -> Gsm8k:
    return Gsm8k(Gsm8kConfig(path=str(gsm8k_folder)))


def test_there_are_7473_questions_to_train_on_and_1319_to_test(published: Gsm8k) -> None:
    assert len(published.problems("train")) + len(published.problems("val")) == 7_473
    assert len(published.problems("test")) == 1_319
    assert len(published.problems("val")) == 392


def test_the_oracle_solves_every_problem(published: Gsm8k) -> None:
    for problem in everything(published):
        verdict = published.start(problem).step(published.oracle(problem)[0])
        assert verdict.solved, problem.id
        assert verdict.rewards["format"] == 1
        assert verdict.metrics["flexible"] == 1


def test_golds_are_whole_numbers_some_of_them_negative_or_with_commas(published: Gsm8k) -> None:
    problems = everything(published)
    assert all(problem.gold.denominator == 1 for problem in problems)
    assert sum(problem.gold < 0 for problem in problems) == 5
    assert sum("," in problem.solution.rpartition("####")[2] for problem in problems) == 93


def test_no_calculator_annotation_is_left(published: Gsm8k) -> None:
    assert not [problem.id for problem in everything(published) if "<<" in problem.solution or ">>" in problem.solution]


def test_no_question_and_no_id_is_in_two_splits(published: Gsm8k) -> None:
    problems = everything(published)
    assert len({problem.id for problem in problems}) == len(problems)
    questions = [{problem.question for problem in published.problems(split)} for split in SPLITS]
    assert len(set.union(*questions)) == sum(map(len, questions))


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_problem_with_its_answer_and_solution(tmp_path: Path) -> None:
    task = Gsm8k(write(tmp_path))
    problems = {problem.id: problem for problem in everything(task)}
    assert set(problems) == {"gsm8k/train/0", "gsm8k/train/1", "gsm8k/train/2", "gsm8k/test/0"}
    assert [problem.gold for problem in problems.values()] == [7, 1234, -5, Fraction(9, 2)]
    assert task.oracle(problems["gsm8k/train/0"]) == ["She has 3+4=7 pens.\n#### 7"]
    assert task.oracle(problems["gsm8k/train/1"]) == ["1,200+34=$1,234\n#### 1,234"]
    assert [problem.id for problem in task.problems("test")] == ["gsm8k/test/0"]


def test_a_question_is_one_message_and_takes_one_action(tmp_path: Path) -> None:
    task = Gsm8k(write(tmp_path))
    assert task.max_turns == 1
    problem = task.problems("test")[0]
    episode = task.start(problem)
    assert episode.messages == [{"role": "user", "content": "Half of nine?"}]
    assert not episode.step("#### 5").solved
    assert episode.done


def test_the_feedback_level_is_the_config_s(tmp_path: Path) -> None:
    config = write(tmp_path)
    config.feedback = FeedbackLevel.solution
    task = Gsm8k(config)
    assert (
        task.start(task.problems("test")[0]).step("9/2=4\n#### 4").feedback
        == "the quotient 9/2=4 is wrong: it is more\nthe answer is 9/2"
    )


def test_val_is_carved_out_of_train_by_the_question_alone(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} and 1?", "answer": f"{n}+1={n + 1}\n#### {n + 1}"} for n in range(400)]
    config = write(tmp_path, train=rows)
    config.val = 0.25
    task = Gsm8k(config)
    assert 60 < len(task.problems("val")) < 140
    for split in ("train", "val"):
        for problem in task.problems(split):
            assert problem.split == split == split_of(problem.question, val=0.25, test=0)
    backwards = Gsm8k(Gsm8kConfig(path=write(tmp_path, train=rows[::-1]).path, val=0.25))
    assert {p.question for p in backwards.problems("val")} == {p.question for p in task.problems("val")}


def test_a_val_share_of_nothing_leaves_every_row_in_train(tmp_path: Path) -> None:
    config = write(tmp_path)
    config.val = 0
    assert len(Gsm8k(config).problems("train")) == 3


@pytest.mark.parametrize("val", [-0.1, 1.0, 5.0, float("nan")])
def test_val_is_a_share(val: float) -> None:
    with pytest.raises(BadInput, match=r"task\.val"):
        Gsm8kConfig(val=val)


def test_the_fingerprint_changes_with_a_row_and_with_the_share(tmp_path: Path) -> None:
    first = Gsm8k(write(tmp_path)).fingerprint()
    assert Gsm8k(write(tmp_path)).fingerprint() == first
    assert Gsm8k(write(tmp_path, train=TRAIN[:2])).fingerprint() != first
    assert Gsm8k(write(tmp_path, train=[*TRAIN[:2], {**TRAIN[2], "answer": "#### 5"}])).fingerprint() != first


def test_a_line_separator_within_a_question_does_not_end_its_line(tmp_path: Path) -> None:
    row = {"question": "Two\u2028lines?\x85", "answer": "#### 2"}
    task = Gsm8k(write(tmp_path, train=json.dumps(row, ensure_ascii=False) + "\r\n"))
    assert task.problems("train")[0].question == "Two\u2028lines?\x85"


# --- mistakes ---------------------------------------------------------------------------------------------------------

GOOD = json.dumps(TRAIN[0])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "'hello' is not JSON"),
        ("", "'' is not JSON"),
        (GOOD + GOOD, "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1, 2]", "[1, 2] is no object"),
        ("null", "None is no object"),
        ('"text"', "'text' is no object"),
        ('{"answer": "#### 1"}', "question is None"),
        ('{"question": 5, "answer": "#### 1"}', "question is 5"),
        ('{"question": "  ", "answer": "#### 1"}', "question is '  '"),
        ('{"question": "\\ud800?", "answer": "#### 1"}', "question is '\\ud800?'"),
        ('{"question": "q"}', "answer is None"),
        ('{"question": "q", "answer": 7}', "answer is 7"),
        ('{"question": "q", "answer": "It is 7"}', "the answer ends in 'It is 7'"),
        ('{"question": "q", "answer": "#### seven"}', "the answer ends in '#### seven'"),
        ('{"question": "q", "answer": "#### 7\\nSo seven."}', "the answer ends in 'So seven.'"),
        ('{"question": "q", "answer": "#### "}', "the answer ends in '####'"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    config = write(tmp_path, test=f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(BadInput) as caught:
        Gsm8k(config)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'test.jsonl'}:2: ")
    assert said in told
    assert "####" in told or "question" in told
    assert "\n" not in told


def test_a_long_bad_row_is_quoted_in_part(tmp_path: Path) -> None:
    for line in (
        "x" * 100_000,
        json.dumps({"question": "q", "answer": "y" * 100_000}),
        json.dumps([["z" * 1000]] * 1000),
    ):
        with pytest.raises(BadInput) as caught:
            Gsm8k(write(tmp_path, train=line))
        assert len(str(caught.value)) < len(str(tmp_path)) + 180


def test_a_missing_folder_is_named_with_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        Gsm8k(Gsm8kConfig(path=str(tmp_path / "nowhere")))
    assert str(caught.value).startswith(f"{NEEDS}; ")
    assert str(tmp_path / "nowhere") in str(caught.value)


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_a_missing_file_is_named_with_what_is_needed(tmp_path: Path, name: str) -> None:
    config = write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput) as caught:
        Gsm8k(config)
    assert str(caught.value) == f"{NEEDS}; there is no file {tmp_path / name}"


def test_a_file_for_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(BadInput, match="no folder"):
        Gsm8k(Gsm8kConfig(path=str(tmp_path / "train.jsonl")))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    config = write(tmp_path)
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot read"):
        Gsm8k(config)


def test_a_byte_order_mark_and_a_blank_last_line_are_no_rows(tmp_path: Path) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in TRAIN)
    task = Gsm8k(write(tmp_path, train=f"\ufeff{rows}\n \n"))
    assert len(everything(task)) == len(TRAIN) + len(TEST)


@pytest.mark.parametrize("layout", ["zipped", "parquet", "the hub's", "the hub's main"])
def test_rows_are_the_same_in_every_layout(layout: str, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir()
    folder = other / "main" if "hub" in layout else other
    folder.mkdir(parents=True)
    expected = everything(Gsm8k(write(plain)))
    for name, rows in (("train", TRAIN), ("test", TEST)):
        if layout == "zipped":
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress((plain / f"{name}.jsonl").read_bytes()))
        else:
            file = f"{name}-00000-of-00001.parquet" if "hub" in layout else f"{name}.parquet"
            parquet.write_table(pyarrow.Table.from_pylist(rows), folder / file)
    path = folder if layout == "the hub's main" else other
    assert everything(Gsm8k(Gsm8kConfig(path=str(path)))) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl.gz", b"no gzip", r"cannot read .*train\.jsonl\.gz"),
        ("train.jsonl.gz", gzip.compress(b"x" * 5000, mtime=0)[:-20], r"cannot read .*train\.jsonl\.gz"),
        ("train.parquet", b"no parquet", r"train\.parquet is no parquet file with question and answer"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        Gsm8k(Gsm8kConfig(path=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_zip_that_holds_far_more_than_it_weighs_is_refused() -> None:
    with pytest.raises(OSError, match=r"holds more than 0\.00\d+ MiB"):
        unzipped(gzip.compress(bytes(5000)), largest=4999)
    assert unzipped(gzip.compress(bytes(5000)), largest=5000) == bytes(5000)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"test\.jsonl:1: '' is not JSON"):
        Gsm8k(write(tmp_path, test=""))


def test_a_question_in_both_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gsm8k/train/1 is a test question too"):
        Gsm8k(write(tmp_path, test=[*TEST, TRAIN[1]]))


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub(monkeypatch: pytest.MonkeyPatch, answer: Mapping[str, object] | Exception) -> list[tuple[str, ...]]:
    """A stand-in for `datasets` that answers so; returns the list of what was asked of it."""
    asked = []

    def load_dataset(*names: str) -> Mapping[str, object]:
        asked.append(names)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_without_a_folder_the_rows_come_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = hub(monkeypatch, {"train": TRAIN, "test": TEST})
    assert Gsm8k(Gsm8kConfig()).fingerprint() == Gsm8k(write(tmp_path)).fingerprint()
    assert asked == [("openai/gsm8k", "main")]


def test_a_bad_row_of_the_hub_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, {"train": TRAIN, "test": [{"question": "q", "answer": "none"}]})
    with pytest.raises(BadInput, match=r"^openai/gsm8k/test:1: the answer ends in 'none'"):
        Gsm8k(Gsm8kConfig())


@pytest.mark.parametrize("error", [ConnectionError("no\nroute" * 100), RuntimeError("dns"), KeyError("train")])
def test_a_hub_out_of_reach_names_the_offline_way(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    hub(monkeypatch, error)
    with pytest.raises(BadInput) as caught:
        Gsm8k(Gsm8kConfig())
    assert "task.path=DIR needs train.jsonl and test.jsonl" in str(caught.value)
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 220


def test_without_the_package_datasets_the_offline_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"task\.path=DIR"):
        Gsm8k(Gsm8kConfig())
