"""Reading and judging a worked solution that ends in `#### N`: shared by gsm8k and gsm_synth.

Two extractions of the answer, both reported. *Strict* takes the number after the last `####`, if it is the only one in
its line and nothing continues it: an answer that hedges (`5 or 7`, `5-10`, `5/6`) is none. *Flexible* takes the last
number of the text, wherever it stands. A model that has learned to reason but not the format shows in the difference.

Text that a model wrote is read by a small recursive-descent parser over at most `REACH` characters per equation; it is
never evaluated as code, and the time is linear in its length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tasks.api import Component, FeedbackLevel, Verdict

REACH = 80
"""Characters that one side of an equation may have."""
TAIL = 4000
"""Characters at the end of a text in which the flexible extraction looks for a number."""
TOLERANCE = Fraction(1, 100)
"""Equations in prose are rounded to cents."""
WHOLE = r"(?:\d{1,3}(?:,\d{3}){1,5}(?!\d)|\d{1,15})"
NUMBER = re.compile(rf"(?:(?<![\w.%)])-)?\$?{WHOLE}(?:\.\d{{1,12}})?")
"""A minus behind a number is none of its own: `10-15` ends in 15."""
STATED = re.compile(
    r"(?>(?:\d{1,6} )?\d{1,6}/\d{1,6}|-?\$?(?:\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,12})?|\.\d{1,12})%?)"
    r"(?!\d|[ \t]{0,4}[-+*/x×÷(][ \t]{0,4}[\d(.$])"
)
"""A right side: a fraction, a mixed number, a number, a percentage; not one that goes on as an expression."""
STRICT = re.compile(rf"####[ \t]*+(-?\$?{WHOLE}(?:\.\d{{1,12}})?)")
"""The blanks are possessive (`*+`): ten million of them are read once, not given back one by one."""
CONTINUED = re.compile(r"[\d⁰¹²³⁴-⁹¼½¾^]|\bor\b")
"""What, in the rest of its line, makes a number no answer."""
GAP = re.compile(r"[\d)%.]\s+(?=[\d($.])")
"""Where one expression ends and, with no operator between, the next begins."""
SIDE = frozenset("0123456789.,+-*/x×÷()$% \t")
OPERATORS = {"+": "+", "-": "-", "*": "*", "x": "*", "×": "*", "/": "/", "÷": "/"}
SOLUTION_COMPONENTS = (
    Component(name="format", weight=0.1, low=0, high=1, about="the last line is #### and a number"),
    Component(name="numeric", weight=0.1, low=0, high=1, about="the answer after #### is a whole number"),
    Component(name="steps", weight=0.2, low=0, high=1, about="share of the written equations that are right"),
    Component(name="correct", weight=1.0, low=0, high=1, about="the answer after #### is the right one"),
)
SCALING = (
    "Multiply and divide as the words say.",
    "Add all numbers.",
    "Trust the first idea.",
    "Repeat the question first.",
)
SOLUTION_ADVICE = {
    "no step is written as an equation": (
        "Write each step as an equation.",
        "Give the answer alone.",
        "Name the units.",
        "Be brief.",
    ),
    "the sum": (
        "Carry the ten in a sum.",
        "Round each number.",
        "Begin with the largest number.",
        "Write clearly.",
    ),
    "the difference": (
        "Borrow the ten in a difference.",
        "Take the smaller digit from the larger.",
        "Count on your fingers.",
        "Do not write zeros.",
    ),
    "the product": SCALING,
    "the quotient": SCALING,
}
"""The first of each speaks to the fault; of the others some are beside the point and some mislead."""


@dataclass(frozen=True, slots=True)
class Equation:
    """`left = right` as found in a text."""

    start: int
    end: int
    text: str
    right: bool
    """Whether the arithmetic holds."""


def plain(text: str) -> str:
    """A text with the typographic minus, which models write, as the one that is read; it keeps its length."""
    return text.replace("\u2212", "-")


def number(text: str) -> Fraction | None:
    """A number as written in prose: `1,234`, `$5`, `-3.50`; None if it is not one."""
    found = NUMBER.fullmatch(plain(text).strip().rstrip("."))
    return Fraction(found.group().replace(",", "").replace("$", "")) if found else None


def strict_answer(text: str) -> Fraction | None:
    """The number after the last `####`; None where its line goes on with another, or with a part of it."""
    line = plain(text[text.rfind("####") :].partition("\n")[0]) if "####" in text else ""
    found = STRICT.match(line)
    return number(found.group(1)) if found and not CONTINUED.search(line, found.end()) else None


def flexible_answer(text: str) -> Fraction | None:
    """The last number in the last `TAIL` characters."""
    last = None
    for match in NUMBER.finditer(plain(text[-TAIL:])):
        last = match
    return number(last.group()) if last else None


def equations(text: str, most: int = 200) -> list[Equation]:
    """What stands around the first `most` equals signs, with an operator on the left and a number on the right."""
    found: list[Equation] = []
    text = plain(text)
    at = text.find("=")
    floor = 0
    for _ in range(most):
        if at == -1:
            break
        start = at
        while start > max(floor, at - REACH) and text[start - 1] in SIDE:
            start -= 1
        start = _left_start(text, start, at)
        left, stated = evaluate(text[start:at]), STATED.match(text, _skip_blanks(text, at + 1))
        if left is not None and stated and any(operator in text[start + 1 : at] for operator in OPERATORS):
            right = any(abs(left - value) <= TOLERANCE for value in _meanings(stated.group()))
            found.append(Equation(start, stated.end(), text[start : stated.end()], right))
        floor = at + 1
        at = text.find("=", at + 1)
    return found


def _left_start(text: str, start: int, end: int) -> int:
    """Where the left side begins in a run of characters that could belong to one: behind what ends earlier text."""
    start += max((gap.end() for gap in GAP.finditer(text[start:end])), default=0)
    while start < end and (text[start] in " \t,)%" or text[start : start + 2] == ". "):
        start += 1
    if text[start : start + 1] == "x" and start > 0 and text[start - 1].isalpha():  # the end of a word
        return _left_start(text, start + 1, end)
    return start


def _meanings(stated: str) -> list[Fraction]:
    """What a right side may mean: `2 1/6` is a mixed number, and `60%` is 60 or 0.6."""
    whole, _, part = stated.rpartition(" ")
    value = evaluate(part)
    if value is None:
        return []
    value += number(whole) or 0 if whole else 0
    return [value, value * 100] if stated.endswith("%") else [value]


def _skip_blanks(text: str, at: int) -> int:
    end = min(len(text), at + 8)
    while at < end and text[at] in " \t":
        at += 1
    return at


def evaluate(expression: str) -> Fraction | None:
    """The value of `+ - * / ( ) %` over numbers, exactly; None where it is not such an expression."""
    tokens = re.findall(rf"{WHOLE}(?:\.\d+)?|\.\d+|[-+*/x×÷()%]", expression.replace("$", ""))
    if len("".join(tokens)) != len(re.sub(r"[\s$]", "", expression)):
        return None
    try:
        value, rest = _sum(tokens, 0)
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return value if rest == len(tokens) else None


def _sum(tokens: list[str], at: int) -> tuple[Fraction, int]:
    value, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in "+-":
        other, after = _product(tokens, at + 1)
        value, at = (value + other if tokens[at] == "+" else value - other), after
    return value, at


def _product(tokens: list[str], at: int) -> tuple[Fraction, int]:
    value, at = _factor(tokens, at)
    while at < len(tokens) and OPERATORS.get(tokens[at]) in ("*", "/"):
        other, after = _factor(tokens, at + 1)
        value, at = (value * other if OPERATORS[tokens[at]] == "*" else value / other), after
    return value, at


def _factor(tokens: list[str], at: int) -> tuple[Fraction, int]:
    if tokens[at] == "-":
        value, at = _factor(tokens, at + 1)
        return -value, at
    if tokens[at] == "(":
        value, at = _sum(tokens, at + 1)
        if tokens[at] != ")":
            raise ValueError("unbalanced parenthesis")
        at += 1
    else:
        value, at = Fraction(tokens[at].replace(",", "")), at + 1
    while at < len(tokens) and tokens[at] == "%":
        value, at = value / 100, at + 1
    return value, at


def judge(action: str, gold: Fraction, level: FeedbackLevel) -> Verdict:
    """The verdict on one worked solution."""
    answer = strict_answer(action)
    lines = action.rstrip().rsplit("\n", 1)
    form = []
    if action.count("####") > 1:
        form = ["#### must be written once, in the last line"]
    elif not STRICT.fullmatch(plain(lines[-1].strip())):
        form = ["the last line must be #### and the answer"]
    found = equations(action)
    right = sum(equation.right for equation in found)
    solved = answer is not None and answer == gold
    spans: dict[str, tuple[int, int]] = {}
    mark = action.rfind("####")
    if mark >= 0:
        spans["format"] = (mark, len(action))
        spans["numeric"] = (mark, len(action))
    if found:
        wrong = next((equation for equation in found if not equation.right), None)
        spans["steps"] = (wrong.start, wrong.end) if wrong else (found[0].start, found[-1].end)
    rewards: Mapping[str, float] = {
        "format": float(not form),
        "numeric": float(answer is not None and answer.denominator == 1),
        "steps": right / len(found) if found else 0.0,
        "correct": float(solved),
    }
    return Verdict(
        rewards=rewards,
        feedback=at_level(level, solved, explain(found, answer, gold, level, form)),
        spans=spans,
        solved=solved,
        shown=[(equation.text.strip(), "right" if equation.right else "wrong") for equation in found],
        metrics={
            "format": float(not form),
            "strict": float(solved),
            "flexible": float(flexible_answer(action) == gold),
            "steps": rewards["steps"],
        },
    )


NAMES = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}
HINTING = (FeedbackLevel.hint, FeedbackLevel.solution)


def described(equation: Equation) -> str:
    """An equation with the name of its operation, where it has one only: `the sum 27+5=22`."""
    text = equation.text.strip()
    used = [OPERATORS[sign] for sign in text.partition("=")[0] if sign in OPERATORS]
    return f"the {NAMES[used[0]] if len(used) == 1 else 'equation'} {text}"


def hint(wrong: Equation, gold: Fraction) -> str:
    """What an equation's left side comes to; only whether it is more or less where that would be the answer."""
    left, _, right = wrong.text.partition("=")
    truth = evaluate(left)
    if truth is None:
        return ""
    if truth != gold:
        return f": it is {truth}"
    stated = number(right.strip())
    return "" if stated is None else f": it is {'more' if truth > stated else 'less'}"


