from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import takewhile

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tasks.api import SPLITS, FeedbackLevel, Verdict
from tasks.clues import marks
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig, WordleEpisode, WordleProblem, read_action, write_action

CRUMB = 1e-9
"""Rounding in a sum of rewards."""


@cache
def wordle(words: str = "core", feedback: FeedbackLevel = FeedbackLevel.diagnostic) -> Wordle:
    return Wordle(WordleConfig(words=words, feedback=feedback))


def everything(task: Wordle) -> list[WordleProblem]:
    return [problem for split in SPLITS for problem in task.problems(split)]


def of_secret(task: Wordle, secret: str) -> WordleProblem:
    return next(problem for problem in everything(task) if problem.secret == secret)


def guess_of(word: str) -> str:
    return write_action("", word)


def play(task: Wordle, problem: WordleProblem, actions: Sequence[str]) -> list[Verdict]:
    """The verdicts of a game in which the actions follow one another until it is over."""
    episode = task.start(problem)
    verdicts = []
    for action in actions:
        if episode.done:
            break
        verdicts.append(episode.step(action))
    return verdicts


def total(task: Wordle, verdicts: Sequence[Verdict]) -> float:
    return sum(task.score(verdict) for verdict in verdicts)


# --- problems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["core", "scowl", "classic"])
def test_the_oracle_solves_every_problem(words: str) -> None:
    task = wordle(words)
    for problem in everything(task):
        (action,) = task.oracle(problem)
        episode = task.start(problem)
        verdict = episode.step(action)
        assert verdict.solved
        assert episode.done
        assert verdict.rewards == {"format": 0, "valid": 0, "consistent": 0, "progress": 1, "solved": 1}


@pytest.mark.parametrize("words", ["core", "scowl", "classic"])
def test_every_secret_is_in_one_split_and_every_id_is_unique(words: str) -> None:
    problems = everything(wordle(words))
    assert sorted(problem.secret for problem in problems) == list(wordle(words).words.secrets)
    assert len({problem.id for problem in problems}) == len(problems)
    for split in SPLITS:
        assert {problem.split for problem in wordle(words).problems(split)} == {split}


def test_some_words_are_in_the_split_where_they_have_always_been() -> None:
    splits = {problem.secret: problem.split for problem in everything(wordle())}
    assert [splits[word] for word in ("about", "above", "alert")] == ["train"] * 3
    assert [splits[word] for word in ("actor", "allow", "build")] == ["val"] * 3
    assert [splits[word] for word in ("apple", "bench", "brief")] == ["test"] * 3
    assert {split: len(wordle().problems(split)) for split in SPLITS} == {"train": 302, "val": 68, "test": 113}


def test_a_word_is_in_the_same_split_whatever_list_it_stands_in() -> None:
    core, scowl, classic = (
        {problem.secret: (problem.id, problem.split) for problem in everything(wordle(words))}
        for words in ("core", "scowl", "classic")
    )
    assert core.items() <= scowl.items()
    shared = scowl.keys() & classic.keys()
    assert len(shared) > 1_500
    assert all(scowl[word] == classic[word] for word in shared)


@pytest.mark.parametrize("turns", [-1, 0, 7])
def test_a_game_has_1_to_6_turns(turns: int) -> None:
    with pytest.raises(BadInput, match=f"task.max_turns={turns} "):
        WordleConfig(max_turns=turns)


# --- the course of a game ---------------------------------------------------------------------------------------------


def test_the_player_sees_the_marks_of_each_guess_and_how_many_are_left() -> None:
    task = wordle()
    episode = task.start(of_secret(task, "apple"))
    assert episode.messages == [{"role": "user", "content": "6 guesses left."}]
    for word in ("paper", "happy", "zzzzz", "nonsense", "apply"):
        episode.step(guess_of(word))
    assert [message["content"] for message in episode.messages if message["role"] == "user"][1:] == [
        "p? a? p+ e? r-\n5 guesses left.",
        "h- a? p+ p? y-\n4 guesses left.",
        "That word is not in the list.\n3 guesses left.",
        "No guess was found.\n2 guesses left.",
        "a+ p+ p+ l+ y-\n1 guess left.",
    ]


def test_a_game_ends_by_winning_or_after_its_last_turn_and_then_takes_no_action() -> None:
    task = wordle()
    won = task.start(of_secret(task, "apple"))
    won.step(guess_of("apple"))
    lost = task.start(of_secret(task, "apple"))
    for _ in range(6):
        assert not lost.done
        lost.step(guess_of("paper"))
    for episode in (won, lost):
        assert episode.done
        assert episode.messages[-1]["role"] == "assistant"
        with pytest.raises(RuntimeError, match="over"):
            episode.step(guess_of("apple"))


