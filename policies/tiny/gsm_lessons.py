"""Lessons in word problems: one question, several in numbered lines, several as turns, and second tries.

The slips are those of children: the ten is not carried in a sum, the smaller digit is taken from the larger in a
difference, and `times` or `parts` is read as adding or taking away.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.tiny.lessons import SIBLINGS, SOLVED, STUBBORN, Lesson, Slip, draw_sentences, instruct, rates
from policies.tiny.tokenizer import LARGEST_NUMBER, RETRY
from tasks.api import Message
from tasks.gsm_fields import GsmFields
from tasks.gsm_synth import GsmSynth, draw_problem
from tasks.solutions import NAMES, SCALING, SOLUTION_ADVICE

SLIPS = (
    Slip("terse", *SOLUTION_ADVICE["no step is written as an equation"][:2]),
    Slip("+", SOLUTION_ADVICE["the sum"][0], SOLUTION_ADVICE["the sum"][1]),
    Slip("-", SOLUTION_ADVICE["the difference"][0], SOLUTION_ADVICE["the difference"][1]),
    Slip("*/", SCALING[0], SCALING[1]),
)
MISFORM = 0.04
"""How often the form of an answer is broken."""


@dataclass(frozen=True, slots=True)
class Step:
    """One calculation as the question asks for it: what is done with the value so far."""

    sign: str
    operand: int

    @property
    def slip(self) -> str:
        """The name of the slip that may happen here."""
        return self.sign if self.sign in "+-" else "*/"

    def right(self, value: int) -> int:
        """The result."""
        operand = self.operand
        return {"+": value + operand, "-": value - operand, "*": value * operand, "/": value // operand}[self.sign]

    def wrong(self, value: int) -> int:
        """What a slip makes of it; the result itself where there is nothing to slip on."""
        operand, unit = self.operand, value % 10
        if self.sign == "+":
            return value + operand - (10 if unit + operand >= 10 else 0)
        if self.sign == "-":
            return value - unit + abs(unit - operand) if unit < operand else value - operand
        return value + operand if self.sign == "*" else max(value - operand, 0)


@dataclass(frozen=True, slots=True)
class Written:
    """A calculation as it was written down."""

    step: Step
    value: int
    result: int

    @property
    def equation(self) -> str:
        """`27+5=32`."""
        return f"{self.value}{self.step.sign}{self.step.operand}={self.result}"

    @property
    def named(self) -> str:
        """`the sum 27+5=32`."""
        return f"the {NAMES[self.step.sign]} {self.equation}"


class GsmTeacher:
    """Solves word problems with slips."""

    def __init__(self, task: GsmSynth, rng: random.Random, usual: Mapping[str, float]) -> None:
        self.task, self.rng, self.usual = task, rng, usual
        self.held_out = frozenset(p.question for split in ("val", "test") for p in task.problems(split))

    def problem(self, levels: Sequence[int] = (1, 2, 3, 4)) -> tuple[str, int, list[Step]]:
        """A fresh question (never one of val or test), the number that it begins with, and its calculations."""
        while True:
            question, _, solution = draw_problem(self.rng.choice(levels), self.rng)
            if question in self.held_out:
                continue
            steps = []
            for equation in solution.split("\n")[:-1]:
                left = equation.split("=")[0]
                sign = next(sign for sign in "+-*/" if sign in left)
                start, operand = left.split(sign)
                steps.append((int(start), Step(sign, int(operand))))
            return question, steps[0][0], [step for _, step in steps]

    def solve(self, value: int, steps: Sequence[Step], slips: Sequence[bool]) -> list[Written]:
        """The calculations, each carried on from the one before, with a slip where one is due."""
        done = []
        for step, slip in zip(steps, slips, strict=True):
            result = min(step.wrong(value) if slip else step.right(value), LARGEST_NUMBER)
            done.append(Written(step, value, result))
            value = result
        return done

    def draw(self, steps: Sequence[Step], odds: Mapping[str, float]) -> list[bool]:
        """Where slips happen."""
        return [self.rng.random() < odds[step.slip] for step in steps]

    def odds(self, sentences: tuple[str, ...]) -> dict[str, float]:
        """How often each slip happens under these sentences."""
        return rates(self.usual, SLIPS, sentences)

    def sentences(self) -> tuple[str, ...]:
        """Advice for a lesson's system prompt."""
        return draw_sentences(self.task.sentences, SLIPS, self.rng)

    def write(self, done: Sequence[Written], odds: Mapping[str, float]) -> str:
        """A solution as gsm_synth and gsm_turns want it, now and then without its steps or out of form."""
        lines = [each.equation for each in done]
        if self.rng.random() < odds["terse"]:
            lines = []
        lines.append(f"#### {done[-1].result}")
        kind = self.rng.random()
        if kind < MISFORM / 2:
            lines[-1] = str(done[-1].result)
        elif kind < MISFORM and len(lines) > 1:
            lines.pop()
        return "\n".join(lines)

    def solution(self) -> Lesson:
        """A question and its solution."""
        sentences = self.sentences()
        odds = self.odds(sentences)
        question, value, steps = self.problem()
        answer = self.write(self.solve(value, steps, self.draw(steps, odds)), odds)
        chat: list[Message] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return Lesson([instruct(self.task.instructions, sentences), *chat], (True,))

    def fields(self) -> Lesson:
        """Several questions in one prompt, answered in numbered lines."""
        sentences = self.sentences()
        odds = self.odds(sentences)
        asked, answered = [], []
        for place in range(1, self.rng.choice((1, 2, 3, 4, 4, 5, 6, 8, 8)) + 1):
            question, value, steps = self.problem((1, 1, 2, 2, 3))
            done = self.solve(value, steps, self.draw(steps, odds))
            asked.append(f"{place}. {question}")
            answered.append(f"{place}. {', '.join(each.equation for each in done)} #### {done[-1].result}")
        chat: list[Message] = [
            {"role": "user", "content": "\n".join(asked)},
            {"role": "assistant", "content": "\n".join(answered)},
        ]
        return Lesson([instruct(GsmFields.instructions, sentences), *chat], (True,))

    def turns(self) -> Lesson:
        """Several questions, one a turn."""
        sentences = self.sentences()
        odds = self.odds(sentences)
        messages, count = [instruct(self.task.instructions, sentences)], self.rng.choice((2, 3, 4, 6, 8, 12))
        for _ in range(count):
            question, value, steps = self.problem((1, 1, 2, 2, 3))
            answer = self.write(self.solve(value, steps, self.draw(steps, odds)), odds)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return Lesson(messages, (True,) * count)

    def revision(self) -> Lesson:
        """A faulty solution, what feedback names of it, and a second one that mends that and nothing else.

        As in Wordle, feedback stands behind the attempt or in front of it. Some of it is about another question: it
        names nothing of this one and mends nothing.
        """
        rng, sentences = self.rng, self.sentences()
        odds = self.odds(sentences)
        question, value, steps = self.problem()
        slips = self.draw(steps, odds)
        first = self.solve(value, steps, slips)
        wrong = [place for place, each in enumerate(first) if each.result != each.step.right(each.value)]
        again = slips if rng.random() < STUBBORN else self.draw(steps, odds)
        kind, said = rng.random(), RETRY
        if kind < 0.6 and wrong:
            place = wrong[0]
            again = [False if each == place else slip for each, slip in enumerate(again)]
            said = f"{first[place].named} is wrong{self.hint(first[place])}"
        elif kind < 0.75:
            _, start, others = self.problem()
            said = f"{rng.choice(self.solve(start, others, [True] * len(others))).named} is wrong"
        elif kind < 0.85:
            said = "no step is written as an equation"
        terse = {"terse": 0.0}
        chat: list[Message] = [{"role": "user", "content": question}]
        if rng.random() < 0.5:
            attempt = self.write(first, {"terse": float(said.startswith("no step"))})
            chat += [{"role": "assistant", "content": attempt}, {"role": "user", "content": said}]
        elif rng.random() < 0.7:
            chat = [{"role": "user", "content": f"{question}\n{said}"}]
        else:
            chat += [{"role": "user", "content": said}]
        last: Message = {"role": "assistant", "content": self.write(self.solve(value, steps, again), terse)}
        if rng.random() < SIBLINGS:
            last["content"] = self.write(self.solve(value, steps, [False] * len(steps)), terse)
            chat[-1] = {"role": "user", "content": f"{chat[-1]['content']}\n{SOLVED}\n{last['content']}"}
        imitate = (False,) * sum(message["role"] == "assistant" for message in chat) + (True,)
        return Lesson([instruct(self.task.instructions, sentences), *chat, last], imitate)

    def hint(self, written: Written) -> str:
        """Nothing, or what the level `hint` adds."""
        right = written.step.right(written.value)
        return self.rng.choice(("", "", f": it is {right}", f": it is {'more' if right > written.result else 'less'}"))
