from __future__ import annotations

import re

import pytest

from tasks.api import SPLITS
from tasks.errors import BadInput
from tasks.gsm import GsmProblem
from tasks.gsm_synth import LARGEST, GsmSynth, GsmSynthConfig
from tasks.solutions import equations


@pytest.fixture(scope="module")
def task() -> GsmSynth:
    return GsmSynth(GsmSynthConfig())


def everything(task: GsmSynth) -> list[GsmProblem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


def level_of(problem: GsmProblem) -> int:
    return int(problem.id.split("/")[1])


def count(question: str) -> int:
    """An answer worked out from the question's own words, knowing nothing of how it was drawn."""
    value = 0
    for sentence in question.split(". ")[:-1]:
        given = int(re.findall(r"\d+", sentence)[0])
        if " has " in sentence:
            value = given
        elif " more" in sentence:
            value += given
        elif "times its size" in sentence:
            value *= given
        elif "equal parts" in sentence:
            assert value % given == 0
            value //= given
        else:
            assert re.search(r"gives away|loses|sells", sentence)
            value -= given
    return value


def test_the_oracle_solves_every_problem(task: GsmSynth) -> None:
    for problem in everything(task):
        verdict = task.start(problem).step(task.oracle(problem)[0])
        assert verdict.solved
        assert verdict.rewards == {"format": 1, "numeric": 1, "steps": 1, "correct": 1}


def test_the_gold_answer_follows_from_the_words_of_the_question(task: GsmSynth) -> None:
    for problem in everything(task):
        assert count(problem.question) == problem.gold


def test_no_two_problems_ask_the_same_question(task: GsmSynth) -> None:
    problems = everything(task)
    assert len({problem.question for problem in problems}) == len(problems)
    assert len({problem.id for problem in problems}) == len(problems)


def test_every_split_has_problems_of_every_level(task: GsmSynth) -> None:
    for split in SPLITS:
        assert {problem.split for problem in task.problems(split)} == {split}
        assert {level_of(problem) for problem in task.problems(split)} == {1, 2, 3, 4}


def test_numbers_are_whole_and_in_0_to_the_largest(task: GsmSynth) -> None:
    assert LARGEST <= 99
    for problem in everything(task):
        numbers = re.findall(r"[\d.,/-]*\d", problem.question) + re.findall(r"\d+", problem.solution)
        assert all(0 <= int(number) <= LARGEST for number in numbers)
        assert problem.gold.denominator == 1


def test_a_problem_of_level_n_has_n_equations(task: GsmSynth) -> None:
    for problem in everything(task):
        found = equations(problem.solution)
        assert len(found) == level_of(problem)
        assert [equation.text for equation in found] == problem.solution.split("\n")[:-1]


def test_an_id_means_the_same_question_on_every_machine(task: GsmSynth) -> None:
    questions = {problem.id: problem.question for problem in everything(task)}
    assert questions["gsm_synth/1/0"] == "Dev has 7 eggs. A friend brings 3 more. How many eggs does Dev have now?"
    assert questions["gsm_synth/4/598"] == (
        "Lena has 16 stones. Lena loses 9. Lena sells 5. Then the pile grows to 2 times its size. Lena gives away 3. "
        "How many stones does Lena have now?"
    )


def test_problems_of_a_level_are_the_same_whatever_else_is_asked(task: GsmSynth) -> None:
    alone = everything(GsmSynth(GsmSynthConfig(levels=[3], problems_per_level=100)))
    assert len(alone) == 100
    assert {problem.id: problem for problem in alone}.items() <= {
        problem.id: problem for problem in everything(task)
    }.items()


@pytest.mark.parametrize("levels", [[], [0], [1, 5], [-1]])
def test_levels_are_some_of_1_to_4(levels: list[int]) -> None:
    with pytest.raises(BadInput, match=r"task\.levels"):
        GsmSynth(GsmSynthConfig(levels=levels))


def test_a_question_is_answered_once(task: GsmSynth) -> None:
    problem = task.problems("train")[0]
    episode = task.start(problem)
    assert episode.messages == [{"role": "user", "content": problem.question}]
    assert not episode.done
    episode.step("no idea")
    assert episode.done
    with pytest.raises(RuntimeError):
        episode.step(problem.solution)


def test_what_is_known_is_the_question(task: GsmSynth) -> None:
    one, two = task.problems("train")[:2]
    assert task.start(one).knowledge() == task.start(one).knowledge()
    assert task.start(one).knowledge() != task.start(two).knowledge()
