"""The FLOP formula against torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2Config, Qwen2ForCausalLM

from policies.flops import model_shape
from policies.tiny.train import build_model


def models() -> dict[str, torch.nn.Module]:
    settings = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 6}
    qwen = Qwen2Config(vocab_size=300, num_key_value_heads=2, tie_word_embeddings=False, **settings)
    return {"tiny": build_model(230, 0, 2), "qwen2": Qwen2ForCausalLM(qwen)}


@pytest.mark.parametrize("name", ["tiny", "qwen2"])
def test_a_forward_and_a_backward_pass_cost_what_the_formula_says(name: str) -> None:
    model = models()[name]
    model.set_attn_implementation("eager")  # type: ignore[operator]
    tokens = 200
    with FlopCounterMode(display=False) as counter:
        loss = model(torch.randint(0, 200, (1, tokens))).logits.float().logsumexp(-1).mean()
        forward = counter.get_total_flops()
        loss.backward()
    shape = model_shape(model)
    # The eager kernel also multiplies the masked half of the attention matrix, which the formula leaves out.
    masked = 4.0 * shape.layers * shape.attention_width * (tokens * tokens - tokens * (tokens + 1) / 2)
    assert shape.forward(tokens) + masked == pytest.approx(forward, rel=0.01)
    assert shape.update(tokens) + 3 * masked == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_decoding_with_a_cache_costs_as_much_as_one_pass_without_its_heads() -> None:
    shape = model_shape(build_model(230, 0, 2))
    pieces = shape.forward(50, heads=0) + sum(shape.forward(1, context=50 + i) for i in range(30))
    assert pieces == pytest.approx(shape.forward(80, heads=30))
