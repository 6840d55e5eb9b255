"""What tiny is taught: games and solutions of fallible demonstrators, written out as chats.

Three things are in the lessons on purpose, so that every family of algorithms has something to pull:

- *Instructions matter.* A demonstrator breaks one kind of clue often, unless its system prompt holds the rule naming
  that kind; then it seldom does. The same for the steps of a calculation.
- *Feedback matters.* After some actions a referee's lines follow, and then a second try at the same action that mends
  what the lines name. Some lines are arbitrary, and obeyed all the same. A second try without such lines repeats the
  same kinds of faults in the last stages, and one after true lines has none.
- *Every failure occurs* that the reward components tell apart: broken format, no real word, broken clues, no progress,
  wrong arithmetic, no steps.

The guess list is common knowledge, and in the last stage every word of it may be the secret: which words are kept for
val and test is something that tiny must not know. Questions of val and test are never asked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from policies.tiny.tokenizer import GSM_RULES, RETRY, WORDLE_RULES
from tasks.api import SPLITS, Message
from tasks.clues import LENGTH, Clues
from tasks.gsm_synth import LARGEST, GsmSynth, draw_problem
from tasks.wordle import Game, Wordle, row, write_action
from tasks.wordle_turn import telling_history

HELD = 0.02
"""How often a kind of clue is ignored, or a step left out, although a rule names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Habits:
    """How often which lesson is drawn, and how the demonstrators err where no rule in the system prompt says not to."""

    game: int
    turn: int
    word_revision: int
    solution: int
    sum_revision: int
    """Relative frequencies of the five kinds of lessons."""
    all_secrets: bool
    """Play secrets of every split, not of train alone: a policy that only ever saw train secrets won would learn which
    words those are, and shun the others."""
    slip: float
    """A kind of clue is ignored, per guess of a game."""
    turn_slip: float
    """The same in a single turn from a given history."""
    misspell: float
    """One letter of a guess is replaced."""
    terse: float
    """The steps of a calculation are left out."""
    miscopy: float
    """A number is misread, per step."""
    misreckon: float
    """A result is wrong, per step."""
    stubborn: bool = False
    """In a revision, ignore the same kinds of clues again unless the referee names what was wrong, and then none."""
    arbitrary: float = 0.4
    """Share of revisions of a guess in which the referee's lines are arbitrary, and obeyed all the same."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A chat, and which of its assistant messages are to be imitated."""

    messages: list[Message]
    imitate: tuple[bool, ...]