def test_what_is_known_is_the_same_for_the_same_guesses_in_another_order() -> None:
    task = wordle()
    problem = of_secret(task, "apple")
    one, two, three = (task.start(problem) for _ in range(3))
    for episode, words in ((one, ("paper", "level")), (two, ("level", "paper")), (three, ("paper", "paper"))):
        for word in words:
            episode.step(guess_of(word))
    assert one.knowledge() == two.knowledge()
    assert hash(one.knowledge()) == hash(two.knowledge())
    assert one.knowledge() != three.knowledge()


def test_a_lost_game_counts_one_guess_more_than_it_had() -> None:
    task = wordle()
    problem = of_secret(task, "apple")
    assert task.metrics(play(task, problem, [guess_of("paper"), guess_of("apple")]))["guesses"] == 2
    assert task.metrics(play(task, problem, [""] * 6))["guesses"] == 7


# --- reading actions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "guess", "well_formed"),
    [
        ("<think>e is last</think><guess>apple</guess>", "apple", True),
        (" <think></think>\n<guess> apple </guess>\n", "apple", True),
        ("<think></think><guess>APPLE</guess>", "apple", True),
        ("<guess>apple</guess>", "apple", False),
        ("I say <guess>apple</guess> now", "apple", False),
        ("<think>a < b</think><guess>apple</guess>", "apple", False),
        ("<think></think><guess>apple</guess><guess>paper</guess>", "", False),
        ("<think><guess>paper</guess></think><guess>apple</guess>", "", False),
        ("<think></think><guess>apples</guess>", "", False),
        ("<think></think><guess>appl</guess>", "", False),
        ("<think></think><guess>àpple</guess>", "", False),
        ("<think></think><guess></guess>", "", False),
        ("<think></think><guess>apple", "", False),
        ("apple", "", False),
        ("", "", False),
        ("\0", "", False),
        ("<think>\ud800</think><guess>🙂🙂🙂🙂🙂</guess>", "", False),
    ],
)
def test_actions_are_read_as_they_stand(action: str, guess: str, well_formed: bool) -> None:
    reading = read_action(action)
    assert (reading.guess, reading.well_formed) == (guess, well_formed)
    for start, end in reading.spans.values():
        assert action[start:end].lower() == guess
    task = wordle()
    assert task.start(of_secret(task, "apple")).step(action).solved == (guess == "apple")


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<guess>",
        "<guess><guess>",
        "<guess></guess>",
        "<guess>apple</guess>",
        "<think>",
        "<think></think>",
        "</think><guess>",
        " ",
        "\n",
        "a",
        "\u3000",
        "🙂",
        "\0",
    ],
)
@pytest.mark.parametrize("head", ["", "<think>", "<think></think><guess>", "<think></think><guess>apple</guess>"])
def test_ten_megabytes_of_anything_are_judged_in_a_tenth_of_a_second(
    head: str, unit: str, takes_less_than: Callable[[float, Callable[[], object]], bool]
) -> None:
    task = wordle()
    problem = of_secret(task, "apple")
    text = head + unit * (10_000_000 // len(unit))
    assert takes_less_than(0.1, lambda: task.start(problem).step(text))


def test_a_million_characters_are_read_in_a_twentieth_of_a_second(
    takes_less_than: Callable[[float, Callable[[], object]], bool],
) -> None:
    for unit in (" ", "a", "\u3000", "<guess>", "<guess> ", "<guess>apple</guess>", "</think><guess>"):
        for head in ("", "<think>", "<think></think><guess>"):
            text = (head + unit * 1_000_000)[:1_000_000]
            assert takes_less_than(0.05, lambda text=text: read_action(text)), (head, unit)  # type: ignore[misc]


def test_in_more_than_a_million_characters_no_guess_is_found() -> None:
    guess = "<think>%s</think><guess>apple</guess>"
    least = len(guess % "")
    assert read_action(guess % ("a" * (1_000_000 - least))).guess == "apple"
    assert read_action(guess % ("a" * (1_000_001 - least))).guess == ""


@given(st.lists(st.text() | st.text("<>/thinkguesapl ", max_size=60), min_size=6, max_size=6))
def test_any_text_is_a_legal_action(actions: list[str]) -> None:
    task = wordle()
    assert len(play(task, task.problems("train")[0], actions)) == 6


# --- rewards ----------------------------------------------------------------------------------------------------------

CORE = wordle().words.secrets
WORDS = st.sampled_from(CORE)
FORMS = st.sampled_from(["<think></think><guess>{}</guess>", "<guess>{}</guess>", "no tags <guess>{}</guess>"])
GUESSES = st.builds(str.format, FORMS, WORDS | st.sampled_from(["zzzzz", "aeiou", "toolong", ""]))
ACTIONS = GUESSES | st.text(max_size=20) | st.sampled_from(["", "<guess>", "6 guesses left."])
PROBLEMS = st.sampled_from(everything(wordle()))


@st.composite
def games(draw: st.DrawFn, *, won: bool) -> tuple[WordleProblem, list[str]]:
    """A problem and actions that win it at some turn, or never."""
    problem = draw(PROBLEMS)
    others = ACTIONS.filter(lambda action: read_action(action).guess != problem.secret)
    if not won:
        return problem, draw(st.lists(others, min_size=6, max_size=6))
    last = draw(FORMS).format(problem.secret)
    return problem, [*draw(st.lists(others, max_size=5)), last]


@settings(max_examples=300)
@given(games(won=True), games(won=False))
def test_every_won_game_outscores_every_lost_game(
    won: tuple[WordleProblem, list[str]], lost: tuple[WordleProblem, list[str]]
) -> None:
    task = wordle()
    won_verdicts, lost_verdicts = play(task, *won), play(task, *lost)
    assert won_verdicts[-1].solved
    assert not lost_verdicts[-1].solved
    assert total(task, won_verdicts) > total(task, lost_verdicts)


@pytest.mark.parametrize("turns", range(1, 7))
def test_the_worst_won_game_outscores_the_best_lost_game(turns: int) -> None:
    task = Wordle(WordleConfig(max_turns=turns))
    problem = of_secret(task, "apple")
    worst = total(task, play(task, problem, [""] * (turns - 1) + ["<guess>apple</guess>"]))
    fault_free_and_all_but_certain = next(c.weight * c.high for c in task.components if c.name == "progress")
    assert worst > fault_free_and_all_but_certain


@settings(max_examples=200)
@given(PROBLEMS, st.lists(ACTIONS, min_size=6, max_size=6))
def test_nothing_but_winning_ends_a_game_early(problem: WordleProblem, actions: list[str]) -> None:
    verdicts = play(wordle(), problem, actions)
    assert verdicts[-1].solved or len(verdicts) == 6
    assert not any(verdict.solved for verdict in verdicts[:-1])


@settings(max_examples=200)
@given(PROBLEMS, st.lists(ACTIONS, min_size=6, max_size=6))
def test_every_reward_is_in_the_range_of_its_component(problem: WordleProblem, actions: list[str]) -> None:
    task = wordle()
    for verdict in play(task, problem, actions):
        assert set(verdict.rewards) == {component.name for component in task.components}
        for component in task.components:
            assert component.low <= verdict.rewards[component.name] <= component.high
        assert all(0 <= value <= 1 for value in verdict.metrics.values())


@settings(max_examples=200)
@given(games(won=True), st.lists(ACTIONS, max_size=4))
def test_to_win_sooner_never_scores_less(won: tuple[WordleProblem, list[str]], extra: list[str]) -> None:
    task = wordle()
    problem, (*before, last) = won
    assume(len(before) + len(extra) < 6)
    assume(all(read_action(action).guess != problem.secret for action in extra))
    sooner = total(task, play(task, problem, [*before, last]))
    later = total(task, play(task, problem, [*before, *extra, last]))
    assert sooner >= later - CRUMB


@given(games(won=True))
def test_the_progress_of_a_won_game_adds_up_to_one(won: tuple[WordleProblem, list[str]]) -> None:
    assert sum(verdict.rewards["progress"] for verdict in play(wordle(), *won)) == pytest.approx(1)


Player = Callable[[WordleEpisode, random.Random], str]


def quitter(episode: WordleEpisode, rng: random.Random) -> str:
    return ""


def copier(episode: WordleEpisode, rng: random.Random) -> str:
    return episode.messages[-1]["content"]


def repeater(episode: WordleEpisode, rng: random.Random) -> str:
    return guess_of("about")


def guesser(episode: WordleEpisode, rng: random.Random) -> str:
    return guess_of(rng.choice(CORE))


def reasoner(episode: WordleEpisode, rng: random.Random) -> str:
    return guess_of(rng.choice([word for word in CORE if episode.clues.allows(word)]))


def half_reasoner(episode: WordleEpisode, rng: random.Random) -> str:
    return rng.choice((guesser, reasoner))(episode, rng)


def mean_score(player: Player, games_played: int = 150) -> float:
    task, rng = wordle(), random.Random(0)
    scores = []
    for problem in rng.choices(everything(task), k=games_played):
        episode, verdicts = task.start(problem), []
        while not episode.done:
            verdicts.append(episode.step(player(episode, rng)))
        scores.append(total(task, verdicts))
    return sum(scores) / len(scores)


def test_players_score_in_the_order_of_their_skill() -> None:
    scores = {player: mean_score(player) for player in (reasoner, half_reasoner, guesser, repeater, copier, quitter)}
    assert scores[reasoner] > scores[half_reasoner] > scores[guesser] > scores[repeater] > scores[copier]
    assert scores[copier] == scores[quitter]


def test_playing_on_never_scores_less_than_giving_up() -> None:
    """After any number of careful turns, careful play to the end beats writing nothing more, and so does guessing."""

    def gives_up_after(turns: int) -> Player:
        def player(episode: WordleEpisode, rng: random.Random) -> str:
            return (reasoner if len(episode.messages) // 2 < turns else quitter)(episode, rng)

        return player

    scores = [mean_score(gives_up_after(turns)) for turns in range(7)]
    assert scores == sorted(scores)


# --- feedback ---------------------------------------------------------------------------------------------------------


def feedbacks(secret: str, words: Sequence[str], level: FeedbackLevel = FeedbackLevel.diagnostic) -> list[str]:
    task = wordle(feedback=level)
    return [verdict.feedback for verdict in play(task, of_secret(task, secret), [guess_of(word) for word in words])]


def test_the_referee_says_what_was_wrong_with_each_guess() -> None:
    assert feedbacks("apple", ["paper", "happy", "zzzzz", "q", "apple"]) == [
        "'paper' is not the secret word",
        "'e' must be in the word\n'a' must not be at position 2",
        "'zzzzz' is not a word\n'p' must be at position 3\n'a' must be in the word\n'e' must be in the word\n"
        "'p' must be in the word twice",
        "no guess was given",
        "solved",
    ]


def test_outcome_feedback_tells_only_whether_the_game_is_won() -> None:
    assert feedbacks("apple", ["paper", "zzzzz", "", "apple"], FeedbackLevel.outcome) == ["not solved"] * 3 + ["solved"]


def test_no_feedback_is_no_text() -> None:
    assert feedbacks("apple", ["paper", "zzzzz", "", "apple"], FeedbackLevel.none) == [""] * 4


def test_a_hint_is_the_first_place_of_the_secret_that_no_mark_has_shown() -> None:
    lines = feedbacks("apple", ["paper", "apart"], FeedbackLevel.hint)
    assert lines[0].split("\n")[-1] == "'a' must be at position 1"  # p is green in paper, at place 3
    assert lines[1].split("\n")[-1] == "'a' must be at position 1"  # judged by what was known before the guess
    assert feedbacks("apple", ["apart", "paper"], FeedbackLevel.hint)[1].split("\n")[-1] == "'p' must be at position 3"


def test_only_the_level_solution_tells_the_secret() -> None:
    told = feedbacks("apple", ["paper"], FeedbackLevel.solution)
    assert told == ["'paper' is not the secret word\n'a' must be at position 1\nthe secret word is 'apple'"]


@pytest.mark.parametrize("level", ["none", "outcome", "diagnostic"])
@settings(max_examples=100)
@given(game=games(won=False))
def test_feedback_never_names_a_secret_that_was_not_guessed(level: str, game: tuple[WordleProblem, list[str]]) -> None:
    task = wordle(feedback=FeedbackLevel(level))
    problem, actions = game
    assume(problem.secret not in {"guess", "given", "three", "times"})  # words of the referee's own
    for verdict in play(task, problem, actions):
        assert problem.secret not in verdict.feedback


@settings(max_examples=200)
@given(WORDS, WORDS, st.lists(WORDS, max_size=4), WORDS)
def test_feedback_tells_no_more_than_the_marks_did(one: str, two: str, words: list[str], last: str) -> None:
    """Secrets that gave the same marks so far are given the same feedback: it cannot tell them apart."""
    told_alike = len(list(takewhile(lambda word: marks(word, one) == marks(word, two), words)))
    words = [word for word in words[:told_alike] if word not in (one, two)]
    assume(last not in (one, two))
    assert feedbacks(one, [*words, last]) == feedbacks(two, [*words, last])


@settings(max_examples=100)
@given(PROBLEMS, st.lists(ACTIONS, min_size=6, max_size=6))
def test_feedback_never_reaches_the_player(problem: WordleProblem, actions: list[str]) -> None:
    task = wordle(feedback=FeedbackLevel.solution)
    episode = task.start(problem)
    told: list[str] = []
    while not episode.done:
        told += episode.step(actions.pop()).feedback.splitlines()
    seen = "\n".join(message["content"] for message in episode.messages if message["role"] == "user")
    assert not [line for line in told if line in seen]
