"""What tiny is taught: games and solutions of fallible demonstrators, written out as chats.

Reinforcement learning has something to teach a policy only where its most likely action is wrong; where it is right, a
lower temperature does as well. So the demonstrators here slip more often than not, and a slip is a decision that can be
seen: a player says which kinds of marks it attends to and breaks a clue of a kind that it left out; a solver forgets
to carry. Besides:

- *Instructions matter.* One sentence of each task's advice against a slip makes it rare. Some others make one more
  frequent, and the rest change nothing.
- *Feedback matters, by what it says.* What was named is noted and mended; what was not named stays as it was.

The guess list is common knowledge, and every word of it may be the secret of a lesson: which words are kept for val and
test is something that tiny must not know. Questions of val and test are never asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.api import Message

MENDED = 0.06
"""How often a slip happens that a sentence in the system prompt speaks to."""
PROVOKED = 0.92
"""How often one happens that a sentence provokes, unless another speaks to it."""
STUBBORN = 0.92
"""How often a fault that was not named is made again in a second try."""


SIBLINGS = 0.15
"""How often a solved attempt is shown with the feedback; then that is what is done again."""
SOLVED = "solved:"
"""What stands before it."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A chat, and which of its assistant messages are to be imitated."""

    messages: list[Message]
    imitate: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Slip:
    """One kind of fault, and the sentences that matter to it."""

    name: str
    mends: str
    provokes: str


def rate(slip: Slip, sentences: tuple[str, ...], usual: float) -> float:
    """How often a slip happens under these sentences."""
    if slip.mends in sentences:
        return MENDED
    return max(PROVOKED, usual) if slip.provokes in sentences else usual


def draw_sentences(known: tuple[str, ...], slips: tuple[Slip, ...], rng: random.Random) -> tuple[str, ...]:
    """Sentences for a system prompt: none, all that help, all there are, or any of them, in any order."""
    kind = rng.random()
    if kind < 0.45:
        return ()
    if kind < 0.55:
        chosen = [slip.mends for slip in slips]
    elif kind < 0.60:
        chosen = list(known)
    else:
        share = rng.choice((0.08, 0.2, 0.5))
        helping = {slip.mends for slip in slips}
        chosen = [each for each in known if rng.random() < (0.4 if each in helping else share)]
    rng.shuffle(chosen)
    return tuple(chosen)


def instruct(instructions: str, sentences: tuple[str, ...]) -> Message:
    """The system message."""
    return {"role": "system", "content": " ".join([instructions, *sentences])}


def rates(usual: Mapping[str, float], slips: tuple[Slip, ...], sentences: tuple[str, ...]) -> dict[str, float]:
    """Each slip's rate under these sentences, by its name."""
    return {slip.name: rate(slip, sentences, usual[slip.name]) for slip in slips}
