"""The memory formula against what torch says that it keeps; on CPU, since no GPU was at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from policies.adapter import AdapterConfig, attach
from policies.api import Sampling
from policies.kv_slots import Slots
from policies.language_model import LanguageModel
from policies.memory import Load, free_memory, need, skeleton_of
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

ROWS, TOKENS = 4, 200
SHAPES: dict[str, Any] = {
    "llama": LlamaConfig(
        vocab_size=1000,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "qwen": Qwen2Config(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=1400,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    ),
}


def kept_for_backward(model: Any, bf16: bool) -> int:
    """Bytes that autograd keeps of one forward pass through the layers, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids = torch.randint(0, 1000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    body = (model.get_base_model() if hasattr(model, "peft_config") else model).model
    mask = torch.ones_like(ids)
    mask[0, : TOKENS // 10] = 0
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
    ):
        body(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(sizes.values())


HELD = {
    "float32 on cpu": (None, torch.float32, False),
    "an adapter on cpu": (16, torch.float32, False),
    "float32 weights, gradients in bfloat16": (None, torch.float32, True),
    "an adapter beside bfloat16 weights": (16, torch.bfloat16, True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rank", "dtype", "bf16"), HELD.values(), ids=HELD)
def test_the_formula_is_near_what_autograd_keeps(shape: str, rank: int | None, dtype: torch.dtype, bf16: bool) -> None:
    about = SHAPES[shape]
    adapter = None if rank is None else AdapterConfig(rank=rank)
    model = AutoModelForCausalLM.from_config(about).to(dtype)
    model = attach(model, adapter, seed=0) if adapter else model
    load = Load(updates=True, micro_batch=ROWS, rows=1, prompt=1, longest=TOKENS)
    sizes = skeleton_of(about, adapter)
    found = need(sizes, load, dtype=dtype, bf16=bf16, adapter=adapter, device="cpu")
    logits = ROWS * TOKENS * 1000 * (2 if bf16 else 4) + (4 * 1000 * about.hidden_size if adapter is None else 0)
    assert 0.95 < (found.update - logits) / kept_for_backward(model.train(), bf16) < 1.35


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [None, 4])
def test_weights_gradients_and_moments_are_counted_exactly(shape: str, rank: int | None) -> None:
    about = SHAPES[shape]
    adapter = None if rank is None else AdapterConfig(rank=rank)
    model = AutoModelForCausalLM.from_config(about)
    model = attach(model, adapter, seed=0) if adapter else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    load = Load(updates=True, micro_batch=1, rows=1, prompt=1, longest=1)
    found = need(skeleton_of(about, adapter), load, dtype=torch.float32, bf16=False, adapter=adapter, device="cpu")
    assert found.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    assert found.gradients == sum(p.numel() * p.element_size() for p in trained)
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert found.optimiser == sum(moment.numel() * moment.element_size() for moment in moments)


def test_the_cache_of_a_game_is_within_the_formula(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    fit = Slots.fit

    def watched(self: Slots, slots: int, places: int) -> None:
        before = self.data
        fit(self, slots, places)
        held.append(self.data.nbytes + (before.nbytes if before is not self.data else 0))

    monkeypatch.setattr(Slots, "fit", watched)
    task = GsmSynth(GsmSynthConfig(max_action_tokens=60))
    tiny.instructions = task.instructions
    rollouts, _ = tiny.play(task, task.problems("val")[:8], 1, Sampling(), 0)
    longest = max(len(rollout.prompt_ids) + 60 for rollout in rollouts)
    load = Load(updates=False, micro_batch=0, rows=8, prompt=1, longest=longest)
    sizes = skeleton_of(tiny.model.config, None)
    found = need(sizes, load, dtype=torch.float32, bf16=False, adapter=None, device="cpu")
    assert found.play / 4 < max(held) <= found.play
    assert (found.gradients, found.optimiser, found.update) == (0, 0, 0)


def test_a_gpu_that_another_process_holds_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: object) -> tuple[int, int]:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore\nlines")

    monkeypatch.setattr(torch, "cuda", SimpleNamespace(mem_get_info=busy))
    with pytest.raises(BadInput, match=r"^policy\.device=cuda:0: .*busy or unavailable.*in use\?$"):
        free_memory(torch.device("cuda:0"))
