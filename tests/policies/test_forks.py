"""Games played as trees: forks share what came before them exactly, and everything is paid for once."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from short_games import ShortWordle

from algorithms.batch import masks_once
from policies.api import PlayCost, Rollout, Sampling
from policies.forks import play_forks
from policies.language_model import LanguageModel
from tasks.wordle import Wordle, WordleConfig
from tasks.wordle_turn import WordleTurn


@pytest.fixture(scope="module")
def wordle() -> Wordle:
    return Wordle(WordleConfig(max_turns=4, max_action_tokens=40))


def grown(
    policy: LanguageModel,
    task: Wordle,
    problems: int = 4,
    forks: int = 2,
    batch_size: int = 256,
    temperature: float = 1,
) -> tuple[list[Rollout], PlayCost]:
    policy.instructions = task.instructions
    sampling = Sampling(batch_size=batch_size, temperature=temperature)
    return play_forks(policy, task, task.problems("train")[:problems], forks, sampling, seed=1)


def logits_of(policy: LanguageModel, rollout: Rollout) -> torch.Tensor:
    """Logits [completion tokens, vocabulary] of one plain forward pass over the whole rollout."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([rollout.prompt_ids + rollout.completion_ids])).logits[0].float()
    return logits[len(rollout.prompt_ids) - 1 : -1]


def test_every_state_that_is_not_the_end_is_forked(tiny: LanguageModel) -> None:
    rollouts, _ = grown(tiny, ShortWordle(WordleConfig(max_turns=3)), problems=3, forks=3)
    tried: dict[tuple[int, ...], set[int]] = {}
    for rollout in rollouts:
        assert len(rollout.forks) == len(rollout.turns) == len(rollout.knowledge)
        for turn, fork in enumerate(rollout.forks):
            tried.setdefault(rollout.node(turn - 1), set()).add(fork)
    assert all(forks == {0, 1, 2} for forks in tried.values())
    assert len({rollout.node(2) for rollout in rollouts}) == len(rollouts)
    assert {len(rollout.turns) for rollout in rollouts} == {1, 2, 3}, "no tree is uneven: an empty test"


def test_leaves_stand_by_problem_and_in_the_order_of_their_forks(tiny: LanguageModel, wordle: Wordle) -> None:
    rollouts, _ = grown(tiny, wordle, batch_size=6)
    names = [rollout.node(len(rollout.turns)) for rollout in rollouts]
    assert names == sorted(names)
    assert [rollout.problem.id for rollout in rollouts] == [
        wordle.problems("train")[rollout.group].id for rollout in rollouts
    ]


@pytest.mark.parametrize("batch_size", [256, 6, 1])
def test_rollouts_that_share_an_action_share_its_tokens_and_all_before_it(
    tiny: LanguageModel, wordle: Wordle, batch_size: int
) -> None:
    seen: dict[tuple[int, ...], tuple[list[int], object]] = {}
    shared = 0
    for rollout in grown(tiny, wordle, problems=2, batch_size=batch_size)[0]:
        for t, turn in enumerate(rollout.turns):
            way = (rollout.prompt_ids + rollout.completion_ids[: turn.end], turn)
            shared += rollout.node(t) in seen
            assert seen.setdefault(rollout.node(t), way) == way
    assert shared > 10
    assert len({tuple(ids) for ids, _ in seen.values()}) > len(seen) / 2, "forks that all say the same test nothing"


@pytest.mark.parametrize("batch_size", [256, 6])
def test_a_fork_goes_on_from_what_the_model_has_read(tiny: LanguageModel, wordle: Wordle, batch_size: int) -> None:
    rollouts, _ = grown(tiny, wordle, problems=12, batch_size=batch_size, temperature=0)
    assert max(len(rollout.turns) for rollout in rollouts) == 4
    for rollout in rollouts:
        best = logits_of(tiny, rollout).argmax(-1).tolist()
        written = [(b, t) for b, t, m in zip(best, rollout.completion_ids, rollout.mask, strict=True) if m]
        assert all(b == t for b, t in written)


