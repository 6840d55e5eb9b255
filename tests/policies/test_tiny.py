"""The embedded policy: small, whole, and as good and as weak as its card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.config import check_config, compose_config
from benchmarks.evaluation import average
from benchmarks.plugins import load_class
from policies.api import Sampling
from policies.language_model import LanguageModel
from policies.tiny.tokenizer import GSM_RULES, WORDLE_RULES, build_tokenizer
from tasks.api import Task

WEIGHTS = Path(__file__).resolve().parents[2] / "policies/tiny/weights"
RULES = {"wordle": WORDLE_RULES, "wordle_turn": WORDLE_RULES, "gsm_synth": GSM_RULES}


def embedded_task(name: str) -> Task:
    config = check_config(compose_config(["+algo=base", f"task={name}"]))
    task: Task = load_class("tasks", name)(config.task)
    return task


def test_the_weights_are_small_and_those_that_the_training_wrote() -> None:
    file = WEIGHTS / "model.safetensors"
    made = json.loads((WEIGHTS / "training.json").read_text())
    assert file.stat().st_size <= 8_000_000
    assert made["parameters"] <= 3_000_000
    assert made["model.safetensors"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_saved_tokenizer_is_the_one_that_the_code_builds(tiny: LanguageModel) -> None:
    assert tiny.tokenizer.get_vocab() == build_tokenizer().get_vocab()


@given(st.text(alphabet=[chr(code) for code in range(32, 127)] + ["\n"]))
def test_printable_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


TOKENIZER = build_tokenizer()


@pytest.mark.parametrize(
    ("name", "low", "high"), [("wordle", 0.15, 0.35), ("wordle_turn", 0.2, 0.45), ("gsm_synth", 0.2, 0.45)]
)
def test_the_untouched_policy_has_learned_something_and_has_far_to_go(
    tiny: LanguageModel, name: str, low: float, high: float
) -> None:
    task = embedded_task(name)
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("test"), 2, Sampling(), seed=30_000)
    found = average(task, rollouts)
    assert low <= found["solved"] <= high
    assert found["format"] >= 0.85


@pytest.mark.parametrize("name", ["wordle", "gsm_synth"])
def test_rules_in_the_instructions_make_it_play_better(tiny: LanguageModel, name: str) -> None:
    task = embedded_task(name)
    solved = []
    for rules in ((), RULES[name]):
        tiny.instructions = " ".join([task.instructions, *rules])
        rollouts, _ = tiny.play(task, task.problems("test")[:150], 1, Sampling(), seed=1)
        solved.append(average(task, rollouts)["solved"])
    assert solved[1] > solved[0] + 0.1
