"""Wordle: find a secret five-letter word within six guesses.

An action is `<think>...</think><guess>crane</guess>`. After each guess the game shows marks, one per letter: `+` right
place, `?` elsewhere in the word, `-` not in the word. A guess that cannot be read or is not in the list costs the turn.

Why the rewards look as they do: an episode ends early only by winning, so format, valid and consistent count *faults*
(0 is right, below 0 is wrong): turns that were not needed cost nothing, and there is nothing to earn by playing on.
`progress` telescopes to at most 1 over a game. With the weights below every won game outscores every lost one.

Only `valid` has a span, the letters of the guess: whether a guess respects the clues, and what it brings, is decided by
the thought before it.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from tasks.api import (
    Component,
    Episode,
    FeedbackLevel,
    Mark,
    Message,
    Problem,
    RewardMode,
    Split,
    Task,
    Verdict,
    check_sizes,
    split_of,
    weighted,
)
from tasks.clues import GREEN, LENGTH, Clues, code_of, marks
from tasks.errors import require
from tasks.wordle_reasoning import reasoning
from tasks.words import WordList, load_words

ACTION = re.compile(r"\s*+<think>(?P<think>[^<]*+)</think>\s*+<guess>\s*+(?P<guess>[a-zA-Z]{5})\s*+</guess>\s*+")
"""Possessive (`*+`): ten million characters are read once, not given back one by one."""
GUESS = re.compile(r"<guess>([^<]{0,40})</guess>")
LONGEST = 1_000_000
"""Characters of an action that is read at all; no guess is found in a longer one."""
SYMBOL = "-?+"
TILE: tuple[Mark, ...] = ("wrong", "near", "right")
"""`Verdict.shown`'s marks of GREY, YELLOW and GREEN."""
WORDLE_COMPONENTS = (
    Component(name="format", weight=0.05, low=-1, high=0, about="the action is one think block and one guess"),
    Component(name="valid", weight=0.05, low=-1, high=0, about="the guess is a word of the list"),
    Component(name="consistent", weight=0.08, low=-1, high=0, about="minus the share of the clues that are broken"),
    Component(name="progress", weight=0.2, low=0, high=1, about="share of the uncertainty that the guess removes"),
    Component(name="solved", weight=1.0, low=0, high=1, about="the guess is the secret"),
)
PLACES = (
    "Keep every letter marked + in its place.",
    "Move the letters around.",
    "Begin with another letter each time.",
    "End with a consonant.",
)
ELSEWHERE = (
    "Use every letter marked ? again, elsewhere.",
    "Try letters that were not used yet.",
    "Vary the vowels.",
    "Look at the last guess only.",
)
ABSENT = (
    "Leave out every letter marked -.",
    "Use frequent letters again.",
    "Prefer letters from the middle of the alphabet.",
    "Think of a noun.",
)
REAL = (
    "Guess only real words.",
    "Answer quickly.",
    "Be bold.",
    "Keep the thought short.",
)
WORDLE_ADVICE = {
    "must be at position": PLACES,
    "must be in the word": ELSEWHERE,
    "must not be at position": ELSEWHERE,
    "is not in the word": ABSENT,
    "is in the word only": ABSENT,
    "valid": REAL,
}
"""The first of each speaks to the fault; of the others some are beside the point and some mislead."""


@dataclass(kw_only=True)
class WordleConfig:
    """Settings of wordle and wordle_turn."""

    name: str = "wordle"
    words: str = "core"
    """`core`, `scowl`, `classic`, a file, or a folder with answers.txt and allowed.txt."""
    max_turns: int = 6
    """Guesses in a game, 1 to 6: with more, a lost game could outscore a won one."""
    reward: RewardMode = RewardMode.shaped
    """How the components are weighted: outcome, shaped or equal."""
    feedback: FeedbackLevel = FeedbackLevel.diagnostic
    """How much the feedback tells: none, outcome, diagnostic, hint or solution."""
    max_action_tokens: int = 160
    """Tokens that one action may use."""
    val: float = 0.15
    """Share of the secrets kept for the learning curve."""
    test: float = 0.25
    """Share of the secrets kept for the one test evaluation."""

    def __post_init__(self) -> None:
        require(1 <= self.max_turns <= 6, f"task.max_turns={self.max_turns} must be from 1 to 6")
        check_sizes(self.max_action_tokens, self.val, self.test)


