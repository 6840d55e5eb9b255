"""Everything that a run does, once on the device that is not there: two updates each, evaluated, saved and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import broken_off
import pytest
import torch
from broken_off import Killed, dies, outcome, run_on

from algorithms import micro_batches
from algorithms.policy_gradient import PolicyGradient
from benchmarks.resume.state import StateStore
from benchmarks.running import machine
from policies import batched_sampler
from policies.language_model import LanguageModel, load_policy
from policies.sampler import draw
from policies.source import PolicyConfig
from tasks.api import Verdict
from tasks.errors import BadInput
from tasks.wordle import WordleEpisode

pytestmark = pytest.mark.usefixtures("cuda", "short")

ALGORITHMS = {each.name: each for each in entry_points(group="grpo_bench.algorithms")}
WARM = ("warmstart=sft", "warmstart.transcripts=4", "warmstart.batch_size=2", "task.max_action_tokens=80")
WAYS = [
    *((f"+algo={name}",) for name in sorted(ALGORITHMS)),
    ("+algo=feedback_grpo", "algo.mode=refine"),
    ("+algo=feedback_grpo", "algo.mode=predict"),
    ("+algo=vector_grpo", "algo.baseline=state"),
    ("+algo=vector_grpo", "algo.baseline=heads"),
    ("+algo=grpo", "algo.beta=0.1"),
    ("+algo=grpo", "policy.sampler=hf"),
    ("+algo=grpo", "adapter=lora"),
    ("+algo=grpo", "batch.gradient_checkpointing=true"),
    ("+algo=grpo", "policy.dtype=bfloat16"),
    ("+algo=grpo", "policy.dtype=float32"),
    ("+algo=grpo", "task=gsm_synth"),
    ("+algo=grpo", "task=wordle", "task.max_turns=2"),
    ("+algo=base", *WARM),
    ("+algo=base", *WARM, "warmstart.lora_rank=2", "warmstart.gradient_checkpointing=true"),
]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two updates with a random model of one layer, which writes eight tokens at most and is judged by how
    many characters they make, so that there is something to learn."""
    folder = tmp_path_factory.mktemp("small")
    shape = (
        *("policy=path", f"policy.path={small_model(folder)}", "policy.device=cuda", "policy.threads=1"),
        *("task=wordle_turn", "task.max_action_tokens=8", "budget=smoke", "budget.updates=2"),
        *("evaluate.test_problems=2", "evaluate.test_samples=1", "evaluate.val_problems=2"),
        *("batch.problems=2", "batch.group_size=2"),
    )
    step = WordleEpisode.step

    def judged(episode: WordleEpisode, action: str) -> Verdict:
        verdict = step(episode, action)
        rewards = {**verdict.rewards, "progress": len(action) % 5 / 5}
        return replace(verdict, rewards=rewards, solved=len(action) % 3 == 0)

    monkeypatch.setattr(WordleEpisode, "step", judged)
    monkeypatch.setattr(broken_off, "SMALL", shape)
    monkeypatch.setattr(machine, "ON_GPU", (64,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def small_model(folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    from policies.tiny.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes, **ends)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("words", WAYS, ids=" ".join)
def test_a_run_of_two_updates_gets_through(words: tuple[str, ...], tmp_path: Path) -> None:
    record = run_on(tmp_path, *words)
    assert record.status == "complete"
    summary, about = record.read_json("summary.json"), record.read_json("manifest.json")
    assert about["device"] == "a rehearsal"
    assert summary["gpu_s"] is not None
    if issubclass(ALGORITHMS[words[0].removeprefix("+algo=")].load(), PolicyGradient):
        assert summary["updates"] == 2
        signal = "task=gsm_synth" not in words
        assert (summary["policy_state"] != about["policy_state"]) == signal, "nothing was trained"


@pytest.mark.parametrize("words", [("+algo=grpo",), ("+algo=vector_grpo", "algo.baseline=heads")], ids=" ".join)
def test_a_run_that_was_interrupted_comes_to_the_same_end(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(run_on(tmp_path / "whole", *words))
    with monkeypatch.context() as patched:
        patched.setattr(StateStore, "save", dies(3, StateStore.save))
        with pytest.raises(Killed):
            run_on(tmp_path / "parts", *words)
    record = run_on(tmp_path / "parts", *words)
    assert record.read_json("manifest.json")["resumed"]
    assert outcome(record) == expected


def test_what_was_saved_on_the_device_plays_on_the_cpu(tmp_path: Path) -> None:
    record = run_on(tmp_path, "+algo=grpo")
    again = load_policy(PolicyConfig(name="x", path=str(record.folder / "policy"), device="cpu", dtype="float32"))
    assert again.state_hash() == record.read_json("summary.json")["policy_state"]
    adapted = run_on(tmp_path, "+algo=grpo", "adapter=lora").folder / "policy"
    assert not Path(json.loads((adapted / "adapter_config.json").read_text())["base_model_name_or_path"]).is_absolute()
    load_policy(PolicyConfig(name="x", path=str(adapted), device="cuda"))


def test_4_bit_weights_are_refused_in_one_line_where_bitsandbytes_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="bitsandbytes"):
        run_on(tmp_path, "+algo=grpo", "adapter=qlora")


# --- planted faults ---------------------------------------------------------------------------------------------------


def stays_on_the_cpu(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same tensor, made on the CPU."""
    return lambda *args, **kwargs: make(*args, **{**kwargs, "device": None})


def plant_index(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(batched_sampler.torch, "tensor", stays_on_the_cpu(torch.tensor))


def plant_mask(patched: pytest.MonkeyPatch) -> None:
    from policies import decoder

    right = decoder.additive_mask
    patched.setattr(decoder, "additive_mask", lambda *args: right(*args).cpu())


def plant_numpy(patched: pytest.MonkeyPatch) -> None:
    def state_hash(policy: LanguageModel) -> str:
        return str([each.detach().numpy().sum() for each in policy.model.parameters()])

    patched.setattr(LanguageModel, "state_hash", state_hash)


def plant_generator(patched: pytest.MonkeyPatch) -> None:
    def drawn(logits: torch.Tensor, sampling: Any, chances: torch.Tensor) -> torch.Tensor:
        logits.softmax(-1).multinomial(1, generator=torch.Generator())
        return draw(logits, sampling, chances)

    patched.setattr(batched_sampler, "draw", drawn)


def plant_advantages(patched: pytest.MonkeyPatch) -> None:
    right = micro_batches.tensors

    def tensors(*args: Any) -> dict[str, torch.Tensor]:
        found = right(*args)
        return {**found, "advantages": found["advantages"].cpu()}

    patched.setattr(micro_batches, "tensors", tensors)


@pytest.mark.parametrize("plant", [plant_index, plant_mask, plant_numpy, plant_generator, plant_advantages])
def test_a_planted_fault_ends_the_run(
    plant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((RuntimeError, TypeError), match=r"devices|numpy|generator"):
        run_on(tmp_path, "+algo=grpo", "policy.sampler=batched")