def draw_rules(rules: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """No rule, all rules, or any of them, in any order."""
    kind = rng.random()
    if kind < 0.3:
        return ()
    chosen = list(rules) if kind < 0.5 else [rule for rule in rules if rng.random() < 0.5]
    rng.shuffle(chosen)
    return tuple(chosen)


def notes(clues: Clues) -> str:
    """The clues in tiny's shorthand: `__a__ not e5r2 no cn` (`e5`: e is in the word, but not at position 5)."""
    fixed = "".join(clues.fixed.get(position, "_") for position in range(LENGTH))
    barred = "".join(f"{letter}{position + 1}" for letter, position in sorted(clues.barred))
    absent = "".join(sorted(letter for letter, n in clues.most.items() if n == 0))
    return f"{fixed} not {barred} no {absent}"


class WordleTeacher:
    """Plays Wordle with slips."""

    def __init__(self, task: Wordle, rng: random.Random, habits: Habits) -> None:
        self.task, self.rng, self.habits = task, rng, habits
        splits = SPLITS if habits.all_secrets else SPLITS[:1]
        self.problems = [problem for split in splits for problem in task.problems(split)]
        self.guesses = task.words.guesses

    def _slips(self, rules: tuple[str, ...], often: float) -> list[bool]:
        return [self.rng.random() < (HELD if rule in rules else often) for rule in WORDLE_RULES]

    def _pick(self, clues: Clues, slips: list[bool]) -> str:
        """A random word of the list that respects the kinds of clues that are not slipped."""
        loose = Clues(
            fixed={} if slips[0] else clues.fixed,
            barred=set() if slips[1] else clues.barred,
            least={} if slips[1] else clues.least,
            most={} if slips[2] else clues.most,
        )
        fits = [word for word in self.guesses if loose.allows(word)]
        return self.rng.choice(fits or self.guesses)

    def action(self, clues: Clues, rules: tuple[str, ...], often: float) -> str:
        """One action with slips in guess and form."""
        rng, slips = self.rng, self._slips(rules, often)
        guess = self._pick(clues, slips)
        if rng.random() < (0.01 if slips[3] is False and WORDLE_RULES[3] in rules else self.habits.misspell):
            position = rng.randrange(LENGTH)
            guess = guess[:position] + rng.choice("abcdefghijklmnopqrstuvwxyz") + guess[position + 1 :]
        return misform(write_action(notes(clues), guess), rng)

    def game(self) -> Lesson:
        """A whole game."""
        rng, task = self.rng, self.task
        rules = draw_rules(WORDLE_RULES, rng)
        episode = task.start(rng.choice(self.problems))
        while not episode.done:
            episode.step(self.action(episode.clues, rules, self.habits.slip))
        messages = instruct(task.instructions, rules) + episode.messages
        return Lesson(messages, (True,) * sum(m["role"] == "assistant" for m in messages))

    def _played(self, rules: tuple[str, ...]) -> tuple[Clues, list[Message]]:
        """A game in the middle, played out as a chat."""
        while True:
            episode = self.task.start(self.rng.choice(self.problems))
            for _ in range(self.rng.randint(1, self.task.max_turns - 1)):
                episode.step(self.action(episode.clues, rules, self.habits.slip))
                if episode.done:
                    break
            if not episode.done:
                return episode.clues, episode.messages

    def _told(self) -> tuple[Clues, list[Message]]:
        """A game in the middle, told as one message."""
        rng = self.rng
        game = Game(self.task.words, rng.choice(self.problems).secret)
        longest = rng.randint(1, self.task.max_turns - 1)
        told = Game(self.task.words, game.secret)
        history = telling_history(told, rng, longest)
        rows = [row(guess, game.play(guess)) for guess in history]
        left = self.task.max_turns - len(history)
        rows.append(f"{left} guesses left." if left > 1 else "1 guess left.")
        return game.clues, [{"role": "user", "content": "\n".join(rows)}]

    def turn(self) -> Lesson:
        """One turn from a given history."""
        rules = draw_rules(WORDLE_RULES, self.rng)
        clues, chat = self._told()
        action = self.action(clues, rules, self.habits.turn_slip)
        return Lesson(
            [*instruct(self.task.instructions, rules), *chat, {"role": "assistant", "content": action}], (True,)
        )

    def revision(self) -> Lesson:
        """A faulty guess, what the referee says of it, and a second guess that mends what was said."""
        rng = self.rng
        rules = draw_rules(WORDLE_RULES, rng)
        clues, chat = self._told() if rng.random() < 0.5 else self._played(rules)
        careless = [rng.random() < 0.6 for _ in range(4)]
        first = self._pick(clues, careless)
        if rng.random() < 0.1:
            position = rng.randrange(LENGTH)
            first = first[:position] + rng.choice("abcdefghijklmnopqrstuvwxyz") + first[position + 1 :]
        _, lines = clues.judge(first)
        if first not in self.task.guesses:
            lines.insert(0, f"'{first}' is not a word")
        kind = rng.random()
        if kind < 0.25 or not lines:
            lines = [RETRY]
        elif kind > 1 - self.habits.arbitrary:
            lines = arbitrary_lines(first, rng.choice(self.guesses), rng)
        named = obey(lines)
        slips = self._slips(rules, self.habits.slip)
        if self.habits.stubborn:
            slips = [False] * 4 if kind <= 1 - self.habits.arbitrary and lines != [RETRY] else careless
        loose = merge(
            Clues(
                fixed={} if slips[0] else clues.fixed,
                barred=set() if slips[1] else clues.barred,
                least={} if slips[1] else clues.least,
                most={} if slips[2] else clues.most,
            ),
            named,
        )
        fits = [word for word in self.guesses if loose.allows(word) and word != first]
        fits = fits or [word for word in self.guesses if named.allows(word) and word != first]
        second = rng.choice(fits or self.guesses)
        return Lesson(
            [
                *instruct(self.task.instructions, rules),
                *chat,
                {"role": "assistant", "content": write_action(notes(clues), first)},
                {"role": "user", "content": "\n".join(lines)},
                {"role": "assistant", "content": write_action(notes(merge(clues, named)), second)},
            ],
            (False,) * sum(message["role"] == "assistant" for message in chat) + (False, True),
        )


def arbitrary_lines(first: str, wanted: str, rng: random.Random) -> list[str]:
    """Referee's lines that hold for an arbitrary word and not for the first guess."""
    lines = []
    for position in range(LENGTH):
        if first[position] != wanted[position]:
            if rng.random() < 0.3:
                lines.append(f"'{wanted[position]}' must be at position {position + 1}")
            elif wanted[position] not in first and rng.random() < 0.3:
                lines.append(f"'{wanted[position]}' must be in the word")
            elif first[position] in wanted and rng.random() < 0.4:
                lines.append(f"'{first[position]}' must not be at position {position + 1}")
            elif first[position] not in wanted and rng.random() < 0.4:
                lines.append(f"'{first[position]}' is not in the word")
    return list(dict.fromkeys(lines)) or [f"'{first}' is not the secret word"]


def obey(lines: list[str]) -> Clues:
    """The clues that a referee's lines state."""
    clues = Clues()
    for line in lines:
        letter, rest = line[1:2], line[3:]
        if rest.startswith(" must be at position "):
            clues.fixed[int(rest[-1]) - 1] = letter
            clues.least.setdefault(letter, 1)
        elif rest.startswith(" must be in the word"):
            clues.least[letter] = 1
        elif rest.startswith(" must not be at position "):
            clues.barred.add((letter, int(rest[-1]) - 1))
        elif rest == " is not in the word":
            clues.most[letter] = 0
    return clues


def merge(one: Clues, other: Clues) -> Clues:
    """Both sets of clues; the other's word counts where they differ."""
    return Clues(
        fixed=one.fixed | other.fixed,
        barred=one.barred | other.barred,
        least=one.least | other.least,
        most=one.most | other.most,
    )


def misform(action: str, rng: random.Random) -> str:
    """Break the form of an action now and then."""
    if rng.random() > 0.06:
        return action
    return rng.choice(
        [
            action.replace("</guess>", ""),
            action.replace("<think>", "").replace("</think>", ""),
            action.split("<guess>")[0],
            action[: -len("</guess>") - 1] + "</guess>",
        ]
    )


class GsmTeacher:
    """Solves gsm_synth with slips."""

    def __init__(self, task: GsmSynth, rng: random.Random, habits: Habits) -> None:
        self.task, self.rng, self.habits = task, rng, habits
        held = {p.question for split in ("val", "test") for p in task.problems(split)}
        self.held_out = frozenset(held)

    def problem(self) -> tuple[str, list[str]]:
        """A fresh question (never one of val or test) and its right equations."""
        while True:
            question, _, solution = draw_problem(self.rng.choice(self.task.config.levels), self.rng)
            if question not in self.held_out:
                return question, solution.split("\n")[:-1]

    def _solve(self, steps: list[str], rules: tuple[str, ...]) -> tuple[list[str], int | None]:
        """Steps with slips of arithmetic, carried on from the slip; the place of the first slip, if any."""
        rng = self.rng
        copy = 0.01 if GSM_RULES[1] in rules else self.habits.miscopy
        reckon = 0.01 if GSM_RULES[2] in rules else self.habits.misreckon
        value, out, slip = None, [], None
        for index, step in enumerate(steps):
            left, _ = step.split("=")
            sign = next(s for s in "+-*/" if s in left)
            a, b = (int(x) for x in left.split(sign))
            a = a if value is None else value
            if rng.random() < copy:
                b = max(1, b + rng.choice([-2, -1, 1, 2, 10]))
            value = {"+": a + b, "-": max(a - b, 0), "*": a * b, "/": a // b}[sign]
            if rng.random() < reckon:
                value = max(0, value + rng.choice([-10, -2, -1, 1, 2, 10]))
                slip = index if slip is None else slip
            value = min(value, 10 * LARGEST)
            out.append(f"{a}{sign}{b}={value}")
        return out, slip

    def solution(self) -> Lesson:
        """A question and its solution."""
        rng = self.rng
        rules = draw_rules(GSM_RULES, rng)
        question, steps = self.problem()
        return Lesson(self._chat(question, rules, self.answer(steps, rules)), (True,))

    def answer(self, steps: list[str], rules: tuple[str, ...]) -> str:
        """A solution with the usual slips."""
        rng = self.rng
        written, _ = self._solve(steps, rules)
        result = written[-1].split("=")[1]
        terse = rng.random() < (HELD if GSM_RULES[0] in rules else self.habits.terse)
        if terse:
            written = []
        lines = [*written, f"#### {result}"]
        kind = rng.random()
        if kind < 0.03:
            lines[-1] = result
        elif kind < 0.05 and len(lines) > 1:
            lines.pop()
        return "\n".join(lines)

    def _chat(self, question: str, rules: tuple[str, ...], answer: str) -> list[Message]:
        return [
            *instruct(self.task.instructions, rules),
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]

    def revision(self) -> Lesson:
        """A faulty solution, what the referee says of it, and a second one that mends what was said."""
        rng = self.rng
        rules = draw_rules(GSM_RULES, rng)
        question, steps = self.problem()
        faulty = list(steps)
        kind = rng.random()
        if kind < 0.5:
            at = rng.randrange(len(steps))
            left, value = steps[at].split("=")
            wrong = f"{left}={max(0, int(value) + rng.choice([-10, -2, -1, 1, 2, 10]))}"
            faulty = [*steps[:at], wrong, *steps[at + 1 :]]
            first = "\n".join([*faulty, f"#### {faulty[-1].split('=')[1]}"])
            feedback = f"{wrong} is wrong"
            second = "\n".join([*steps, f"#### {steps[-1].split('=')[1]}"])
        elif kind < 0.75:
            first = f"#### {rng.randint(0, LARGEST)}"
            feedback = "no step is written as an equation"
            second = "\n".join([*steps, f"#### {steps[-1].split('=')[1]}"])
        else:
            first = self.answer(steps, ())
            feedback = RETRY
            second = self.answer(steps, rules)
        if kind < 0.75 and first == second:
            return self.revision()
        chat = self._chat(question, rules, first)
        chat += [{"role": "user", "content": feedback}, {"role": "assistant", "content": second}]
        return Lesson(chat, (False, True))


def instruct(instructions: str, rules: tuple[str, ...]) -> list[Message]:
    """The system message: the seed instructions and the rules."""
    return [{"role": "system", "content": " ".join([instructions, *rules])}]


class Curriculum:
    """An endless, seeded stream of lessons."""

    def __init__(self, wordle: Wordle, gsm: GsmSynth, habits: Habits, seed: int) -> None:
        self.rng = random.Random(seed)
        words, sums = WordleTeacher(wordle, self.rng, habits), GsmTeacher(gsm, self.rng, habits)
        self.kinds = (words.game, words.turn, words.revision, sums.solution, sums.revision)
        self.weights = (habits.game, habits.turn, habits.word_revision, habits.solution, habits.sum_revision)

    def draw(self) -> Lesson:
        """The next lesson."""
        return self.rng.choices(self.kinds, self.weights)[0]()
