"""Every algorithm of the campaign makes an update with the real model on real problems, on a CPU.

GSM8K's rows are read from the folder that $GSM8K names; without it those tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cut_down import cut_down_run

from benchmarks.sweep.campaign import DEFAULTS

TASKS = {
    "wordle_turn": ("task=wordle_turn", "task.words=classic", "task.max_action_tokens=80"),
    "wordle": ("task=wordle", "task.words=classic", "task.max_action_tokens=80", "task.max_turns=2"),
    "gsm8k": ("task=gsm8k", "task.max_action_tokens=120", f"task.path={os.environ.get('GSM8K', '')}"),
}
WARM = ("warmstart=sft", "warmstart.transcripts=8", "warmstart.batch_size=4")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that the warm start of a task is made once."""
    return tmp_path_factory.mktemp("real") / "runs"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algo", DEFAULTS["+algo"].split(","))
def test_an_algorithm_makes_an_update_with_a_language_model(
    algo: str, task: str, smollm2_folder: Path, results: Path
) -> None:
    if task == "gsm8k" and "GSM8K" not in os.environ:
        pytest.skip("needs GSM8K=DIR with train.jsonl and test.jsonl")
    record = cut_down_run(algo, smollm2_folder, results, *TASKS[task], *WARM)
    summary = record.read_json("summary.json")
    assert record.status == "complete"
    assert summary["updates"] == (0 if algo == "base" else 1)
    trained = summary["costs"].get("update", {}).get("flops") or 0
    assert (trained > 0) == (algo not in ("base", "gepa"))
