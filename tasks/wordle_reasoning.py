"""What a Wordle player writes into the think block: the clues so far, then the guess letter by letter.

Language models see words as a few tokens and seldom know how they are spelled. So every letter stands by itself, where
it is a token of its own, and the guess is spelled out before it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.clues import LENGTH, Clues


def reasoning(clues: Clues, guess: str) -> str:
    """The thought before a guess: `place _ _ a _ e; elsewhere r not 2 3, n not 4; without c t s; so g r a n e`."""
    parts = []
    if clues.fixed:
        parts.append(f"place {_spelled(clues.fixed.get(position, '_') for position in range(LENGTH))}")
    placed = list(clues.fixed.values())
    elsewhere = sorted(letter for letter, count in clues.least.items() if count > placed.count(letter))
    if elsewhere:
        parts.append(f"elsewhere {', '.join(_elsewhere(clues, letter) for letter in elsewhere)}")
    absent = sorted(letter for letter, count in clues.most.items() if count == 0)
    if absent:
        parts.append(f"without {_spelled(absent)}")
    return "; ".join([*parts, f"so {_spelled(guess)}"])


def _elsewhere(clues: Clues, letter: str) -> str:
    places = [str(position + 1) for other, position in sorted(clues.barred) if other == letter]
    return f"{letter} not {_spelled(places)}" if places else letter


def _spelled(letters: Iterable[str]) -> str:
    return " ".join(letters)
