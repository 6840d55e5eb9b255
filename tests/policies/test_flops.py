"""The FLOP formula against torch's own counter, for what a run does: rollouts, updates, and what-ifs scored.

The eager kernel also multiplies the masked half of the attention matrix, which the formula leaves out: it is added
here, exactly, before the two are compared.
"""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from policies.api import Rollout, Sampling
from policies.branches import Branch, score_branches
from policies.flops import ModelShape, model_shape
from policies.language_model import LanguageModel
from policies.tiny.train import build_model
from tasks.wordle import Wordle, WordleConfig

SHAPES = ("tiny", "qwen2", "lora")


def build(name: str, vocabulary: int = 300) -> torch.nn.Module:
    settings = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 6}
    if name == "tiny":
        return build_model(vocabulary, 0, 2)
    torch.manual_seed(0)
    qwen = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=vocabulary, num_key_value_heads=2, tie_word_embeddings=False, **settings)
    )
    if name == "qwen2":
        return qwen
    return get_peft_model(qwen, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))  # type: ignore[no-any-return]


def shaped(name: str, untrained: LanguageModel) -> LanguageModel:
    """A policy with tiny's tokenizer and a model of this shape."""
    model = build(name, len(untrained.tokenizer))
    model.set_attn_implementation("eager")  # type: ignore[operator]
    return LanguageModel(untrained.config, untrained.source, model, untrained.tokenizer, torch.device("cpu"))


def masked_half(shape: ModelShape, tokens: int) -> float:
    """FLOPs above the diagonal of a block of `tokens`."""
    return 4.0 * shape.layers * shape.attention_width * tokens * (tokens - 1) / 2


@pytest.mark.parametrize("name", SHAPES)
def test_an_update_costs_what_the_formula_says(name: str) -> None:
    model = build(name)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    tokens, heads = 200, 120
    with FlopCounterMode(display=False) as counter:
        output = model(torch.randint(0, 200, (1, tokens)), logits_to_keep=heads)
        forward = counter.get_total_flops()
        output.logits.float().logsumexp(-1).mean().backward()
    shape = model_shape(model)
    extra = masked_half(shape, tokens)
    assert shape.forward(tokens, heads=heads) + extra == pytest.approx(forward, rel=0.01)
    assert shape.update(tokens, heads=heads) + 3 * extra == pytest.approx(counter.get_total_flops(), rel=0.05)


def blocks(rollout: Rollout) -> list[int]:
    """Tokens that were read at once: the prompt, and each reply of the environment with the token left over before."""
    runs = [(written, len(list(run))) for written, run in groupby(rollout.mask)]
    return [len(rollout.prompt_ids), *(size + 1 for written, size in runs if not written)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_rollout_costs_what_is_booked_for_it(name: str, untrained: LanguageModel) -> None:
    policy, task = shaped(name, untrained), Wordle(WordleConfig())
    policy.instructions = task.instructions
    policy.max_action_tokens = 30
    with FlopCounterMode(display=False) as counter:
        (rollout,), cost = policy.play(task, task.problems("train")[:1], 1, Sampling(), 0)
    assert len(rollout.turns) > 1
    extra = sum(masked_half(policy.shape, tokens) for tokens in blocks(rollout))
    assert cost.flops + extra == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("name", SHAPES)
def test_scoring_what_ifs_for_distillation_costs_what_is_booked_for_it(name: str, untrained: LanguageModel) -> None:
    policy = shaped(name, untrained)
    branches = [Branch(at=60, context=list(range(5, 45)), target=list(range(5, 36))) for _ in range(2)]
    with FlopCounterMode(display=False) as counter:
        _, flops = score_branches(policy, [list(range(5, 95))], [branches], 1.0)
    # The trunk is read again as far as branches see it, and the kernel multiplies what the mask hides.
    seen = 60 * 61 / 2 + 2 * (70 * 60 + 70 * 71 / 2)
    hidden = 4.0 * policy.shape.layers * policy.shape.attention_width * (200**2 - seen)
    counted = counter.get_total_flops() - policy.shape.forward(60, heads=0) - hidden
    assert flops == pytest.approx(counted, rel=0.01)


def test_decoding_with_a_cache_costs_as_much_as_one_pass_without_its_heads() -> None:
    shape = model_shape(build("tiny"))
    pieces = shape.forward(50, heads=0) + sum(shape.forward(1, context=50 + i) for i in range(30))
    assert pieces == pytest.approx(shape.forward(80, heads=30))


def test_weights_that_are_packed_into_four_bits_count_as_many_as_they_are() -> None:
    model = build("tiny")
    whole = model_shape(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
            # As bitsandbytes does it: two weights to a byte, the shape kept beside them.
            packed = torch.nn.Parameter(torch.zeros(module.weight.numel() // 2, 1, dtype=torch.uint8), False)
            packed.quant_state = SimpleNamespace(shape=module.weight.shape)
            module.weight = packed
    assert model_shape(model).body == whole.body


def test_frozen_weights_save_their_gradients_only() -> None:
    model = build("lora")
    shape = model_shape(model)
    adapters = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert (shape.trained_body, shape.trained_head) == (adapters, 0)
    assert 2 * shape.forward(100) < shape.update(100) < 2.2 * shape.forward(100) + 8 * shape.layers * 96 * 5050
