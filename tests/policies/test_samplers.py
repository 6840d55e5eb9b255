"""Every sampler against plain forward passes: one distribution, whatever is batched, cached, moved or entered late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policies import batched_sampler
from policies.api import Rollout, Sampling
from policies.batched_sampler import BatchedSampler
from policies.decoder import AnyDecoder, LlamaDecoder, build_decoder
from policies.forks import play_forks
from policies.language_model import LanguageModel
from policies.sampler import draw
from policies.source import SAMPLERS
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig
from tasks.wordle_turn import WordleTurn

TOLERANCE = 1e-4
"""Of log-probabilities: float32 sums in another order."""


def with_sampler(policy: LanguageModel, name: str, model: Any = None) -> LanguageModel:
    """The same policy (or its tokenizer with another model) played by another sampler."""
    config = replace(policy.config, sampler=name)
    again = LanguageModel(config, policy.source, model or policy.model, policy.tokenizer, policy.device)
    again.instructions = policy.instructions
    return again


def small(kind: str, vocabulary: int) -> Any:
    """A random model with grouped heads, of a shape that the lean decoder knows or does not."""
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        # Weights so large that the random model has something to say.
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    if kind == "llama3 rope":
        rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
        return LlamaForCausalLM(LlamaConfig(**shape, rope_parameters=rope, attention_bias=True))
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape))
    return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=16))


@torch.no_grad()
def plain(policy: LanguageModel, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass over the whole rollout, alone: logits [completion, vocabulary] and the hidden states they come from."""
    output = policy.model(torch.tensor([rollout.prompt_ids + rollout.completion_ids]), output_hidden_states=True)
    where = slice(len(rollout.prompt_ids) - 1, -1)
    return output.logits[0, where], output.hidden_states[-1][0, where]


def check(policy: LanguageModel, rollouts: list[Rollout], temperature: float) -> None:
    """Log-probabilities and hidden states are those of a plain pass; greedy tokens are the best ones."""
    for rollout in rollouts:
        logits, states = plain(policy, rollout)
        written = torch.tensor(rollout.mask, dtype=torch.bool)
        logprobs = (logits / (temperature or 1.0)).log_softmax(-1)
        own = logprobs.gather(1, torch.tensor(rollout.completion_ids)[:, None])[written, 0]
        torch.testing.assert_close(torch.tensor(rollout.logprobs), own, rtol=0, atol=TOLERANCE)
        for turn, hidden in zip(rollout.turns, rollout.hidden, strict=True):
            torch.testing.assert_close(hidden, states[turn.start], rtol=0, atol=TOLERANCE)
        if temperature == 0:
            assert logits.argmax(-1)[written].tolist() == [
                id_ for id_, mask in zip(rollout.completion_ids, rollout.mask, strict=True) if mask
            ]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("name", SAMPLERS)
def test_six_turns_are_drawn_as_a_plain_pass_would(tiny: LanguageModel, name: str, temperature: float) -> None:
    task = Wordle(WordleConfig(max_action_tokens=40))
    policy = with_sampler(tiny, name)
    policy.instructions = task.instructions
    sampling = Sampling(temperature=temperature, hidden=True, logprobs=True, batch_size=5)
    rollouts, _ = policy.play(task, task.problems("train")[::30], 1, sampling, seed=0)
    assert max(len(rollout.turns) for rollout in rollouts) == 6
    assert len({turn.end - turn.start for rollout in rollouts for turn in rollout.turns}) > 3, "nothing ended early"
    check(policy, rollouts, temperature)


