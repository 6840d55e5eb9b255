"""What warm starts imitate: every task's problems, played well."""

from __future__ import annotations

import random

import pytest

from tasks.api import Message, Task
from tasks.clues import GREEN, GREY, YELLOW, Clues
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig, read_action
from tasks.wordle_reasoning import reasoning
from tasks.wordle_turn import WordleTurn

TASKS = {
    "wordle": lambda: Wordle(WordleConfig()),
    "wordle_turn": lambda: WordleTurn(WordleConfig(name="wordle_turn")),
    "gsm_synth": lambda: GsmSynth(GsmSynthConfig()),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    made: Task = TASKS[request.param]()
    return made


def actions(chat: list[Message]) -> list[str]:
    return [message["content"] for message in chat if message["role"] == "assistant"]


def test_a_demonstration_is_the_chat_of_an_episode_up_to_its_last_action(task: Task) -> None:
    for problem in task.problems("train")[:20]:
        chat = task.demonstration(problem, random.Random(problem.id))
        episode = task.start(problem)
        for action in actions(chat):
            episode.step(action)
        assert episode.messages == chat
        assert chat[-1]["role"] == "assistant"
        assert episode.done


def test_nothing_in_a_demonstration_is_at_fault_and_nearly_all_are_solved(task: Task) -> None:
    solved = 0
    problems = task.problems("train")[:100]
    for problem in problems:
        episode = task.start(problem)
        verdicts = [episode.step(action) for action in actions(task.demonstration(problem, random.Random(problem.id)))]
        faults = [c.name for c in task.components for v in verdicts if v.rewards[c.name] < 0]
        assert not faults
        solved += verdicts[-1].solved
    # A player who guesses at random among the words that are left wins 97.9% of games; few turns leave two words.
    assert solved >= {"wordle": 92, "wordle_turn": 97, "gsm_synth": 100}[task.name]


def test_the_same_generator_gives_the_same_demonstration_and_another_one_another_game() -> None:
    wordle = Wordle(WordleConfig())
    problem = wordle.problems("train")[7]
    first, again, other = (wordle.demonstration(problem, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_reasoning_names_the_clues_and_spells_the_guess() -> None:
    clues = Clues()
    clues.learn("crane", (GREY, YELLOW, GREEN, GREY, GREEN))
    assert reasoning(clues, "agape") == "place _ _ a _ e; elsewhere r not 2; without c n; so a g a p e"
    assert reasoning(Clues(), "crane") == "so c r a n e"


def test_a_second_copy_of_a_placed_letter_is_still_looked_for_elsewhere() -> None:
    clues = Clues()
    clues.learn("eerie", (GREEN, YELLOW, GREY, GREY, GREY))
    assert reasoning(clues, "elude").startswith("place e _ _ _ _; elsewhere e not 2 5; without i r")


def test_an_action_with_reasoning_is_read_as_well_formed() -> None:
    wordle = Wordle(WordleConfig())
    for problem in wordle.problems("train")[:20]:
        for action in actions(wordle.demonstration(problem, random.Random(0))):
            assert read_action(action).well_formed
