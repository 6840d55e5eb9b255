"""What the loss is told of its tokens, against TRL's own pass over everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from test_trl_hooks import small_trainer

from policies.language_model import LanguageModel


def test_tokens_in_the_loss_have_trls_logprobs_entropies_and_gradients(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    model, vocabulary = trainer.model, len(tiny.tokenizer)
    torch.manual_seed(0)
    prompts, completions = torch.tensor([3, 7, 1, 5]), torch.tensor([6, 2, 9, 1])
    prompt_mask = (torch.arange(7) >= 7 - prompts[:, None]).long()
    completion_mask = (torch.arange(9) < completions[:, None]).long()
    ids, mask = torch.randint(5, vocabulary, (4, 16)), torch.cat([prompt_mask, completion_mask], 1)
    in_loss = completion_mask * (torch.rand(4, 9) < 0.6)
    in_loss[3] = 0
    weights = torch.randn(4, 9)
    found: list[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]] = []
    for trainer.in_loss in (in_loss, None):
        model.zero_grad()
        logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, 9, compute_entropy=True)
        (logprobs * in_loss * weights).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found.append((logprobs * in_loss, entropies * in_loss, gradients))
    ours, theirs = found
    assert in_loss.sum() > 5
    torch.testing.assert_close(ours[:2], theirs[:2], rtol=1e-5, atol=1e-5)
    assert len(ours[2]) > 10
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-4, atol=1e-5)


def test_a_micro_batch_without_a_token_in_the_loss_gives_no_gradient(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    trainer.in_loss = torch.zeros(2, 3, dtype=torch.long)
    ids, mask = torch.randint(5, 50, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    logprobs, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 3, compute_entropy=True)
    logprobs.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())
