"""Wordle's arithmetic: marks of a guess, and the clues that marks leave behind.

Marks follow the original game: a letter is green in its place; otherwise yellow as often as the secret still has
unmatched copies of it, from left to right; otherwise grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

GREY, YELLOW, GREEN = 0, 1, 2
LENGTH = 5


def marks(guess: str, secret: str) -> tuple[int, ...]:
    """Marks of a guess: one of GREY, YELLOW, GREEN per letter. Both words have LENGTH letters."""
    result = [GREEN if g == s else GREY for g, s in zip(guess, secret, strict=True)]
    left = [s for s, mark in zip(secret, result, strict=True) if mark != GREEN]
    for position, letter in enumerate(guess):
        if result[position] != GREEN and letter in left:
            left.remove(letter)
            result[position] = YELLOW
    return tuple(result)


def encode(words: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Words as letters 0..25: uint8 [words, LENGTH]."""
    return np.frombuffer("".join(words).encode("ascii"), dtype=np.uint8).reshape(-1, LENGTH) - ord("a")


BLOCK = 1 << 17
"""Pairs of words marked at once: so many that their columns stay in the processor's cache."""


def marks_table(guesses: Sequence[str], secrets: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Marks of every guess against every secret as base-3 codes: uint8 [guesses, secrets], 242 means all green.

    The first letter is the lowest digit. Same result as `marks`, computed by whole columns.
    """
    guess, secret = encode(guesses), encode(secrets)
    table = np.empty((len(guess), len(secret)), dtype=np.uint8)
    block = max(BLOCK // max(len(secret), 1), 1)
    for start in range(0, len(guess), block):
        table[start : start + block] = _codes(guess[start : start + block].T[:, :, None], secret.T[:, None, :])
    return table


def _codes(guess: npt.NDArray[np.uint8], secret: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Codes [guesses, secrets] of letters [LENGTH, guesses, 1] and [LENGTH, 1, secrets]."""
    green = [guess[i] == secret[i] for i in range(LENGTH)]
    free = [~green[j] for j in range(LENGTH)]
    code = np.zeros(green[0].shape, dtype=np.uint8)
    for i in range(LENGTH):
        waiting = ~green[i]
        grey = waiting.copy()
        for j in range(LENGTH):
            if j != i:
                hit = guess[i] == secret[j]
                hit &= grey
                hit &= free[j]
                # A hit was grey and free: now it is neither.
                grey ^= hit
                free[j] ^= hit
        # Two digits' worth where green, one where yellow: not waiting, not grey.
        code += ((~waiting).view(np.uint8) + (~grey).view(np.uint8)) * np.uint8(3**i)
    return code


def code_of(result: tuple[int, ...]) -> int:
    """The base-3 code of marks, as in `marks_table`."""
    return sum(mark * 3**position for position, mark in enumerate(result))


@dataclass(slots=True)
class Clues:
    """Everything that the marks so far say about the secret."""

    fixed: dict[int, str] = field(default_factory=dict)
    """Green: position (0-based) to letter."""
    barred: set[tuple[str, int]] = field(default_factory=set)
    """A letter that is in the word, but not at this position."""
    least: dict[str, int] = field(default_factory=dict)
    """The word holds at least so many copies of a letter."""
    most: dict[str, int] = field(default_factory=dict)
    """The word holds at most so many copies (0: the letter is not in the word)."""

    def learn(self, guess: str, result: tuple[int, ...]) -> None:
        """Add what one marked guess says."""
        for position, (letter, mark) in enumerate(zip(guess, result, strict=True)):
            if mark == GREEN:
                self.fixed[position] = letter
        for letter in dict.fromkeys(guess):
            here = [result[i] for i in range(LENGTH) if guess[i] == letter]
            found = sum(mark != GREY for mark in here)
            if found:
                self.least[letter] = max(found, self.least.get(letter, 0))
            if found < len(here):
                self.most[letter] = found
        for position, (letter, mark) in enumerate(zip(guess, result, strict=True)):
            if mark != GREEN and letter in self.least:
                self.barred.add((letter, position))

    def key(self) -> tuple[object, ...]:
        """A hashable value, equal exactly for equal clues."""
        return (
            tuple(sorted(self.fixed.items())),
            tuple(sorted(self.barred)),
            tuple(sorted(self.least.items())),
            tuple(sorted(self.most.items())),
        )

    def judge(self, guess: str) -> tuple[int, list[str]]:
        """How many clues there are, and a referee's line for each one that the guess does not respect."""
        broken: list[str] = []
        for position, letter in sorted(self.fixed.items()):
            if guess[position] != letter:
                broken.append(f"'{letter}' must be at position {position + 1}")
        needed = {letter: n for letter, n in self.least.items() if n > _count(self.fixed, letter)}
        for letter, n in sorted(needed.items()):
            if guess.count(letter) < n:
                broken.append(f"'{letter}' must be in the word" + (f" {TIMES[n]}" if n > 1 else ""))
        for letter, position in sorted(self.barred):
            if guess[position] == letter:
                broken.append(f"'{letter}' must not be at position {position + 1}")
        for letter, n in sorted(self.most.items()):
            if guess.count(letter) > n:
                broken.append(
                    f"'{letter}' is not in the word" if n == 0 else f"'{letter}' is in the word only {TIMES[n]}"
                )
        return len(self.fixed) + len(needed) + len(self.barred) + len(self.most), broken

    def allows(self, guess: str) -> bool:
        """Whether the guess could still be the secret."""
        for position, letter in self.fixed.items():
            if guess[position] != letter:
                return False
        for letter, position in self.barred:
            if guess[position] == letter:
                return False
        for letter, n in self.most.items():
            if guess.count(letter) > n:
                return False
        return all(guess.count(letter) >= n for letter, n in self.least.items())


TIMES = {1: "once", 2: "twice", 3: "three times", 4: "four times"}


def _count(fixed: dict[int, str], letter: str) -> int:
    return sum(other == letter for other in fixed.values())
