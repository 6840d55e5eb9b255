from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.api import FeedbackLevel
from tasks.solutions import SOLUTION_COMPONENTS, equations, evaluate, flexible_answer, judge, number, strict_answer

DIAGNOSTIC = FeedbackLevel.diagnostic


def found(text: str) -> list[tuple[str, bool]]:
    return [(equation.text, equation.right) for equation in equations(text)]


# --- numbers and expressions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("1,234", 1234),
        ("1,234,567", 1_234_567),
        ("$18", 18),
        ("-$3.50", Fraction(-7, 2)),
        (" 7. ", 7),
        ("0.125", Fraction(1, 8)),
        ("", None),
        ("five", None),
        ("1/2", None),
        ("1e9", None),
        ("1_000", None),
        ("\u22125", -5),
        ("1,2", None),
        ("1,23,456", None),
        ("0x10", None),
        ("inf", None),
        ("nan", None),
        ("9" * 1000, None),
    ],
)
def test_a_number_is_read_as_prose_writes_it(text: str, value: Fraction | int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("10-2-3", 5),
        ("12/3/2", 2),
        ("2 x 3", 6),
        ("2×3", 6),
        ("6÷4", Fraction(3, 2)),
        ("20%*50", 10),
        ("1,2+3", None),
        ("$1,200 + $300", 1500),
        ("-3+5", 2),
        ("2*-3", -6),
        (".5*4", 2),
        ("1/3", Fraction(1, 3)),
        ("7", 7),
        ("1/0", None),
        ("1+", None),
        ("(1+2", None),
        ("1+2)", None),
        ("1 2", None),
        ("2**3", None),
        ("2//3", None),
        ("2^3", None),
        ("a+1", None),
        ("1e3+1", None),
        ("", None),
        ("()", None),
        (".", None),
    ],
)
def test_an_expression_is_worked_out_exactly_or_not_at_all(expression: str, value: Fraction | int | None) -> None:
    assert evaluate(expression) == value


TERMS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner),
    max_leaves=8,
)


@given(TERMS)
def test_an_expression_has_the_value_that_python_gives_it(expression: str) -> None:
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", expression)
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    assert evaluate(expression) == expected


# --- equations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3+4=7", [("3+4=7", True)]),
        ("3 + 4 = 8", [("3 + 4 = 8", False)]),
        ("5\u22123=2", [("5-3=2", True)]),
        ("3-5 = \u22122", [("3-5 = -2", True)]),
        ("He has 3 x 4 = 12 eggs.", [("3 x 4 = 12", True)]),
        ("3×4=12 and 12÷5=2.4", [("3×4=12", True), ("12÷5=2.4", True)]),
        ("$16 - $3 = $13", [("$16 - $3 = $13", True)]),
        ("1,000 + 500 = 1,500", [("1,000 + 500 = 1,500", True)]),
        ("50% * 30 = 15", [("50% * 30 = 15", True)]),
        ("10/3 = 3.33", [("10/3 = 3.33", True)]),
        ("10/3 = 3.3", [("10/3 = 3.3", False)]),
        ("9 * 2 = $<<9*2=18>>18", [("9*2=18", True)]),
        ("2+3=5+1=6", [("5+1=6", True)]),
        (".25/.05 = 5", [(".25/.05 = 5", True)]),
        ("100% - 40% = 60%", [("100% - 40% = 60%", True)]),
        ("1/2*1/2 = 1/4", [("1/2*1/2 = 1/4", True)]),
        ("13/6 = 2 1/6", [("13/6 = 2 1/6", True)]),
        ("60 students x 2/3 = 40", []),
        ("192*100=$19200 (a lot)", [("192*100=$19200", True)]),
        ("2+3 = 5 = 5", [("2+3 = 5", True)]),
        ("In 2 weeks 3*7=21", [("3*7=21", True)]),
        ("There are 2 3+4=7", [("3+4=7", True)]),
        ("(1+2)*3=9", [("(1+2)*3=9", True)]),
        ("x = 5", []),
        ("2x = 10", []),
        ("5 = 5", []),
        ("3+4=", []),
        ("3+4=seven", []),
        ("=7", []),
        ("1/0=1", []),
        ("", []),
        ("__import__('os')=1", []),
        ("().__class__=1", []),
        ("9**9**9=1", []),
    ],
)
def test_equations_are_found_in_prose_and_checked(text: str, expected: list[tuple[str, bool]]) -> None:
    assert found(text) == expected


