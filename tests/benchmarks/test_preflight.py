"""What is refused before anything is loaded: too little memory, in words that say what would fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import LlamaConfig, Qwen2Config

from benchmarks.config.presets import presets
from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.running.preflight import memory_lines, memory_need, refuse_unfit, warm_start_need, widest
from benchmarks.running.run import run
from benchmarks.running.warmstart import find_or_make
from benchmarks.sweep.launch import launch
from benchmarks.sweep.plan import plan
from policies.memory import need, skeleton_of
from policies.source import find_source
from tasks.api import Task
from tasks.errors import BadInput

QWEN = {
    "vocab_size": 151_936,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "architectures": ["Qwen2ForCausalLM"],
}
MODELS: dict[str, Any] = {
    "smollm2_135m": LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    ),
    "qwen2_5_0_5b_instruct": Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, **QWEN
    ),
    "qwen2_5_1_5b_instruct": Qwen2Config(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, **QWEN
    ),
}
"""The models' published sizes."""
MODEL_OF = {"135m": "smollm2_135m", "500m": "qwen2_5_0_5b_instruct", "1500m": "qwen2_5_1_5b_instruct"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("entry", [run, plan])
def test_a_split_without_problems_is_named(entry: Any, split: str, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("crane\n")  # of the test split
    setting = f"task.words={words}" if split == "train" else f"task.{split}=0"
    config = check_config(compose_config(["+algo=base", "budget=smoke", setting, f"results.dir={tmp_path}"]))
    arguments = (config, Console(), "x") if entry is run else (config,)
    with pytest.raises(BadInput, match=f"task=wordle has no {split} problems"):
        entry(*arguments)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of 1.5 billion weights, all of them a hole in the file that takes no room on the disk."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "config.json").write_text(json.dumps(MODELS["qwen2_5_1_5b_instruct"].to_dict()))
    count = 1_543_714_304
    about = {"weights": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}
    header = json.dumps(about).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2 * count)
    return folder


def configured(*words: str) -> tuple[RunConfig, Task]:
    config = check_config(compose_config(["policy.device=cpu", *words]))
    return config, config.task_class(config.task)


def refused(config: RunConfig, task: Task, monkeypatch: pytest.MonkeyPatch, free: float, total: float) -> str:
    monkeypatch.setattr("policies.memory.free_memory", lambda _: (free * 2**30, total * 2**30))
    with pytest.raises(BadInput) as caught:
        refuse_unfit(config, find_source(config.policy), task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_cannot_fit_is_refused_before_its_weights_are_looked_at(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, task = configured("+algo=grpo", "policy=path", f"policy.path={large}")
    said = refused(config, task, monkeypatch, free=14, total=16)
    assert said == (
        "policy=path with grpo needs 23.5 GiB at least, and cpu has 14.0 GiB of 16.0 GiB free; "
        "use adapter=lora, a smaller policy or a larger device"
    )


def test_a_device_that_others_fill_is_told_from_one_that_is_too_small(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, task = configured("+algo=grpo", "policy=path", f"policy.path={large}")
    assert "other processes hold 70.0 GiB" in refused(config, task, monkeypatch, free=10, total=80)


def test_gepa_fits_where_gradients_do_not(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.memory.free_memory", lambda _: (8 * 2**30, 8 * 2**30))
    config, task = configured("+algo=gepa", "policy=path", f"policy.path={large}")
    refuse_unfit(config, find_source(config.policy), task)
    found = memory_need(config, find_source(config.policy), task)
    assert (found.gradients, found.optimiser, found.update) == (0, 0, 0)


def test_a_dry_run_refuses_what_cannot_fit_and_records_nothing(
    large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("policies.memory.free_memory", lambda _: (2**30, 2**30))
    words = ["+algo=grpo", "policy=path", f"policy.path={large}", f"results.dir={tmp_path / 'runs'}"]
    with pytest.raises(BadInput, match=r"needs 23\.5 GiB at least"):
        launch(words, dry_run=True)
    with pytest.raises(BadInput, match=r"needs 23\.5 GiB at least"):
        launch(words)
    assert not any((tmp_path / "runs").rglob("status"))


def test_a_plan_says_what_may_run_out(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.memory.free_memory", lambda _: (30 * 2**30, 80 * 2**30))
    config, task = configured("+algo=grpo", "policy=path", f"policy.path={large}")
    told, warning = memory_lines(config, find_source(config.policy), task)
    for part in ("weights 5.8 GiB", "gradients 5.8 GiB", "optimiser 11.5 GiB", "at most", "30.0 GiB are free"):
        assert part in told
    assert "evaluate.batch_size" in warning


def test_a_warm_start_that_cannot_be_made_is_refused_with_the_way_to_make_it(
    large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("policies.memory.free_memory", lambda _: (22 * 2**30, 24 * 2**30))
    words = ("+algo=grpo", "policy=path", f"policy.path={large}", "adapter=lora", "warmstart=sft")
    config, task = configured(*words, "warmstart.transcripts=2", f"results.dir={tmp_path}")
    source = find_source(config.policy)
    refuse_unfit(config, source, task)
    monkeypatch.setattr("benchmarks.running.warmstart.fingerprint", lambda _: "three gigabytes of nothing")
    with pytest.raises(BadInput, match=r"^warmstart=sft of policy=path needs 23\.5 GiB .*warmstart\.lora_rank=16$"):
        find_or_make(config, source, task, print)
    small, _ = configured(*words, "warmstart.lora_rank=16")
    assert warm_start_need(small, source, task).certain < 8 * 2**30


def test_four_bits_without_cuda_are_refused_before_loading() -> None:
    config, task = configured("+algo=grpo", "adapter=qlora")
    with pytest.raises(BadInput, match="adapter=qlora: 4-bit weights need a CUDA device"):
        refuse_unfit(config, find_source(config.policy), task)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the preset needs")
def test_a_preset_for_gpus_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"policy\.device=cuda: torch sees no CUDA device here"):
        launch(["+algo=grpo", "gpu=135m_16gb", "budget=smoke", f"results.dir={tmp_path}"])


@pytest.mark.parametrize("preset", presets("gpu"))
@pytest.mark.parametrize("algo", ["grpo", "gepa"])
def test_a_preset_fits_its_gpu_by_the_formula(preset: str, algo: str) -> None:
    size, memory = preset.split("_")
    policy = MODEL_OF[size]
    words = [f"+algo={algo}", f"gpu={preset}", f"policy={policy}", "task=wordle", "task.words=classic"]
    config = check_config(compose_config(words))
    load = widest(config, config.task_class(config.task))
    dtype = torch.float32 if config.adapter is None else torch.bfloat16
    model = skeleton_of(MODELS[policy], config.adapter)
    found = need(model, load, dtype=dtype, bf16=True, adapter=config.adapter, device="cuda")
    # A card that is sold with 24 GB has about 23.5 GiB; a twentieth is left for what the formula does not know.
    assert found.most < 0.95 * 0.98 * int(memory.removesuffix("gb")) * 2**30
    assert config.policy.device == "cuda"
