from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.api import SPLITS, FeedbackLevel, Task, Verdict, split_of
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig
from tasks.wordle_turn import WordleTurn


def test_the_split_of_a_key_never_changes() -> None:
    keys = ["", "apple", "about", "actor", "crane", "a", "b", "c"]
    splits = [split_of(key, val=0.15, test=0.25) for key in keys]
    assert splits == ["train", "test", "train", "val", "test", "train", "test", "test"]


@pytest.mark.parametrize(("val", "test"), [(0.15, 0.25), (0.05, 0.0), (0.0, 0.5)])
def test_splits_have_about_the_shares_asked_for(val: float, test: float) -> None:
    counts = Counter(split_of(f"key {n}", val=val, test=test) for n in range(20_000))
    for split, share in (("val", val), ("test", test), ("train", 1 - val - test)):
        assert abs(counts[split] / 20_000 - share) < 0.015


@given(st.text(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_every_key_has_a_split_and_a_share_of_nothing_gets_nothing(key: str, val: float, test: float) -> None:
    assert split_of(key, val=val, test=test) in SPLITS
    assert split_of(key, val=0, test=0) == "train"
    assert split_of(key, val=val, test=0) != "test"
    assert split_of(key, val=0, test=1) == "test"


@given(st.text(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_greater_val_share_takes_only_from_train(key: str, val: float, more: float) -> None:
    before, after = split_of(key, val=val, test=0.25), split_of(key, val=val + more / 2, test=0.25)
    assert after == before or (before, after) == ("train", "val")


def test_the_fingerprint_is_the_same_for_the_same_task() -> None:
    assert Wordle(WordleConfig()).fingerprint() == Wordle(WordleConfig()).fingerprint()
    assert GsmSynth(GsmSynthConfig()).fingerprint() == GsmSynth(GsmSynthConfig()).fingerprint()


def test_the_fingerprint_changes_with_the_list_of_words(tmp_path: Path) -> None:
    seen = set()
    for number, (answers, allowed) in enumerate(
        [("crane\nslate", "zebra"), ("crane\nslate", "zebra\nquilt"), ("crane\nplate", "zebra")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "answers.txt").write_text(answers)
        (folder / "allowed.txt").write_text(allowed)
        seen.add(Wordle(WordleConfig(words=str(folder))).fingerprint())
    assert len(seen) == 3


def test_the_fingerprint_changes_with_a_weight() -> None:
    for task in (Wordle(WordleConfig()), GsmSynth(GsmSynthConfig())):
        before = task.fingerprint()
        first, *others = task.components
        task.components = (replace(first, weight=first.weight * 2), *others)
        assert task.fingerprint() != before


@pytest.mark.parametrize(
    "config",
    [
        WordleConfig(max_turns=5),
        WordleConfig(max_action_tokens=100),
        WordleConfig(val=0.2),
        WordleConfig(test=0.1),
        WordleConfig(words="scowl"),
        WordleConfig(feedback=FeedbackLevel.none),
    ],
)
def test_the_fingerprint_changes_with_what_is_asked(config: WordleConfig) -> None:
    assert Wordle(config).fingerprint() != Wordle(WordleConfig()).fingerprint()


def test_two_tasks_on_the_same_words_have_two_fingerprints() -> None:
    assert Wordle(WordleConfig()).fingerprint() != WordleTurn(WordleConfig()).fingerprint()


def test_the_score_is_the_weighted_sum_of_the_rewards() -> None:
    task = GsmSynth(GsmSynthConfig())
    rewards = {"format": 1.0, "numeric": 0.5, "steps": 0.25, "correct": 1.0}
    verdict = Verdict(rewards=rewards, feedback="", spans={}, solved=True)
    assert task.score(verdict) == pytest.approx(0.1 + 0.05 + 0.05 + 1.0)


def test_metrics_are_means_over_the_turns() -> None:
    def verdict(solved: bool, strict: float) -> Verdict:
        return Verdict(rewards={}, feedback="", spans={}, solved=solved, metrics={"strict": strict})

    task = GsmSynth(GsmSynthConfig())
    assert task.metrics([verdict(False, 0.0), verdict(True, 1.0)]) == {"solved": 1.0, "strict": 0.5}
    assert task.metrics([]) == {"solved": 0.0}


def test_every_entry_point_is_a_task_of_that_name() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="grpo_bench.tasks")}
    assert {"wordle", "wordle_turn", "gsm8k", "gsm_synth"} <= set(found)
    for name, task in found.items():
        assert issubclass(task, Task)
        assert task.name == name


def test_tasks_need_no_learning_library() -> None:
    code = (
        "import sys, tasks.wordle_turn, tasks.gsm_synth, tasks.gsm8k;"
        "print({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
