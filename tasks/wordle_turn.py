"""One turn of Wordle from a given history: the single-turn form of the game.

The history is made of guesses that respect every clue, drawn at random, until the clues leave one word of the list. So
the answer can be worked out from the prompt alone: a perfect reader solves every problem.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import ClassVar

from tasks.api import Problem, Split, Task, Verdict
from tasks.wordle import Game, Wordle, WordleConfig, WordleEpisode, WordleProblem


class WordleTurn(Wordle):
    """The last, decidable guess of a game."""

    name: ClassVar[str] = "wordle_turn"
    version: ClassVar[str] = "2"

    def __init__(self, config: WordleConfig) -> None:
        super().__init__(config)
        self.max_turns = 1

    def _problem(self, secret: str, split: Split) -> WordleProblem:
        seed = int.from_bytes(hashlib.sha256(f"wordle_turn {secret}".encode()).digest()[:8], "big")
        history = telling_history(Game(self.words, secret), random.Random(seed), self.config.max_turns - 1)
        return WordleProblem(id=f"{self.name}/{secret}", split=split, secret=secret, history=history)

    def start(self, problem: Problem) -> WordleEpisode:
        assert isinstance(problem, WordleProblem)
        return WordleEpisode(self, problem, turns=1)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """As of any task: how many guesses a game takes is no question here."""
        return Task.metrics(self, verdicts)


def telling_history(game: Game, rng: random.Random, longest: int) -> tuple[str, ...]:
    """Random guesses, each one respecting all clues and none the secret, until one word is left or none may follow."""
    history: list[str] = []
    while len(game.possible) > 1 and len(history) < longest:
        guess = rng.choice([word for word in game.possible if word != game.secret])
        game.play(guess)
        history.append(guess)
    return tuple(history)
