from __future__ import annotations

import random
from functools import cache

import pytest

from tasks.api import SPLITS, Problem
from tasks.clues import Clues, marks
from tasks.wordle import Wordle, WordleConfig, WordleProblem, write_action
from tasks.wordle_turn import WordleTurn


@cache
def wordle_turn(words: str = "core") -> WordleTurn:
    return WordleTurn(WordleConfig(words=words))


def everything(task: Wordle) -> list[WordleProblem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


def allowed(task: Wordle, problem: WordleProblem) -> list[str]:
    """The secrets that the clues of the history leave."""
    clues = Clues()
    for guess in problem.history:
        clues.learn(guess, marks(guess, problem.secret))
    return [word for word in task.words.secrets if clues.allows(word)]


@pytest.mark.parametrize("words", ["core", "classic"])
def test_the_oracle_solves_every_problem_in_its_one_turn(words: str) -> None:
    task = wordle_turn(words)
    for problem in everything(task):
        episode = task.start(problem)
        verdict = episode.step(task.oracle(problem)[0])
        assert verdict.solved
        assert episode.done
        assert verdict.rewards["consistent"] == 0


def test_a_history_shorter_than_five_leaves_exactly_the_secret() -> None:
    task = wordle_turn()
    for problem in everything(task):
        left = allowed(task, problem)
        assert problem.secret in left
        assert left == [problem.secret] or len(problem.history) == 5


def test_the_same_holds_for_the_classic_words() -> None:
    task = wordle_turn("classic")
    for problem in random.Random(0).sample(everything(task), 200):
        assert allowed(task, problem) == [problem.secret] or len(problem.history) == 5


@pytest.mark.parametrize("words", ["core", "classic"])
def test_nearly_every_problem_can_be_worked_out_from_its_prompt(words: str) -> None:
    problems = everything(wordle_turn(words))
    assert sum(len(problem.history) < 5 for problem in problems) > 0.8 * len(problems)


@pytest.mark.parametrize("words", ["core", "classic"])
def test_a_history_is_1_to_5_guesses_none_of_them_the_secret_and_none_twice(words: str) -> None:
    for problem in everything(wordle_turn(words)):
        assert 1 <= len(problem.history) <= 5
        assert problem.secret not in problem.history
        assert len(set(problem.history)) == len(problem.history)


def test_every_guess_of_a_history_respects_the_clues_before_it() -> None:
    for problem in everything(wordle_turn()):
        clues = Clues()
        for guess in problem.history:
            assert clues.allows(guess)
            clues.learn(guess, marks(guess, problem.secret))


def test_one_action_of_any_kind_ends_the_episode() -> None:
    task = wordle_turn()
    for action in ("", "<guess>zzzzz</guess>", write_action("", "about")):
        problem = task.problems("train")[1]
        episode = task.start(problem)
        assert not episode.done
        episode.step(action)
        assert episode.done
        with pytest.raises(RuntimeError):
            episode.step(action)


def test_the_prompt_shows_the_marked_history_and_how_many_guesses_a_game_would_have_left() -> None:
    task = wordle_turn()
    problem = WordleProblem(id="mine", split="train", secret="apple", history=("paper", "alarm"))
    assert task.start(problem).messages == [
        {"role": "user", "content": "p? a? p+ e? r-\na+ l? a- r- m-\n4 guesses left."}
    ]


def test_a_problem_has_the_split_of_its_secret_in_wordle() -> None:
    splits = {problem.secret: problem.split for problem in everything(Wordle(WordleConfig()))}
    assert {problem.secret: problem.split for problem in everything(wordle_turn())} == splits


def test_problems_are_the_same_each_time_they_are_made() -> None:
    again: list[Problem] = list(everything(WordleTurn(WordleConfig())))
    assert again == everything(wordle_turn())
    assert wordle_turn().problems("test")[0].id == "wordle_turn/admit"


def test_ids_are_unique() -> None:
    ids = [problem.id for problem in everything(wordle_turn("classic"))]
    assert len(set(ids)) == len(ids)
