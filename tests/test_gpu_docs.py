"""docs/gpu.md: its commands are ones that the program takes, and its numbers are those of the formulas."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from test_preflight import MODEL_OF, MODELS

from benchmarks.config.presets import presets
from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.running.preflight import widest
from benchmarks.sweep.campaign import campaign, words_of
from benchmarks.sweep.campaign import combinations as runs_of
from benchmarks.sweep.launch import combinations, launch, master_of
from policies.adapter import AdapterConfig, attach
from policies.flops import model_shape
from policies.memory import need, skeleton_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]
ALL_RUNS = [words[3:] for words in COMMANDS if words[:4] == ["python", "-m", "benchmarks", "run"]]
RUNS = [words for words in ALL_RUNS if "+experiment=reduced" not in words]
"""The others are held by test_sweep.py, like every experiment."""
CAMPAIGNS = [words[4:] for words in COMMANDS if words[:4] == ["python", "-m", "benchmarks", "campaign"]]


def elsewhere(words: list[str], untrained_folder: Path) -> list[str]:
    """A command without its GPU and its gigabytes."""
    return [*words, f"policy.path={untrained_folder}", "policy.device=cpu"]


def test_the_page_has_the_commands_that_these_tests_are_about() -> None:
    assert len(RUNS) == 3
    assert len(CAMPAIGNS) == 1
    assert ["make", "setup"] in COMMANDS
    assert ["python", "-m", "benchmarks", "gpu-check"] in COMMANDS


@pytest.mark.parametrize("words", RUNS, ids=["plan", "run", "sweep"])
def test_every_run_of_the_page_is_one_that_the_program_takes(words: list[str]) -> None:
    overrides = [word for word in words[1:] if word not in ("--dry-run", "-m")]
    configs = [check_config(compose_config(list(each))) for each in combinations(master_of(overrides, None)[1])]
    assert len(configs) == (15 if "-m" in words else 1)
    for config in configs:
        assert (config.policy.name, config.task.name) == ("qwen2_5_1_5b_instruct", "wordle")
        assert config.adapter is not None
        assert config.warmstart is not None


@pytest.mark.slow
def test_the_plan_of_the_page_is_made_with_a_small_model_in_its_place(
    untrained_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["batch.problems=1", "batch.group_size=2", "task.max_action_tokens=8", f"results.dir={tmp_path}"]
    assert launch([*elsewhere(RUNS[0][2:], untrained_folder), *small], dry_run=True) == 0
    said = capsys.readouterr().out
    for part in ("memory by formula", "making the warm start", "an adapter of rank 16", "until flops is reached"):
        assert part in said


def test_the_campaign_of_the_page_has_the_runs_that_it_says(untrained_folder: Path, tmp_path: Path) -> None:
    rows = "\n".join(f'{{"question": "What is {n} and {n}?", "answer": "#### {2 * n}"}}' for n in range(60))
    (tmp_path / "train.jsonl").write_text(rows)
    (tmp_path / "test.jsonl").write_text('{"question": "What is 99 and 1?", "answer": "#### 100"}')
    words = CAMPAIGNS[0]
    assert words[words.index("--for") + 1] == "9m"
    overrides = [word.replace("=DIR", f"={tmp_path}") for word in words if "=" in word]
    assert len(list(runs_of(words_of(overrides)))) == 63
    said: list[str] = []
    fewer = [*elsewhere(overrides, untrained_folder), "+algo=base,grpo,gepa", "seed=0"]
    assert campaign(fewer, tmp_path / "state", 0.0, said.append) == 0
    assert said[-1] == "campaign: 0 of 9 runs complete; the same command resumes"


def configured(preset: str, algo: str) -> RunConfig:
    policy = MODEL_OF[preset.partition("_")[0]]
    words = [f"+algo={algo}", f"gpu={preset}", f"policy={policy}", "task=wordle", "task.words=classic"]
    return check_config(compose_config(words))


def gibibytes(preset: str, algo: str) -> list[str]:
    """Certain and at most, as the page's table has them."""
    config = configured(preset, algo)
    model = skeleton_of(MODELS[config.policy.name], config.adapter)
    dtype = torch.float32 if config.adapter is None else torch.bfloat16
    load = widest(config, config.task_class(config.task))
    found = need(model, load, dtype=dtype, bf16=True, adapter=config.adapter, device="cuda")
    return [f"{found.certain / 2**30:.1f}", f"{found.most / 2**30:.1f}"]


@pytest.mark.parametrize("preset", presets("gpu"))
def test_the_memory_of_every_preset_on_the_page_is_the_formulas(preset: str) -> None:
    (row,) = re.findall(rf"^\| {preset} \|.*", PAGE, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    adapter = configured(preset, "grpo").adapter
    assert cells[1] == ("all weights" if adapter is None else "LoRA")
    assert cells[2:] == [*gibibytes(preset, "grpo"), *gibibytes(preset, "gepa")]


def test_the_time_on_the_page_is_what_the_flops_formula_says() -> None:
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        large = attach(AutoModelForCausalLM.from_config(MODELS["qwen2_5_1_5b_instruct"]), AdapterConfig(), 0)
        small = AutoModelForCausalLM.from_config(MODELS["smollm2_135m"])
    tokens, written, prompt = 630, 315, 110
    play, train, update = {}, {}, {}
    for name, model in (("large", large), ("small", small)):
        shape = model_shape(model)
        play[name] = shape.forward(tokens, heads=written)
        train[name] = shape.update(tokens, heads=tokens - prompt)
        update[name] = 64 * (play[name] + train[name])
    assert 2e17 / update["large"] == pytest.approx(540, rel=0.05)
    assert update["small"] == pytest.approx(4.4e13, rel=0.05)
    assert 2000 * train["large"] == pytest.approx(8e15, rel=0.05)
    episodes = 9 * 64 + 2 * 3 * 579
    assert episodes * play["large"] == pytest.approx(8e15, rel=0.1)
    rate = 165e12 / 10
    for flops, hours in ((8e15, 0.1), (2e17, 3.4)):
        assert round(flops / rate / 3600, 1) == hours
    assert 2e16 / rate == pytest.approx(20 * 60, rel=0.05)


def test_every_path_that_the_page_links_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
