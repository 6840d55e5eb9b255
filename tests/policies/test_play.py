"""Rollouts as tokens: nothing is encoded twice, and what was sampled is what the model would say."""

from __future__ import annotations

import pytest
import torch

from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig


@pytest.fixture(scope="module")
def wordle() -> Wordle:
    return Wordle(WordleConfig(max_action_tokens=40))


def teacher_forced(policy: LanguageModel, rollout: Rollout) -> torch.Tensor:
    """Logits [completion tokens, vocabulary] of one plain forward pass over the whole rollout."""
    ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
    with torch.no_grad():
        logits = policy.model(ids).logits[0].float()
    return logits[len(rollout.prompt_ids) - 1 : -1]


def test_greedy_tokens_of_six_turns_are_those_of_a_forward_pass(tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, _ = tiny.play(wordle, wordle.problems("val")[:12], 1, Sampling(temperature=0), seed=0)
    assert max(len(rollout.turns) for rollout in rollouts) == 6
    assert len({len(rollout.completion_ids) for rollout in rollouts}) > 3, "rows of one length would not test padding"
    for rollout in rollouts:
        best = teacher_forced(tiny, rollout).argmax(-1).tolist()
        written = [(b, t) for b, t, m in zip(best, rollout.completion_ids, rollout.mask, strict=True) if m]
        assert all(b == t for b, t in written)


def test_sampled_tokens_follow_the_distribution_of_a_forward_pass(tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, _ = tiny.play(wordle, wordle.problems("val")[:16], 4, Sampling(), seed=1)
    surprise, expected = [], []
    for rollout in rollouts:
        logprobs = teacher_forced(tiny, rollout).log_softmax(-1)
        mask = torch.tensor(rollout.mask, dtype=torch.bool)
        surprise.append(-logprobs.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0][mask])
        expected.append(-(logprobs.exp() * logprobs).sum(1)[mask])
    difference = torch.cat(surprise) - torch.cat(expected)
    # The mean surprise of sampled tokens is the entropy; five standard errors leave room for chance only.
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / difference.numel() ** 0.5


def test_decoded_actions_are_the_masked_tokens(tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, cost = tiny.play(wordle, wordle.problems("val")[:6], 2, Sampling(), seed=2)
    for rollout in rollouts:
        assert len(rollout.mask) == len(rollout.completion_ids)
        spans = [range(turn.start, turn.end) for turn in rollout.turns]
        assert {i for span in spans for i in span} == {i for i, m in enumerate(rollout.mask) if m}
        for turn in rollout.turns:
            assert tiny.chat.text(rollout.completion_ids[turn.start : turn.end]) == turn.action
    assert cost.generated_tokens == sum(sum(rollout.mask) for rollout in rollouts)
    assert cost.rollouts == 12


def test_a_whole_game_reads_like_the_chat_template_renders_it(tiny: LanguageModel, wordle: Wordle) -> None:
    tiny.instructions = wordle.instructions
    rollouts, _ = tiny.play(wordle, wordle.problems("val")[:8], 1, Sampling(), seed=3)
    eos = tiny.tokenizer.eos_token_id
    whole = [r for r in rollouts if all(r.completion_ids[turn.end - 1] == eos for turn in r.turns)]
    assert whole
    for rollout in whole:
        chat = [{"role": "system", "content": wordle.instructions}, *rollout.messages]
        rendered = tiny.tokenizer.apply_chat_template(chat, tokenize=False)
        assert tiny.tokenizer.decode(rollout.prompt_ids + rollout.completion_ids) == rendered


def test_an_action_that_is_cut_off_ends_with_the_environments_end_token(untrained: LanguageModel) -> None:
    task = Wordle(WordleConfig(max_action_tokens=5, max_turns=2))
    rollouts, _ = untrained.play(task, task.problems("val")[:4], 1, Sampling(), seed=0)
    eos = untrained.tokenizer.eos_token_id
    cut = [r for r in rollouts if r.turns[0].end == 5 and r.completion_ids[4] != eos]
    assert cut
    assert all(r.completion_ids[5] == eos and r.mask[5] == 0 for r in cut)


def test_the_same_seed_gives_the_same_rollouts_and_another_does_not(tiny: LanguageModel, wordle: Wordle) -> None:
    def ids(seed: int) -> list[list[int]]:
        return [r.completion_ids for r in tiny.play(wordle, wordle.problems("val")[:4], 2, Sampling(), seed)[0]]

    assert ids(5) == ids(5)
    assert ids(5) != ids(6)


def test_nucleus_sampling_never_draws_outside_the_nucleus() -> None:
    from policies.sampler import draw

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)
    chances = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert set(draw(logits, Sampling(top_p=0.7), chances).tolist()) == {0, 1}


def test_a_saved_policy_plays_the_same_after_loading(tiny: LanguageModel, tmp_path: object) -> None:
    from pathlib import Path

    from policies.language_model import load_policy
    from policies.source import PolicyConfig

    folder = Path(str(tmp_path)) / "saved"
    task = GsmSynth(GsmSynthConfig(problems_per_level=40))
    tiny.instructions = "Solve the problem. End with #### and the answer. Check each result."
    tiny.save(folder)
    again = load_policy(PolicyConfig(name="again", path=str(folder), device="cpu", dtype="float32"))
    assert again.instructions == tiny.instructions
    assert again.state_hash() == tiny.state_hash()
    again.max_action_tokens = tiny.max_action_tokens
    problems = task.problems("train")[:8]
    played = [[r.completion_ids for r in p.play(task, problems, 2, Sampling(), 0)[0]] for p in (tiny, again)]
    assert played[0] == played[1]