def at_level(level: FeedbackLevel, solved: bool, faults: Sequence[str]) -> str:
    """What a level tells of an action with these faults."""
    if level == FeedbackLevel.none:
        return ""
    if level == FeedbackLevel.outcome or solved:
        return "solved" if solved else "not solved"
    return "\n".join(faults)


def explain(
    found: Sequence[Equation],
    answer: Fraction | None,
    gold: Fraction,
    level: FeedbackLevel,
    form: Sequence[str] = (),
) -> list[str]:
    """Why an answer is not the right one, as far as a level tells.

    Args:
        found: the equations of the solution.
        answer: what was answered, if anything was.
        gold: the right answer.
        level: diagnostic, hint or solution.
        form: faults of the form, to stand behind those of the equations.
    """
    lines = []
    wrong = next((equation for equation in found if not equation.right), None)
    if wrong:
        lines.append(f"{described(wrong)} is wrong" + (hint(wrong, gold) if level in HINTING else ""))
    elif not found:
        lines.append("no step is written as an equation")
    lines += form
    if not lines and answer is not None:
        lines.append("each equation is right, but they do not answer the question")
    if level in HINTING and not wrong and answer is not None:
        lines.append(f"the answer is {'less' if answer > gold else 'more'} than {answer}")
    if level == FeedbackLevel.solution:
        lines.append(f"the answer is {gold}")
    return lines
