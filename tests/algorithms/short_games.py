"""Wordle in which any action may end the game, so that trees are uneven whatever the policy."""

from __future__ import annotations

from tasks.api import Problem
from tasks.wordle import Wordle, WordleEpisode, WordleProblem


class ShortGame(WordleEpisode):
    """One action in three, by its letters, is the last."""

    @property
    def done(self) -> bool:
        said = [message["content"] for message in self._messages if message["role"] == "assistant"]
        return super().done or any(sum(map(ord, text)) % 3 == 0 for text in said)


class ShortWordle(Wordle):
    """Short games."""

    def start(self, problem: Problem) -> WordleEpisode:
        assert isinstance(problem, WordleProblem)
        return ShortGame(self, problem, self.max_turns)
