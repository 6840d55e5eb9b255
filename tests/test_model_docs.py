"""docs/models.md: what was run where, and the memory that the formula gives for the sizes people ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import BATCHED, HF_ONLY, REFUSED, cells_of
from test_preflight import MODELS
from transformers import Gemma3TextConfig, LlamaConfig, Qwen3Config

from benchmarks.config.schema import check_config, compose_config
from benchmarks.running.preflight import widest
from policies.memory import need, skeleton_of

PAGE = (Path(__file__).parent.parent / "docs/models.md").read_text(encoding="utf-8")
QWEN3: dict[str, Any] = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 28}
QWEN3 |= {"vocab_size": 151_936, "tie_word_embeddings": True}
CONFIGS: dict[str, Any] = MODELS | {
    "smollm2_360m": LlamaConfig(
        vocab_size=49_152,
        hidden_size=960,
        intermediate_size=2560,
        num_hidden_layers=32,
        num_attention_heads=15,
        num_key_value_heads=5,
        tie_word_embeddings=True,
    ),
    "qwen3_0_6b": Qwen3Config(hidden_size=1024, intermediate_size=3072, **QWEN3),
    "qwen3_1_7b": Qwen3Config(hidden_size=2048, intermediate_size=6144, **QWEN3),
    "llama3_2_1b_instruct": LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "gemma3_1b_it": Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=1152,
        intermediate_size=6912,
        num_hidden_layers=26,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
    ),
}
"""The models' published sizes."""
PUBLISHED = {
    "smollm2_135m": 134.5e6,
    "smollm2_360m": 361.8e6,
    "qwen2_5_0_5b_instruct": 494e6,
    "qwen3_0_6b": 596e6,
    "qwen2_5_1_5b_instruct": 1.544e9,
    "qwen3_1_7b": 1.72e9,
    "llama3_2_1b_instruct": 1.236e9,
    "gemma3_1b_it": 1.0e9,
}
"""Weights, by the models' own pages."""
CLASS = {"smollm2_135m": "135m", "smollm2_360m": "500m", "qwen2_5_0_5b_instruct": "500m", "qwen3_0_6b": "500m"}
CARDS = (16, 24, 80)


def gibibytes(policy: str, card: int, games: int) -> tuple[str, float, float]:
    """What the preset for a card trains, and the GiB of a run of grpo: certain, and at most.

    Args:
        policy: one of CONFIGS.
        card: its memory in GB.
        games: played side by side.
    """
    preset = f"{CLASS.get(policy, '1500m')}_{card}gb"
    words = ["+algo=grpo", f"gpu={preset}", f"policy={policy}", "task=wordle", "task.words=classic"]
    words.append(f"evaluate.batch_size={games}")
    config = check_config(compose_config(words))
    dtype = torch.float32 if config.adapter is None else torch.bfloat16
    model = skeleton_of(CONFIGS[policy], config.adapter)
    load = widest(config, config.task_class(config.task))
    found = need(model, load, dtype=dtype, bf16=True, adapter=config.adapter, device="cuda")
    return ("LoRA" if config.adapter else "all"), found.certain / 2**30, found.most / 2**30


@pytest.mark.parametrize("policy", PUBLISHED)
def test_a_configuration_has_as_many_weights_as_its_page_says(policy: str) -> None:
    assert skeleton_of(CONFIGS[policy], None).weights == pytest.approx(PUBLISHED[policy], rel=0.01)


@pytest.mark.parametrize("policy", PUBLISHED)
def test_the_memory_on_the_page_is_the_formulas_and_fits_its_card(policy: str) -> None:
    (row,) = re.findall(rf"^\| {policy} \|.*", PAGE, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"{skeleton_of(CONFIGS[policy], None).weights / 1e6:,.0f}"
    for card, cell in zip(CARDS, cells[2:], strict=True):
        games = int(cell.rpartition(" ")[2])
        trained, certain, most = gibibytes(policy, card, games)
        assert cell == f"{trained}, {certain:.1f} to {most:.1f}, {games}"
        assert most < 0.95 * 0.98 * card


@pytest.mark.parametrize("name", [*BATCHED, *HF_ONLY, *REFUSED])
def test_the_table_of_architectures_says_what_the_tests_run(name: str) -> None:
    (row,) = re.findall(rf"^\| {name} \|.*", PAGE, re.MULTILINE)
    assert [cell.strip() for cell in row.strip("|").split("|")] == [name, *cells_of(name)]
