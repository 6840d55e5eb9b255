"""What the loss gets of its tokens, against TRL's own pass over everything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trl_hooks import small_trainer
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import GRPOTrainer

from algorithms import token_logprobs
from algorithms.trainer import RolloutTrainer
from policies.language_model import LanguageModel


@pytest.mark.parametrize("shared", [False, True])
def test_tokens_in_the_loss_have_trls_logprobs_entropies_and_gradients(
    tiny: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    read = watched_prompts(monkeypatch) if shared else []
    trainer = small_trainer(tiny, tmp_path)
    model, vocabulary = trainer.model, len(tiny.tokenizer)
    torch.manual_seed(0)
    prompts, completions = torch.tensor([3, 7, 1, 5, 7]), torch.tensor([6, 2, 9, 1, 4])
    prompt_mask = (torch.arange(7) >= 7 - prompts[:, None]).long()
    completion_mask = (torch.arange(9) < completions[:, None]).long()
    ids, mask = torch.randint(5, vocabulary, (5, 16)), torch.cat([prompt_mask, completion_mask], 1)
    ids[4, :7] = ids[1, :7]
    in_loss = completion_mask * (torch.rand(5, 9) < 0.6)
    in_loss[3] = 0
    weights = torch.randn(5, 9)
    found: list[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]] = []
    trainer.parts = [{"tool_mask": in_loss}]
    for whose in (RolloutTrainer, GRPOTrainer):
        model.zero_grad()
        logprobs, entropies, _ = whose._get_per_token_logps_and_entropies(
            trainer, model, ids, mask, 9, compute_entropy=True
        )
        (logprobs * in_loss * weights).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((logprobs * in_loss, entropies * in_loss, gradients))
    assert read == ([4] if shared else []), "prompts, of which two rows have the same"
    ours, theirs = found
    assert in_loss.sum() > 5
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=1e-5, atol=1e-5)
    assert len(ours[2]) > 10
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-4, atol=5e-5)


def watched_prompts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have prompts shared whatever it saves; the list gets the number of different ones of each pass."""
    counts: list[int] = []

    def prefixes(*args: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = original(*args)
        counts.append(len(found[0]))
        return found

    original = token_logprobs.prefixes
    monkeypatch.setattr(token_logprobs, "prefixes", prefixes)
    monkeypatch.setattr(token_logprobs, "WORTH_SHARING", math.inf)
    return counts


def test_prompts_of_one_token_have_nothing_to_share(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    ids, mask = torch.full((3, 4), 7), torch.ones(3, 4, dtype=torch.long)
    found = []
    trainer.parts = [{"tool_mask": torch.ones(3, 3, dtype=torch.long)}]
    for whose in (RolloutTrainer, GRPOTrainer):
        asked = (trainer, trainer.model, ids, mask, 3)
        found.append(whose._get_per_token_logps_and_entropies(*asked, compute_entropy=True)[:2])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", [{"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}, {}])
def test_a_model_whose_keys_slide_shares_no_prompt(change: dict[str, Any]) -> None:
    sizes = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    model = Qwen2ForCausalLM(Qwen2Config(num_attention_heads=2, num_key_value_heads=1, **sizes, **change))
    assert token_logprobs.keeps_keys(model) == (not change)
    model.train()
    model.gradient_checkpointing_enable()
    assert not token_logprobs.keeps_keys(model)


def test_a_micro_batch_without_a_token_in_the_loss_gives_no_gradient(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    trainer.parts = [{"tool_mask": torch.zeros(2, 3, dtype=torch.long)}]
    ids, mask = torch.randint(5, 50, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    logprobs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 3, compute_entropy=True)
    logprobs.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())
