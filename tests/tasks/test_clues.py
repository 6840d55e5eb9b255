from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wordlesmith.feedback import feedback as wordlesmith_code

from tasks.clues import GREEN, GREY, YELLOW, Clues, code_of, marks, marks_table

SYMBOLS = {"-": GREY, "?": YELLOW, "+": GREEN}
FEW_LETTERS = st.text("abcd", min_size=5, max_size=5)
"""Words rich in repeated letters."""
ALL_WORDS = ["".join(letters) for letters in itertools.product("abcd", repeat=5)]


def learned(secret: str, guesses: list[str]) -> Clues:
    clues = Clues()
    for guess in guesses:
        clues.learn(guess, marks(guess, secret))
    return clues


@pytest.mark.parametrize(
    ("guess", "secret", "expected"),
    [
        ("crane", "crane", "+++++"),
        ("fjord", "climb", "-----"),
        ("least", "steal", "?????"),
        ("speed", "abide", "--?-?"),
        ("speed", "erase", "?-??-"),
        ("speed", "steal", "+-+--"),
        ("speed", "crepe", "-?+?-"),
        ("allow", "label", "???--"),
        ("llama", "label", "+??--"),
        ("error", "robot", "-?-+-"),
        ("geese", "these", "--+++"),
        ("eerie", "geese", "?+--+"),
    ],
)
def test_known_guesses_have_their_known_marks(guess: str, secret: str, expected: str) -> None:
    assert marks(guess, secret) == tuple(SYMBOLS[symbol] for symbol in expected)


def test_a_repeated_letter_is_yellow_once() -> None:
    assert marks("eaten", "lever") == (YELLOW, GREY, GREY, GREEN, GREY)
    assert marks("melee", "lever") == (GREY, GREEN, YELLOW, GREEN, GREY)
    assert marks("sleek", "abide") == (GREY, GREY, YELLOW, GREY, GREY)


def test_a_green_further_right_comes_before_a_yellow_further_left() -> None:
    assert marks("eagle", "crane") == (GREY, YELLOW, GREY, GREY, GREEN)


def test_marks_agree_with_wordlesmith_on_words_rich_in_repeated_letters() -> None:
    rng = random.Random(0)
    pairs = 0
    for letters, count in (("ab", 32), ("abc", 150), ("abcde", 260), ("aeioulrst", 120)):
        guesses = ["".join(rng.choices(letters, k=5)) for _ in range(count)]
        secrets = ["".join(rng.choices(letters, k=5)) for _ in range(count)]
        table = marks_table(guesses, secrets)
        # wordlesmith packs marks as we do: base 3, grey 0, yellow 1, green 2, the first letter the lowest digit.
        theirs = [[wordlesmith_code(guess, secret) for secret in secrets] for guess in guesses]
        assert np.array_equal(table, theirs)
        pairs += table.size
    assert pairs >= 100_000


def test_the_code_of_marks_reads_the_first_letter_as_the_lowest_digit() -> None:
    assert code_of((GREEN, GREY, GREY, GREY, GREY)) == 2
    assert code_of((GREY, GREY, GREY, GREY, YELLOW)) == 81
    assert code_of((GREEN,) * 5) == 242


@given(st.lists(FEW_LETTERS, min_size=1, max_size=8), st.lists(FEW_LETTERS, min_size=1, max_size=8))
def test_the_table_of_marks_holds_the_marks_of_every_pair(guesses: list[str], secrets: list[str]) -> None:
    table = marks_table(guesses, secrets)
    assert table.tolist() == [[code_of(marks(guess, secret)) for secret in secrets] for guess in guesses]


@given(FEW_LETTERS, st.lists(FEW_LETTERS, max_size=5))
def test_clues_allow_exactly_the_words_that_would_have_got_the_same_marks(secret: str, guesses: list[str]) -> None:
    clues = learned(secret, guesses)
    same = np.ones(len(ALL_WORDS), dtype=bool)
    for guess in guesses:
        same &= marks_table([guess], ALL_WORDS)[0] == code_of(marks(guess, secret))
    assert [clues.allows(word) for word in ALL_WORDS] == same.tolist()


@given(FEW_LETTERS, st.lists(FEW_LETTERS, max_size=5), FEW_LETTERS)
def test_a_word_is_allowed_exactly_when_the_referee_finds_nothing_broken(
    secret: str, guesses: list[str], word: str
) -> None:
    clues = learned(secret, guesses)
    total, broken = clues.judge(word)
    assert clues.allows(word) == (not broken)
    assert len(broken) <= total
    assert len(set(broken)) == len(broken)


@given(FEW_LETTERS, st.lists(FEW_LETTERS, max_size=5))
def test_the_secret_always_respects_its_own_clues(secret: str, guesses: list[str]) -> None:
    assert learned(secret, guesses).judge(secret)[1] == []


@given(FEW_LETTERS, st.lists(FEW_LETTERS, max_size=5), st.randoms(use_true_random=False))
def test_clues_do_not_depend_on_the_order_of_the_guesses(secret: str, guesses: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(guesses, len(guesses))
    assert learned(secret, guesses).key() == learned(secret, shuffled).key()


@given(st.text("ab", min_size=5, max_size=5), st.text("ab", min_size=5, max_size=5), st.lists(FEW_LETTERS, max_size=3))
def test_keys_are_equal_exactly_for_equal_clues(secret: str, other: str, guesses: list[str]) -> None:
    one, two = learned(secret, guesses), learned(other, guesses)
    assert (one.key() == two.key()) == (one == two)
    if [marks(guess, secret) for guess in guesses] == [marks(guess, other) for guess in guesses]:
        assert hash(one.key()) == hash(two.key())
        assert one.key() == two.key()


def test_two_copies_at_once_tell_more_than_one_copy_twice() -> None:
    together, apart = learned("ccaab", ["aaddd"]), learned("ccaab", ["adddd", "daddd"])
    assert together.key() != apart.key()
    assert apart.allows("ccabb")
    assert not together.allows("ccabb")


@pytest.mark.parametrize(
    ("secret", "guess", "word", "lines"),
    [
        (
            "crane",
            "crown",
            "frown",
            [
                "'c' must be at position 1",
                "'n' must not be at position 5",
                "'o' is not in the word",
                "'w' is not in the word",
            ],
        ),
        ("apple", "paper", "happy", ["'e' must be in the word", "'a' must not be at position 2"]),
        (
            "level",
            "steel",
            "apple",
            ["'e' must be at position 4", "'l' must be at position 5", "'e' must be in the word twice"],
        ),
        (
            "crane",
            "geese",
            "eager",
            ["'e' must be at position 5", "'e' is in the word only once", "'g' is not in the word"],
        ),
        ("geese", "eeeee", "eerie", ["'e' must be at position 3", "'e' must not be at position 1"]),
    ],
)
def test_the_referee_names_what_is_broken(secret: str, guess: str, word: str, lines: list[str]) -> None:
    assert learned(secret, [guess]).judge(word)[1] == lines


def test_an_empty_board_has_no_clues_to_break() -> None:
    assert Clues().judge("crane") == (0, [])
    assert Clues().allows("crane")
