"""The embedded policy: small, whole, and as good and as weak as its card says."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from benchmarks.running.evaluation import average
from policies.api import Sampling
from policies.language_model import LanguageModel
from policies.tiny import train
from policies.tiny.measure import TEMPERATURES, heard, helping, solved, tasks
from policies.tiny.tokenizer import build_tokenizer
from policies.tiny.wordle_lessons import WordleTeacher
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

WEIGHTS = Path(__file__).resolve().parents[2] / "policies/tiny/weights"


def test_the_weights_are_small_and_those_that_the_training_wrote() -> None:
    file = WEIGHTS / "model.safetensors"
    made = json.loads((WEIGHTS / "training.json").read_text())
    assert file.stat().st_size <= 8_000_000
    assert made["parameters"] <= 3_000_000
    assert made["model.safetensors"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_training_command_makes_the_same_weights_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tuple(replace(stage, steps=2) for stage in train.STAGES[-2:])
    monkeypatch.setattr(train, "STAGES", short)
    monkeypatch.setattr(train, "LESSONS", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("once", "again"):
            train.train(0, tmp_path / name)
        # And stage by stage, from the folder that a stage leaves.
        monkeypatch.setattr(train, "STAGES", short[:1])
        train.train(0, tmp_path / "first")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "first", dtype=torch.float32)
        train.train_stage(model, build_tokenizer(), short[1], seed=1)
        model.save_pretrained(tmp_path / "second")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    made = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "again", "first", "second")}
    assert made["once"] == made["again"] == made["second"] != made["first"]


def test_the_saved_tokenizer_is_the_one_that_the_code_builds(tiny: LanguageModel) -> None:
    assert tiny.tokenizer.get_vocab() == build_tokenizer().get_vocab()


@given(st.text(alphabet=[chr(code) for code in range(32, 127)] + ["\n"]))
def test_printable_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


TOKENIZER = build_tokenizer()


PLAYED = ("wordle", "wordle_turn", "gsm_synth")


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYED)
def test_the_untouched_policy_has_far_to_go_and_a_lower_temperature_does_not_take_it_there(
    tiny: LanguageModel, name: str
) -> None:
    task = tasks()[name]
    found = {temperature: solved(tiny, task, (), temperature, 4) for temperature in TEMPERATURES}
    assert 0.12 <= found[1.0]["solved"] <= 0.43
    assert found[1.0]["format"] >= 0.85
    # The card has 8 points for wordle, 5 was wanted; two shares of 113 secrets differ by 3 points of standard error.
    assert max(found[t]["solved"] for t in TEMPERATURES) <= found[1.0]["solved"] + 0.12


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYED)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_sentences_that_help_make_it_play_better_at_any_temperature(
    tiny: LanguageModel, name: str, temperature: float
) -> None:
    task = tasks()[name]
    without, advised = (solved(tiny, task, advice, temperature, 2)["solved"] for advice in ((), helping(task)))
    assert advised > without + 0.1


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="tiny quotes what feedback names and seldom obeys it: see its card")
def test_what_feedback_names_is_mended_and_what_it_does_not_name_is_not(load_tiny: Callable[[], LanguageModel]) -> None:
    task = tasks()["wordle"]
    assert isinstance(task, Wordle)
    share = {name: sum(hits) / len(hits) for name, hits in heard(load_tiny(), task, 2).items()}
    assert share["named"] - share["not named"] >= 0.2
    gain = share["own"] - share["nothing"]
    assert gain >= 0.1
    assert share["another"] - share["nothing"] < gain / 4


@pytest.mark.parametrize("name", ["gsm_fields", "gsm_turns"])
def test_it_speaks_the_forms_of_the_diagnostic_tasks(tiny: LanguageModel, name: str) -> None:
    task = tasks()[name]
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("test")[:40], 1, Sampling(), seed=1)
    found = average(task, rollouts)
    assert found["format"] >= 0.85
    assert 0.2 < found["share_right"] < 0.9


def test_the_lessons_hold_no_question_of_val_or_test() -> None:
    stream = train.lessons(train.STAGES[0], 0)
    held = {problem.question for split in ("val", "test") for problem in GsmSynth(GsmSynthConfig()).problems(split)}
    for lesson in islice(stream, 2000):
        text = "\n".join(message["content"] for message in lesson.messages)
        asked = {re.sub(r"^\d+\. ", "", line) for line in text.split("\n")}
        assert not asked & held


def test_a_slip_is_made_by_most_demonstrators_that_nothing_speaks_to() -> None:
    """The most likely action is a wrong one: what makes learning differ from lowering the temperature."""
    stage, sure = train.STAGES[-1], {"+", "?", "-"}
    words = WordleTeacher(Wordle(WordleConfig()), random.Random(0), stage.in_game, stage.in_turn)
    plans: Counter[str] = Counter()
    for _ in range(2000):
        seen = words.history()
        if {clue.kind for clue in seen.clues} == sure:
            plans[words.plan(seen.clues, stage.in_turn)] += 1
    assert plans.most_common(1)[0][0] != "+?-w"
    assert all(rate > 0.5 for slip, rate in stage.in_sums.items() if slip != "terse")