def test_an_equation_knows_where_it_stands() -> None:
    text = "First 3+4=7, then 7 * 2 = 15 of them."
    assert [text[equation.start : equation.end] for equation in equations(text)] == ["3+4=7", "7 * 2 = 15"]


def test_what_a_model_wrote_is_never_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("__import__('os').mkdir('x')=1", "(open('x','w'))+1=1", "1+exec('import os')=1", "{open('x','w')}=1"):
        judge(f"{text}\n#### 1", Fraction(1), DIAGNOSTIC)
    assert list(tmp_path.iterdir()) == []


HOSTILE = st.text("0123456789.,+-*/x×÷()$% \t=#\n<>") | st.text()


@settings(max_examples=500)
@given(HOSTILE, st.fractions())
def test_any_text_can_be_judged(text: str, gold: Fraction) -> None:
    for level in FeedbackLevel:
        verdict = judge(text, gold, level)
        assert set(verdict.rewards) == {component.name for component in SOLUTION_COMPONENTS}
        assert all(c.low <= verdict.rewards[c.name] <= c.high for c in SOLUTION_COMPONENTS)
        assert all(0 <= start < end <= len(text) for start, end in verdict.spans.values())
        assert all(0 <= value <= 1 for value in verdict.metrics.values())


LENGTH = 10_000_000
UNITS = [
    "1+1=2 ",
    "1+1=2\n",
    "=",
    "#",
    "####",
    "###=",
    "####\t",
    "####\n",
    "#### 1,",
    "(",
    "((((1+",
    "-",
    "1",
    "1,",
    "1=",
]
UNITS += [
    "1+",
    "9.9=9.9+",
    "%",
    "×",
    " ",
    "\n",
    "\t",
    "\u3000",
    "🙂",
    "١",
    "<<1+1=2>>2 ",
    "9" * 79 + "=",
    "-" * 79 + "=1 ",
]
UNITS += ["(" * 40 + "1" + ")" * 38 + "=1 ", "1/7-" * 19 + "3=1 ", "1%" * 39 + "+1=1 ", "1 " * 39 + "+1=2 "]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("head", ["", "#### ", "1+1="])
def test_ten_megabytes_of_anything_are_judged_in_a_tenth_of_a_second(
    head: str, unit: str, takes_less_than: Callable[[float, Callable[[], object]], bool]
) -> None:
    text = head + unit * (LENGTH // len(unit))
    assert takes_less_than(0.1, lambda: judge(text, Fraction(5), DIAGNOSTIC))


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("3+4=7\n#### 7", 7, 7),
        ("#### 1,234", 1234, 1234),
        ("#### $18", 18, 18),
        ("#### -5", -5, -5),
        ("#### 2.50", Fraction(5, 2), Fraction(5, 2)),
        ("####7", 7, 7),
        ("#### 6\n#### 7", 7, 7),
        ("#### \u22125", -5, -5),
        ("#### 7 eggs.", 7, 7),
        ("#### 7%", 7, 7),
        ("#### 7 eggs, not 8", None, 8),
        ("#### 5 or 7", None, 7),
        ("#### 5 or seven", None, 5),
        ("#### 5/6", None, 6),
        ("#### 5-10", None, 10),
        ("#### 2^10", None, 10),
        ("#### 2^n", None, 2),
        ("#### 5²", None, 5),
        ("#### 5 1/2", None, 2),
        ("#### 5e3", None, 3),
        ("#### 1,2", None, 2),
        ("#### 1,234,56", None, 56),
        ("#### 5\n7", 5, 7),
        ("10-15", None, 15),
        ("from 10 to -15", None, -15),
        ("(-15)", None, -15),
        ("1,2", None, 2),
        ("The answer is 7.", None, 7),
        ("The answer is $1,234.50!", None, Fraction(2469, 2)),
        ("7 ####", None, 7),
        ("#### seven", None, None),
        ("####\n7", None, 7),
        ("### 7", None, 7),
        ("", None, None),
        ("no number", None, None),
    ],
)
def test_strict_wants_the_number_after_the_hashes_and_flexible_the_last_one(
    text: str, strict: Fraction | int | None, flexible: Fraction | int | None
) -> None:
    assert strict_answer(text) == strict
    assert flexible_answer(text) == flexible


def test_a_right_answer_without_the_hashes_counts_as_flexible_only() -> None:
    verdict = judge("3+4=7\nThe answer is 7.", Fraction(7), DIAGNOSTIC)
    assert not verdict.solved
    assert verdict.metrics == {"format": 0, "strict": 0, "flexible": 1, "steps": 1}