@dataclass(frozen=True, kw_only=True, slots=True)
class WordleProblem(Problem):
    """A secret, and the guesses already made when the player takes over."""

    secret: str
    history: tuple[str, ...] = ()


@dataclass(slots=True)
class Game:
    """The state of one game: what was guessed, what is known, how many secrets are still possible."""

    words: WordList
    secret: str
    clues: Clues = field(default_factory=Clues)
    places: npt.NDArray[np.intp] = field(init=False)
    """Where in the list of secrets those stand that are still possible."""

    def __post_init__(self) -> None:
        self.places = np.arange(len(self.words.secrets))

    @property
    def possible(self) -> list[str]:
        """The secrets that every mark so far allows."""
        return [self.words.secrets[place] for place in self.places.tolist()]

    def play(self, guess: str) -> tuple[int, ...]:
        """Mark a valid guess and learn from it."""
        result = marks(guess, self.secret)
        self.clues.learn(guess, result)
        self.places = self.places[self.words.codes(guess)[self.places] == code_of(result)]
        return result


class WordleEpisode(Episode):
    """One game from the player's side."""

    def __init__(self, task: Wordle, problem: WordleProblem, turns: int) -> None:
        self._task = task
        self._problem = problem
        self._left = task.config.max_turns - len(problem.history)
        self._turns = turns
        self._solved = False
        self._game = Game(task.words, problem.secret)
        rows = [row(guess, self._game.play(guess)) for guess in problem.history]
        self._messages: list[Message] = [{"role": "user", "content": self._say("\n".join(rows))}]

    @property
    def messages(self) -> list[Message]:
        return list(self._messages)

    @property
    def done(self) -> bool:
        return self._solved or self._turns == 0

    @property
    def clues(self) -> Clues:
        """What the marks so far say."""
        return self._game.clues

    @property
    def possible(self) -> list[str]:
        """The words of the list that could still be the secret."""
        return self._game.possible

    def knowledge(self) -> Hashable:
        return (self._left, self._game.clues.key())

    def step(self, action: str) -> Verdict:
        if self.done:
            raise RuntimeError("the game is over: start a new episode")
        task, game = self._task, self._game
        reading = read_action(action)
        total, broken = game.clues.judge(reading.guess) if reading.guess else (1, ["no guess was given"])
        valid = reading.guess in task.guesses
        before = math.log(len(game.places))
        hint = self._hint()
        shown: list[tuple[str, Mark]] = []
        self._turns -= 1
        self._left -= 1
        if valid:
            result = game.play(reading.guess)
            self._solved = all(mark == GREEN for mark in result)
            seen = row(reading.guess, result)
            shown = [(letter, TILE[mark]) for letter, mark in zip(reading.guess, result, strict=True)]
        else:
            seen = "That word is not in the list." if reading.guess else "No guess was found."
        progress = (before - math.log(len(game.places))) / max(math.log(len(task.words.secrets)), 1e-9)
        share = 1 - len(broken) / max(total, 1)
        verdict = Verdict(
            rewards={
                "format": 0.0 if reading.well_formed else -1.0,
                "valid": 0.0 if valid else -1.0,
                "consistent": share - 1.0,
                "progress": progress,
                "solved": float(self._solved),
            },
            feedback=self._feedback(reading.guess, valid, broken, hint),
            spans=reading.spans,
            solved=self._solved,
            shown=shown,
            metrics={"format": float(reading.well_formed), "valid": float(valid), "consistent": share},
        )
        self._messages.append({"role": "assistant", "content": action})
        if not self.done:
            self._messages.append({"role": "user", "content": self._say(seen)})
        return verdict

    def _say(self, seen: str) -> str:
        left = f"{self._left} guesses left." if self._left > 1 else "1 guess left."
        return f"{seen}\n{left}" if seen else left

    def _hint(self) -> str:
        """The first place of the secret that no green mark has shown."""
        secret, known = self._problem.secret, self._game.clues.fixed
        place = next((place for place in range(LENGTH) if place not in known), None)
        return "" if place is None else f"'{secret[place]}' must be at position {place + 1}"

    def _feedback(self, guess: str, valid: bool, broken: list[str], hint: str) -> str:
        level = self._task.config.feedback
        if level == FeedbackLevel.none:
            return ""
        if self._solved:
            return "solved"
        if level == FeedbackLevel.outcome:
            return "not solved"
        lines = list(broken)
        if guess and not valid:
            lines.insert(0, f"'{guess}' is not a word")
        if not lines:
            lines = [f"'{guess}' is not the secret word"]
        if level in (FeedbackLevel.hint, FeedbackLevel.solution) and hint and hint not in lines:
            lines.append(hint)
        if level == FeedbackLevel.solution:
            lines.append(f"the secret word is '{self._problem.secret}'")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read out of an action: the guess ('' if none) and the spans of its parts."""

    guess: str
    well_formed: bool
    spans: dict[str, tuple[int, int]]


def read_action(action: str) -> Reading:
    """Read an action. Time is linear in its length; the text is only ever compared, never run."""
    if len(action) > LONGEST:
        return Reading("", False, {})
    match = ACTION.fullmatch(action)
    found = [match] if match else list(islice(GUESS.finditer(action), 2))  # More than one guess is none.
    group = "guess" if match else 1
    if len(found) != 1:
        return Reading("", False, {})
    text = found[0].group(group)
    word = text.strip().lower()
    start = found[0].start(group) + len(text) - len(text.lstrip())
    if len(word) != LENGTH or not (word.isascii() and word.isalpha()):
        return Reading("", False, {})
    span = (start, start + LENGTH)
    return Reading(word, match is not None, {"valid": span})


def row(guess: str, result: Sequence[int]) -> str:
    """A marked guess as the player sees it: `c- r? a+ n- e-`."""
    return " ".join(letter + SYMBOL[mark] for letter, mark in zip(guess, result, strict=True))


def write_action(thought: str, guess: str) -> str:
    """The action in its right form."""
    return f"<think>{thought}</think><guess>{guess}</guess>"


class Wordle(Task):
    """The whole game, up to six turns."""

    Config = WordleConfig
    name: ClassVar[str] = "wordle"
    version: ClassVar[str] = "2"
    advice = WORDLE_ADVICE
    instructions = (
        "Play Wordle: find the secret word of five letters. "
        "Marks after a guess: + right place, ? elsewhere in the word, - not in the word. "
        "Answer with <think>what is known</think><guess>one word</guess>."
    )

    def __init__(self, config: WordleConfig) -> None:
        self.config = config
        self.components = weighted(WORDLE_COMPONENTS, config.reward, "solved")
        self.words = load_words(config.words)
        self.guesses = frozenset(self.words.guesses)
        self.max_turns = config.max_turns
        self.max_action_tokens = config.max_action_tokens
        self._problems: dict[Split, list[WordleProblem]] = {"train": [], "val": [], "test": []}
        for secret in self.words.secrets:
            split = split_of(secret, val=config.val, test=config.test)
            self._problems[split].append(self._problem(secret, split))

    def _problem(self, secret: str, split: Split) -> WordleProblem:
        return WordleProblem(id=f"{self.name}/{secret}", split=split, secret=secret)

    def problems(self, split: Split) -> Sequence[WordleProblem]:
        return self._problems[split]

    def start(self, problem: Problem) -> WordleEpisode:
        assert isinstance(problem, WordleProblem)
        return WordleEpisode(self, problem, self.max_turns)

    def oracle(self, problem: Problem) -> list[str]:
        assert isinstance(problem, WordleProblem)
        return [write_action("", problem.secret)]

    def demonstration(self, problem: Problem, rng: random.Random) -> list[Message]:
        """A player who writes the clues down and guesses a word, at random, that they all allow."""
        episode = self.start(problem)
        while not episode.done:
            guess = rng.choice(episode.possible)
            episode.step(write_action(reasoning(episode.clues, guess), guess))
        return episode.messages

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Adds `guesses`: turns used by a won game; one more than allowed for a lost one."""
        solved = any(verdict.solved for verdict in verdicts)
        return super().metrics(verdicts) | {"guesses": float(len(verdicts) if solved else self.max_turns + 1)}

    def fingerprint(self) -> str:
        guesses = hashlib.sha256(" ".join(self.words.guesses).encode()).hexdigest()
        return hashlib.sha256(f"{super().fingerprint()} {guesses} {self.config.feedback}".encode()).hexdigest()[:16]
