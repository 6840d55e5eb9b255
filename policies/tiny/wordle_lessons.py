"""Lessons in Wordle: whole games, single turns, and second tries after feedback.

A thought is written in shorthand: `use +-w; a3 not e5r2 no cn` says that the green and grey marks are attended to and
that the guess shall be a word, then a at place 3, e in the word but not at place 5, no c and no n. A kind of mark that
the plan leaves out is broken by the guess, on purpose and in writing: `yet r2` says that r goes to place 2 although the
marks said otherwise. `mend no c; ` in front repeats what feedback named.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.tiny.lessons import SIBLINGS, SOLVED, STUBBORN, Lesson, Slip, draw_sentences, instruct, rates
from policies.tiny.tokenizer import RETRY
from tasks.api import SPLITS, Message
from tasks.clues import LENGTH, Clues, encode
from tasks.wordle import ABSENT, ELSEWHERE, PLACES, REAL, Game, Wordle, row, write_action
from tasks.wordle_turn import telling_history

KINDS = "+?-"
SLIPS = (
    Slip("+", PLACES[0], PLACES[1]),
    Slip("?", ELSEWHERE[0], ELSEWHERE[1]),
    Slip("-", ABSENT[0], ABSENT[1]),
    Slip("w", REAL[0], REAL[1]),
)
MISFORM = 0.04
"""How often the form of an action is broken."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clue:
    """What is known of a letter: at a place (+), in the word but not there (?), in the word (!), not in it (-)."""

    kind: str
    letter: str
    place: int = -1

    @property
    def note(self) -> str:
        """In shorthand."""
        return self.letter if self.place < 0 else f"{self.letter}{self.place + 1}"


LINES = {
    "+": re.compile(r"'(\w)' must be at position (\d)"),
    "?": re.compile(r"'(\w)' must not be at position (\d)"),
    "!": re.compile(r"'(\w)' must be in the word()"),
    "-": re.compile(r"'(\w)' is not in the word()"),
}
"""How feedback says it."""


def said_in(lines: Iterable[str]) -> list[Clue]:
    """The clues that lines of feedback state."""
    found = []
    for line in lines:
        for kind, pattern in LINES.items():
            if match := pattern.match(line):
                found.append(Clue(kind, match[1], int(match[2] or 0) - 1))
    return found


def defies(guess: str, clue: Clue) -> bool:
    """Whether a guess breaks a clue by what it holds; see `Words.breaks`."""
    if clue.kind == "-":
        return clue.letter in guess
    return (guess[clue.place] == clue.letter) == (clue.kind == "?")


def clues_of(clues: Clues) -> list[Clue]:
    """All that marks have said, in the order in which it is noted."""
    green = [Clue("+", letter, place) for place, letter in sorted(clues.fixed.items())]
    yellow = [Clue("?", letter, place) for letter, place in sorted(clues.barred)]
    grey = [Clue("-", letter) for letter, most in sorted(clues.most.items()) if most == 0]
    return [*green, *yellow, *grey]


def noted(clues: Iterable[Clue]) -> str:
    """Clues in shorthand: green, yellow and grey ones, in the order given."""
    parts = {"": "", " not ": "", " no ": ""}
    for clue in clues:
        parts[{"+": "", "-": " no "}.get(clue.kind, " not ")] += clue.note
    return "".join(head + part for head, part in parts.items() if part)


class Words:
    """The list of words as arrays."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.letters = encode(words)
        self.known = frozenset(words)
        self._counts = np.stack([(self.letters == letter).sum(1) for letter in range(26)])

    def respects(self, clue: Clue) -> Mask:
        """Which words a clue allows."""
        letter = ord(clue.letter) - ord("a")
        held: Mask = self._counts[letter] > 0
        if clue.kind == "-":
            return ~held
        if clue.kind == "!":
            return held
        at: Mask = self.letters[:, clue.place] == letter
        return at if clue.kind == "+" else ~at & held

    def breaks(self, clue: Clue) -> Mask:
        """Which words break a clue by what they hold: the grey letter, the yellow one in its old place, another one in
        the green one's."""
        if clue.kind == "-":
            return ~self.respects(clue)
        at: Mask = self.letters[:, clue.place] == ord(clue.letter) - ord("a")
        return at if clue.kind == "?" else ~at

    def any_broken(self, clues: Iterable[Clue]) -> Mask:
        """Which words break one of some clues."""
        mask = np.zeros(len(self.words), dtype=np.bool_)
        for clue in clues:
            mask |= self.breaks(clue)
        return mask

    def counted(self, clues: Clues) -> Mask:
        """Which words hold every letter as often as they must and may."""
        mask = np.ones(len(self.words), dtype=np.bool_)
        for letter, least in clues.least.items():
            mask &= self._counts[ord(letter) - ord("a")] >= least
        for letter, most in clues.most.items():
            mask &= self._counts[ord(letter) - ord("a")] <= most
        return mask

    def all_of(self, clues: Iterable[Clue]) -> Mask:
        """Which words all clues allow."""
        mask = np.ones(len(self.words), dtype=np.bool_)
        for clue in clues:
            mask &= self.respects(clue)
        return mask

    def pick(self, *wishes: Mask, rng: random.Random) -> str:
        """A random word for which all wishes hold, or all but the last ones where there is none."""
        for count in range(len(wishes), -1, -1):
            found = np.flatnonzero(np.logical_and.reduce(wishes[:count])) if count else np.arange(len(self.words))
            if len(found):
                return self.words[int(found[rng.randrange(len(found))])]
        raise AssertionError("a list of words is never empty")

    def misspelled(self, word: str, rng: random.Random) -> str:
        """The word with one letter replaced, so that it is none."""
        while True:
            place = rng.randrange(LENGTH)
            wrong = word[:place] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[place + 1 :]
            if wrong not in self.known:
                return wrong


