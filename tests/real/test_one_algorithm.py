"""One algorithm with the real model, warm start and adapter; all of them: all_algorithms.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from cut_down import cut_down_run

SHORT = ("task=gsm_synth", "task.levels=[1]", "task.max_action_tokens=24")
WARM = ("warmstart=sft", "warmstart.transcripts=8", "warmstart.batch_size=4")


@pytest.mark.slow
def test_grpo_trains_an_adapter_on_a_warm_started_language_model(smollm2_folder: Path, tmp_path: Path) -> None:
    record = cut_down_run("grpo", smollm2_folder, tmp_path, *SHORT, *WARM, "adapter=lora")
    summary = record.read_json("summary.json")
    assert (record.status, summary["policy"], summary["updates"]) == ("complete", "smollm2_135m", 1)
    assert summary["costs"]["warmstart"]["flops"] > summary["costs"]["update"]["flops"] > 0
    assert record.read_json("manifest.json")["policy_parameters"] > 134_515_008, "the model's, and the adapter's"