def test_a_worked_solution_in_the_right_form_earns_every_reward() -> None:
    verdict = judge("3+4=7\n7*2=14\n#### 14", Fraction(14), DIAGNOSTIC)
    assert verdict.solved
    assert verdict.rewards == {"format": 1, "numeric": 1, "steps": 1, "correct": 1}


@pytest.mark.parametrize(
    ("action", "rewards"),
    [
        ("", {"format": 0, "numeric": 0, "steps": 0, "correct": 0}),
        ("#### 7", {"format": 1, "numeric": 1, "steps": 0, "correct": 1}),
        ("#### 7.5", {"format": 1, "numeric": 0, "steps": 0, "correct": 0}),
        ("#### 7\nSo 7.", {"format": 0, "numeric": 1, "steps": 0, "correct": 1}),
        ("#### 7\n#### 7", {"format": 0, "numeric": 1, "steps": 0, "correct": 1}),
        ("3+4=7\n3+4=8\n#### 8", {"format": 1, "numeric": 1, "steps": 0.5, "correct": 0}),
    ],
)
def test_each_part_of_a_solution_has_its_own_reward(action: str, rewards: dict[str, float]) -> None:
    assert judge(action, Fraction(7), DIAGNOSTIC).rewards == rewards


def test_spans_point_at_what_each_reward_judges() -> None:
    action = "3+4=7\n7*2=15\n#### 15"
    spans = judge(action, Fraction(14), DIAGNOSTIC).spans
    assert {name: action[start:end] for name, (start, end) in spans.items()} == {
        "format": "#### 15",
        "numeric": "#### 15",
        "steps": "7*2=15",
    }


# --- feedback ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "feedback"),
    [
        ("3+4=8\n8*2=17\n#### 17", "the sum 3+4=8 is wrong"),
        ("3+4=7\n7*2=15\n#### 15", "the product 7*2=15 is wrong"),
        ("3+4=7\n#### 7", "each equation is right, but they do not answer the question"),
        ("3+4=7\nseven", "the last line must be #### and the answer"),
        ("#### 7", "no step is written as an equation"),
        ("", "no step is written as an equation\nthe last line must be #### and the answer"),
        ("3+4=8", "the sum 3+4=8 is wrong\nthe last line must be #### and the answer"),
        ("3+4=7\n#### 7\n#### 7", "#### must be written once, in the last line"),
        ("#### 14", "solved"),
    ],
)
def test_the_referee_names_the_first_wrong_equation(action: str, feedback: str) -> None:
    assert judge(action, Fraction(14), DIAGNOSTIC).feedback == feedback


def test_the_levels_tell_more_and_more() -> None:
    told = [judge("3+4=8\n#### 8", Fraction(7), level).feedback for level in FeedbackLevel]
    wrong = "the sum 3+4=8 is wrong"
    assert told == ["", "not solved", wrong, f"{wrong}: it is less", f"{wrong}: it is less\nthe answer is 7"]
    told = judge("3+4=8\n8*2=16\n#### 16", Fraction(14), FeedbackLevel.hint).feedback
    assert told == "the sum 3+4=8 is wrong: it is 7"


SENTENCES = st.builds(
    "{}{}{}={}".format, st.integers(0, 99), st.sampled_from("+-*/"), st.integers(0, 99), st.integers()
)
ACTIONS = st.lists(SENTENCES | st.text(max_size=10) | st.builds("#### {}".format, st.integers()), max_size=5).map(
    "\n".join
)


@settings(max_examples=500)
@given(ACTIONS | HOSTILE, st.integers(-10_000, 10_000), st.sampled_from(["none", "outcome", "diagnostic"]))
def test_feedback_never_tells_an_answer_that_the_action_did_not(action: str, gold: int, level: str) -> None:
    feedback = judge(action, Fraction(gold), FeedbackLevel(level)).feedback
    assert str(gold) not in feedback or str(gold) in action


# --- against another implementation -----------------------------------------------------------------------------------


def test_gold_answers_are_the_numbers_that_math_verify_reads(gsm8k_folder: Path) -> None:
    math_verify = pytest.importorskip("math_verify")
    with (gsm8k_folder / "test.jsonl").open(encoding="utf-8") as rows:
        answers = [json.loads(row)["answer"].rpartition("####")[2].strip() for row in rows]
    assert len(answers) == 1_319
    for answer in answers:
        assert math_verify.parse(answer, parsing_timeout=None)[0] == number(answer)