@pytest.mark.parametrize("kind", ["llama3 rope", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_models_of_other_shapes_are_too(tiny: LanguageModel, name: str, kind: str) -> None:
    model = small(kind, len(tiny.tokenizer))
    lean = LlamaDecoder if kind in ("llama3 rope", "qwen2") else AnyDecoder
    assert type(build_decoder(model)) is lean
    task = Wordle(WordleConfig(max_action_tokens=9, max_turns=3))
    policy = with_sampler(tiny, name, model)
    sampling = Sampling(hidden=True, logprobs=True)
    rollouts, _ = policy.play(task, task.problems("train")[:3], 2, sampling, seed=0)
    assert len({rollout.completion_ids[0] for rollout in rollouts}) > 1
    check(policy, rollouts, 1.0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_prompts_of_different_lengths_do_not_disturb_each_other(tiny: LanguageModel, name: str) -> None:
    task = GsmSynth(GsmSynthConfig(max_action_tokens=24))
    policy = with_sampler(tiny, name)
    policy.instructions = task.instructions
    problems = task.problems("train")[::400]
    rollouts, _ = policy.play(task, problems, 2, Sampling(logprobs=True, hidden=True, batch_size=4), seed=1)
    assert len({len(rollout.prompt_ids) for rollout in rollouts}) > 2
    check(policy, rollouts, 1.0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_forks_are_too(tiny: LanguageModel, name: str) -> None:
    task = Wordle(WordleConfig(max_turns=3))
    policy = with_sampler(tiny, name)
    policy.instructions = task.instructions
    sampling = Sampling(logprobs=True, hidden=True, batch_size=3)
    leaves, _ = play_forks(policy, task, task.problems("train")[:2], 2, sampling, seed=0)
    assert len(leaves) > 8
    assert len({tuple(leaf.completion_ids) for leaf in leaves}) > 8
    check(policy, leaves, 1.0)


def test_a_game_does_not_depend_on_those_played_beside_it(tiny: LanguageModel) -> None:
    task = Wordle(WordleConfig(max_turns=2))
    tiny.instructions = task.instructions

    def played(batch_size: int, count: int) -> list[list[int]]:
        rollouts, _ = tiny.play(task, task.problems("train")[:count], 2, Sampling(batch_size=batch_size), seed=4)
        return [rollout.completion_ids for rollout in rollouts]

    alone = played(1, 2)
    assert played(256, 6)[:4] == alone
    assert played(5, 6)[:4] == alone


@pytest.mark.parametrize("copied", [True, False])
def test_no_token_is_read_twice_and_what_is_common_once(
    tiny: LanguageModel, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = WordleTurn(WordleConfig())
    tiny.instructions = task.instructions
    prompts = [tiny.chat.prompt(tiny.instructions, task.start(each).messages) for each in task.problems("train")[:3]]
    alike = next(place for place, ids in enumerate(zip(*prompts, strict=False)) if len(set(ids)) > 1)
    assert alike > 4
    monkeypatch.setattr(batched_sampler, "WORTH_COPYING", 2 * alike + (not copied))
    sampler = tiny.sampler(40, Sampling(), 0)
    assert isinstance(sampler, BatchedSampler)
    read, forward = [], sampler.decoder.forward

    def listen(ids: torch.Tensor, places: torch.Tensor, last: torch.Tensor, *where: int) -> Any:
        read.extend(int(column) + 1 for column in last)
        return forward(ids, places, last, *where)

    sampler.decoder.forward = listen  # type: ignore[method-assign]
    for prompt in prompts * 4:
        sampler.add(prompt)
    fed, expected = set(), sum(map(len, prompts)) - copied * 2 * alike
    for action in sampler.actions():
        expected += len(action.ids) - 1
        if action.key not in fed:
            fed.add(action.key)
            expected += 4
            sampler.feed(action.key, [5, 6, 7])
    assert len(fed) == 12
    assert sum(read) == expected


@pytest.mark.parametrize("kind", ["tiny", "qwen3"])
def test_what_prompts_begin_with_may_be_a_whole_prompt_but_for_its_last_token(
    tiny: LanguageModel, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_sampler, "WORTH_COPYING", 1)
    policy = tiny if kind == "tiny" else with_sampler(tiny, "batched", small(kind, len(tiny.tokenizer)))
    sampler = policy.sampler(5, Sampling(temperature=0.0, logprobs=True), 0)
    short = list(range(10, 30))
    blocks = [short, [*short, 40], [*short, 40, 41], short]
    for block in blocks:
        sampler.add(block)
    for action in sampler.actions():
        ids = [*blocks[action.key], *action.ids]
        with torch.no_grad():
            logits = policy.model(torch.tensor([ids])).logits[0, -len(action.ids) - 1 : -1]
        assert logits.argmax(-1).tolist() == action.ids
        own = logits.log_softmax(-1).gather(1, torch.tensor(action.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(action.logprobs), own, rtol=0, atol=TOLERANCE)


def test_a_sequence_goes_on_only_from_the_action_that_was_just_yielded(tiny: LanguageModel) -> None:
    sampler = tiny.sampler(3, Sampling(), 0)
    keys = [sampler.add([3, 4]), sampler.add([3, 5])]
    action = next(iter(sampler.actions()))
    other = next(key for key in keys if key != action.key)
    with pytest.raises(ValueError, match=f"sequence {other}"):
        sampler.feed(other, [5])


def test_draws_follow_the_probabilities_at_the_temperature() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    chances = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    for temperature in (1.0, 0.5):
        wanted = (logits / temperature).softmax(-1)[0]
        tokens = draw(logits.expand(10_000, 4), Sampling(temperature=temperature), chances)
        torch.testing.assert_close(torch.bincount(tokens, minlength=4) / 10_000, wanted, rtol=0, atol=2e-4)
