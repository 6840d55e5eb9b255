"""Whatever model people bring: played, counted and trained rightly, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import BATCHED, HF_ONLY, REFUSED, UNTRAINED, WINDOW, config_of, model_of, policy_of
from stub_session import StubSession
from torch.utils.flop_counter import FlopCounterMode

from algorithms.grpo import GRPO, GRPOConfig
from policies import decoder
from policies.api import Sampling
from policies.branches import Branch, score_branches
from policies.flops import model_shape
from policies.language_model import LanguageModel
from policies.memory import skeleton_of
from policies.source import SAMPLERS
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

PLAYED = [*((name, sampler) for name in BATCHED for sampler in SAMPLERS), *((name, "hf") for name in HF_ONLY)]
TOLERANCE = 1e-3
"""Of log-probabilities: float32 sums in another order, through weights ten times as large as usual."""


@pytest.mark.parametrize(("name", "sampler"), PLAYED)
def test_what_is_sampled_has_the_probability_of_a_plain_pass(name: str, sampler: str, tiny: LanguageModel) -> None:
    policy = policy_of(name, tiny, sampler)
    task = Wordle(WordleConfig(max_action_tokens=9, max_turns=3))
    rollouts, _ = policy.play(task, task.problems("train")[:3], 2, Sampling(logprobs=True, batch_size=4), seed=0)
    for rollout in rollouts:
        ids = rollout.prompt_ids + rollout.completion_ids
        assert len(ids) > WINDOW + 5
        with torch.no_grad():
            logprobs = policy.model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        own = logprobs[len(rollout.prompt_ids) - 1 : -1].gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0]
        written = torch.tensor(rollout.mask, dtype=torch.bool)
        torch.testing.assert_close(torch.tensor(rollout.logprobs), own[written], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", HF_ONLY)
def test_what_the_batched_sampler_would_get_wrong_is_refused_in_one_line(name: str, tiny: LanguageModel) -> None:
    with pytest.raises(BadInput) as caught:
        policy_of(name, tiny)
    assert HF_ONLY[name][1] in str(caught.value)
    assert str(caught.value).endswith("use policy.sampler=hf")


def test_a_decoder_that_gives_other_logits_is_refused(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    right = decoder.additive_mask
    monkeypatch.setattr(decoder, "additive_mask", lambda *args: right(*args).roll(1, -1))
    with pytest.raises(BadInput, match=r"its logits come out \d+% off"):
        policy_of("qwen3", tiny)


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gemma3_text", "gpt_oss", "opt"])
def test_what_ifs_are_scored_as_a_plain_pass_would(name: str, tiny: LanguageModel) -> None:
    policy = policy_of(name, tiny)
    trunk = [(37 * place) % 200 for place in range(3 * WINDOW)]
    branch = Branch(at=2 * WINDOW, context=[7, 8, 9], target=[(11 * place) % 200 for place in range(WINDOW)])
    (scores,), _ = score_branches(policy, [trunk], [[branch, branch]], 1.0)
    row = trunk[: branch.at] + branch.context + branch.target
    with torch.no_grad():
        logprobs = policy.model(torch.tensor([row]), use_cache=False).logits[0].log_softmax(-1)
    own = logprobs[-WINDOW - 1 : -1].gather(1, torch.tensor(branch.target)[:, None])[:, 0]
    for found in scores:
        torch.testing.assert_close(found, own, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_policy_is_refused_before_and_after_loading(name: str, tiny: LanguageModel) -> None:
    for attempt in (lambda: policy_of(name, tiny, "hf"), lambda: skeleton_of(config_of(name), None)):
        with pytest.raises(BadInput, match=REFUSED[name][1]):
            attempt()


@pytest.mark.parametrize("name", [*BATCHED, *HF_ONLY])
def test_flops_and_memory_are_counted(name: str) -> None:
    model = model_of(name)
    model.set_attn_implementation("eager")
    if any(".experts." in parameter for parameter, _ in model.named_parameters()):
        model.set_experts_implementation("eager")
    shape, tokens = model_shape(model), 100
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens)[None], use_cache=False)
    # The eager kernel also multiplies the masked half; Llama 4 runs every token through every expert, times 0.
    masked = 4.0 * shape.layers * shape.attention_width * tokens * (tokens - 1) / 2
    idle = 2.0 * tokens * 2 * (3 * 48 * 96) if name == "llama4_text" else 0.0
    assert shape.forward(tokens) + masked + idle == pytest.approx(counter.get_total_flops(), rel=0.01)
    found = skeleton_of(config_of(name), None)
    assert found.weights == sum(parameter.numel() for parameter in model.parameters())


def test_the_memory_formula_knows_how_wide_the_layers_are_that_one_token_meets() -> None:
    names = {"gpt2": 4 * 48, "bloom": 4 * 48, "opt": 96, "qwen3_moe": 2 * 32, "mixtral": 2 * 96, "llama": 96}
    assert {name: skeleton_of(config_of(name), None).inner for name in names} == names


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("name", "positions"), [("gpt2", "n_positions"), ("opt", "max_position_embeddings")])
def test_learned_positions_that_an_episode_outgrows_are_named(
    name: str, positions: str, sampler: str, tiny: LanguageModel
) -> None:
    policy = policy_of(name, tiny, sampler, **{positions: 96})
    task = Wordle(WordleConfig(max_action_tokens=30))
    with pytest.raises(BadInput, match=r"96 learned positions, and an episode may come to \d+ tokens; lower task\."):
        policy.play(task, task.problems("train")[:2], 1, Sampling(), seed=0)
    with pytest.raises(BadInput, match="96 learned positions"):
        policy.sample([[5] * 80], 30, Sampling(), seed=0)
    policy.sample([[5] * 66], 30, Sampling(), seed=0)


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("name", [name for name in (*BATCHED, *HF_ONLY) if name not in UNTRAINED])
def test_grpo_trains_it(name: str, adapter: bool, tiny: LanguageModel, tmp_path: Path) -> None:
    policy = policy_of(name, tiny, "hf" if name in HF_ONLY else "batched", adapter)
    before: dict[str, Any] = {key: each.clone() for key, each in policy.model.named_parameters() if each.requires_grad}
    task = GsmSynth(GsmSynthConfig(max_action_tokens=12))
    config = GRPOConfig(learning_rate=1e-3, problems_per_update=2, group_size=4)
    session = StubSession(policy, task, tmp_path, updates=1)
    algorithm = GRPO(config)
    # The random model is never right: any numbers that differ make a gradient.
    algorithm.credit = lambda batch: torch.tensor([1.0, -1.0] * 4)  # type: ignore[method-assign]
    algorithm.improve(policy, task, session)
    moved = [key for key, each in policy.model.named_parameters() if each.requires_grad and not each.equal(before[key])]
    assert len(moved) > len(before) / 3
    assert all(bool(each.isfinite().all()) for each in policy.model.parameters())