def test_sampled_forks_follow_the_distribution_of_a_forward_pass(tiny: LanguageModel, wordle: Wordle) -> None:
    rollouts, _ = grown(tiny, wordle, problems=8, batch_size=24)
    differences = []
    for rollout, mask in zip(rollouts, masks_once(rollouts), strict=True):
        logprobs = logits_of(tiny, rollout).log_softmax(-1)
        surprise = -logprobs.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0]
        entropy = -(logprobs.exp() * logprobs).sum(1)
        differences.append((surprise - entropy)[torch.tensor(mask, dtype=torch.bool)])
    difference = torch.cat(differences)
    # The mean surprise of sampled tokens is the entropy; five standard errors leave room for chance only.
    assert abs(float(difference.mean())) < 5 * float(difference.std()) / difference.numel() ** 0.5


def test_a_game_is_judged_as_if_it_had_been_played_alone(tiny: LanguageModel, wordle: Wordle) -> None:
    for rollout in grown(tiny, wordle)[0]:
        episode = wordle.start(rollout.problem)
        for turn, knowledge in zip(rollout.turns, rollout.knowledge, strict=True):
            assert episode.knowledge() == knowledge
            assert episode.step(turn.action) == turn.verdict
        assert episode.done
        assert episode.messages == rollout.messages


def test_each_sampled_token_is_paid_for_once_and_only_what_is_read_anew_is_paid_again(
    tiny: LanguageModel, wordle: Wordle
) -> None:
    rollouts, cost = grown(tiny, wordle)
    assert cost.rollouts == len(rollouts)
    assert cost.generated_tokens == sum(map(sum, masks_once(rollouts)))
    assert cost.generated_tokens < sum(sum(rollout.mask) for rollout in rollouts)
    actions: dict[tuple[int, ...], tuple[int, int, int]] = {}
    for rollout in rollouts:
        end = 0
        for t, turn in enumerate(rollout.turns):
            said = turn.start - end if t else len(rollout.prompt_ids)
            before = len(rollout.prompt_ids) + end if t else 0
            actions[rollout.node(t)] = (before, said, turn.end - turn.start)
            end = turn.end
    assert cost.prompt_tokens == sum(said for _, said, _ in actions.values())
    flops = sum(tiny.shape.forward(said + own, before, heads=own) for before, said, own in actions.values())
    assert cost.flops == pytest.approx(flops, rel=1e-12)


def test_with_one_turn_a_tree_is_a_group(tiny: LanguageModel) -> None:
    task = WordleTurn(WordleConfig())
    tiny.instructions = task.instructions
    problems = task.problems("train")[:5]
    plain, plain_cost = tiny.play(task, problems, 4, Sampling(), seed=3)
    trees, cost = play_forks(tiny, task, problems, 4, Sampling(), seed=3)
    assert [r.completion_ids for r in trees] == [r.completion_ids for r in plain]
    assert [r.verdicts for r in trees] == [r.verdicts for r in plain]
    assert [r.group for r in trees] == [r.group for r in plain]
    plain_cost.score_s = cost.score_s
    assert cost == plain_cost


def test_the_cost_of_trees_is_a_power_of_the_turns_and_that_of_games_a_multiple(untrained: LanguageModel) -> None:
    trees, games, actions = [], [], []
    for turns in (1, 2, 3, 4):
        task = Wordle(WordleConfig(max_turns=turns, max_action_tokens=8))
        untrained.instructions = task.instructions
        problems = task.problems("train")[:3]
        rollouts, cost = play_forks(untrained, task, problems, 2, Sampling(), seed=0)
        assert len(rollouts) == cost.rollouts == 3 * 2**turns
        actions.append(len({rollout.node(t) for rollout in rollouts for t in range(turns)}))
        trees.append(cost)
        games.append(untrained.play(task, problems, 2, Sampling(), seed=0)[1])
    assert actions == [3 * (2 ** (turns + 1) - 2) for turns in (1, 2, 3, 4)]
    written = [cost.generated_tokens for cost in trees]
    new = [b - a for a, b in pairwise([0, *written])]
    assert [b / a for a, b in pairwise(new)] == pytest.approx([2, 2, 2], rel=0.25)
    assert [cost.rollouts for cost in games] == [6, 6, 6, 6]
    assert [cost.generated_tokens / games[0].generated_tokens for cost in games] == pytest.approx([1, 2, 3, 4], rel=0.1)