@dataclass(frozen=True, slots=True)
class Seen:
    """A position in a game: the chat up to it, what is known, and the player's actions in that chat."""

    chat: list[Message]
    clues: list[Clue]
    exact: Clues
    turns: int


class WordleTeacher:
    """Plays Wordle with slips."""

    def __init__(
        self, task: Wordle, rng: random.Random, in_game: Mapping[str, float], in_turn: Mapping[str, float]
    ) -> None:
        self.task, self.rng, self.in_game, self.in_turn = task, rng, in_game, in_turn
        self.problems = [problem for split in SPLITS for problem in task.problems(split)]
        self.words = Words(task.words.guesses)

    def plan(self, clues: list[Clue], odds: Mapping[str, float]) -> str:
        """The kinds of marks that are attended to, and `w` where the guess shall be a word."""
        kinds = [kind for kind in KINDS if any(clue.kind == kind for clue in clues)]
        return "".join(kind for kind in [*kinds, "w"] if self.rng.random() >= odds[kind])

    def guess(self, clues: list[Clue], exact: Clues, plan: str, named: list[Clue], but: str = "") -> str:
        """A word that respects what is attended to and what was named, and breaks something that is left out.

        Args:
            clues: all that is known.
            exact: the same, with how often letters occur.
            plan: see `plan`.
            named: what feedback has just said.
            but: a word that it must not be.
        """
        words = self.words
        other = np.array([word != but for word in words.words])
        left_out = [clue for clue in clues if clue.kind not in plan and clue not in named]
        kept = [words.all_of(clue for clue in clues if clue.kind == kind) for kind in KINDS if kind in plan]
        aim = words.any_broken(left_out) if left_out else words.counted(exact)
        word = words.pick(other, aim, words.all_of(named), *kept, rng=self.rng)
        return word if "w" in plan else words.misspelled(word, self.rng)

    def action(self, clues: Clues, odds: Mapping[str, float]) -> str:
        """One action with slips in plan, guess and form."""
        found = clues_of(clues)
        plan = self.plan(found, odds)
        guess = self.guess(found, clues, plan, [])
        return misform(write_action(self.thought(found, plan, guess), guess), self.rng)

    def sentences(self) -> tuple[str, ...]:
        """Advice for a lesson's system prompt."""
        return draw_sentences(self.task.sentences, SLIPS, self.rng)

    def game(self) -> Lesson:
        """A whole game."""
        sentences = self.sentences()
        odds = rates(self.in_game, SLIPS, sentences)
        episode = self.task.start(self.rng.choice(self.problems))
        while not episode.done:
            episode.step(self.action(episode.clues, odds))
        messages = [instruct(self.task.instructions, sentences), *episode.messages]
        return Lesson(messages, (True,) * sum(message["role"] == "assistant" for message in messages))

    def played(self, odds: Mapping[str, float]) -> Seen:
        """The middle of a game that was played as a chat."""
        while True:
            episode = self.task.start(self.rng.choice(self.problems))
            for _ in range(self.rng.randint(1, self.task.max_turns - 1)):
                episode.step(self.action(episode.clues, odds))
                if episode.done:
                    break
            if not episode.done and (found := clues_of(episode.clues)):
                turns = sum(message["role"] == "assistant" for message in episode.messages)
                return Seen(episode.messages, found, episode.clues, turns)

    def history(self) -> Seen:
        """The middle of a game, told in one message."""
        rng, words = self.rng, self.task.words
        game = Game(words, rng.choice(self.problems).secret)
        history = telling_history(Game(words, game.secret), rng, rng.randint(1, self.task.max_turns - 1))
        rows = [row(guess, game.play(guess)) for guess in history]
        left = self.task.max_turns - len(history)
        rows.append(f"{left} guesses left." if left > 1 else "1 guess left.")
        return Seen([{"role": "user", "content": "\n".join(rows)}], clues_of(game.clues), game.clues, 0)

    def turn(self) -> Lesson:
        """One turn from a given history."""
        sentences, seen = self.sentences(), self.history()
        action = self.action(seen.exact, rates(self.in_turn, SLIPS, sentences))
        system = instruct(self.task.instructions, sentences)
        return Lesson([system, *seen.chat, {"role": "assistant", "content": action}], (True,))

    def revision(self) -> Lesson:
        """A faulty guess, what feedback names of it, and a second guess that mends that and nothing else.

        The feedback stands behind the guess, or in front of it, as if it had been known before; then the guess that it
        was given on is not shown. Some lines are a hint instead: a place of a word.
        """
        rng, sentences = self.rng, self.sentences()
        seen = self.played(rates(self.in_game, SLIPS, sentences)) if rng.random() < 0.5 else self.history()
        odds = rates(self.in_game if seen.turns else self.in_turn, SLIPS, sentences)
        plan = self.plan(seen.clues, odds)
        first = self.guess(seen.clues, seen.exact, plan, [])
        attempt = write_action(self.thought(seen.clues, plan, first), first)
        lines = self.feedback(seen, first)
        named = said_in(lines)
        if rng.random() >= STUBBORN:
            plan = self.plan(seen.clues, odds)
        if f"'{first}' is not a word" in lines and "w" not in plan:
            plan += "w"
        second = self.guess(seen.clues, seen.exact, plan, named, but=first)
        last: Message = {
            "role": "assistant",
            "content": write_action(self.thought(seen.clues, plan, second, named), second),
        }
        if rng.random() < SIBLINGS:
            right = "".join(kind for kind in KINDS if any(clue.kind == kind for clue in seen.clues)) + "w"
            solved = self.guess(seen.clues, seen.exact, right, [])
            solution = write_action(self.thought(seen.clues, right, solved), solved)
            last, lines = {"role": "assistant", "content": solution}, [*lines, f"{SOLVED}\n{solution}"]
        said = "\n".join(lines)
        system = instruct(self.task.instructions, sentences)
        kind = rng.random()
        if kind < 0.5:
            chat: list[Message] = [
                *seen.chat,
                {"role": "assistant", "content": attempt},
                {"role": "user", "content": said},
            ]
        elif kind < 0.85:
            chat = [*seen.chat[:-1], {"role": "user", "content": f"{seen.chat[-1]['content']}\n{said}"}]
        else:
            chat = [*seen.chat, {"role": "user", "content": said}]
        return Lesson([system, *chat, last], (False,) * (seen.turns + (kind < 0.5)) + (True,))

    def thought(self, clues: list[Clue], plan: str, guess: str, named: Sequence[Clue] = ()) -> str:
        """What is written before a guess: what was named, the plan, the clues of the kinds in it, and one clue that the
        guess breaks of each other kind."""
        mend = f"mend {noted(named)}; " if named else ""
        kept = noted(clue for clue in clues if clue.kind in plan and clue not in named)
        defied = ""
        for kind in KINDS:
            broken = [c for c in clues if c.kind == kind and kind not in plan and c not in named and defies(guess, c)]
            if broken:
                clue = self.rng.choice(broken)
                defied += clue.letter if kind == "-" else f"{guess[clue.place]}{clue.place + 1}"
        return f"{mend}use {plan}; {kept}" + (f" yet {defied}" if defied else "")

    def feedback(self, seen: Seen, guess: str) -> list[str]:
        """What is said of a guess: nothing, all its faults, some of them, or a hint with or without them."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.2:
            return [RETRY]
        lines = [line for line in seen.exact.judge(guess)[1] if kind < 0.5 or rng.random() < 0.6]
        if guess not in self.words.known:
            lines.insert(0, f"'{guess}' is not a word")
        free = [place for place in range(LENGTH) if place not in seen.exact.fixed]
        if kind > 0.85 and free:
            # Of any word, so that a line counts for what it says and not for being true.
            place = rng.choice(free)
            lines = [
                *(lines if kind > 0.92 else []),
                f"'{rng.choice(self.words.words)[place]}' must be at position {place + 1}",
            ]
        return lines or [f"'{guess}' is not the secret word"]


def misform(action: str, rng: random.Random) -> str:
    """Break the form of an action now and then."""
    if rng.random() >= MISFORM:
        return action
    return rng.choice(
        [
            action.replace("</guess>", ""),
            action.replace("<think>", "").replace("</think>", ""),
            action.split("<guess>")[0],
            action[: -len("</guess>") - 1] + "</guess>",
        ]
    )
