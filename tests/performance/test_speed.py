"""Micro-benchmarks: `pytest tests/performance --benchmark-enable`. In CI each runs once, for correctness only."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from algorithms.batch import build_batch
from algorithms.grpo import GRPO, GRPOConfig
from policies.api import Sampling
from policies.language_model import LanguageModel
from tasks.clues import marks_table
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig, write_action
from tasks.words import load_words


@pytest.fixture(scope="module")
def wordle() -> Wordle:
    return Wordle(WordleConfig())


def test_marks_of_every_guess_against_every_secret(benchmark: Any) -> None:
    words = list(load_words("scowl").guesses[:2000])
    assert benchmark(marks_table, words, words).shape == (2000, 2000)


def test_judging_a_thousand_guesses(benchmark: Any, wordle: Wordle) -> None:
    rng = random.Random(0)
    problems, guesses = wordle.problems("train"), wordle.words.guesses

    def play() -> int:
        turns = 0
        for index in range(170):
            episode = wordle.start(problems[index % len(problems)])
            while not episode.done:
                episode.step(write_action("", rng.choice(guesses)))
                turns += 1
        return turns

    assert benchmark(play) > 900


def test_sixty_four_games_of_tiny(benchmark: Any, tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, _ = benchmark(tiny.play, wordle, wordle.problems("train")[:8], 8, Sampling(), 0)
    assert len(rollouts) == 64


def test_sixty_four_solutions_of_tiny(benchmark: Any, tiny: LanguageModel) -> None:
    task = GsmSynth(GsmSynthConfig())
    tiny.instructions = task.instructions
    rollouts, _ = benchmark(tiny.play, task, task.problems("train")[:8], 8, Sampling(), 0)
    assert len(rollouts) == 64


def test_the_credit_of_a_batch(benchmark: Any, tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, _ = tiny.play(wordle, wordle.problems("train")[:8], 8, Sampling(), 0)
    credit = GRPO(GRPOConfig()).credit

    def whole() -> torch.Tensor:
        return credit(build_batch(rollouts, 8, wordle.components, torch.device("cpu"), tiny.chat.token_ends))

    assert benchmark(whole).shape == (64,)
