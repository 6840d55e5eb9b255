"""Fork GRPO: its credit by hand and by law, its one update against plain arithmetic, and the trees it refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import A_AND_B, batch_of, rollout
from short_games import ShortWordle
from stub_session import StubSession
from transformers import TrainerCallback

from algorithms.fork_grpo import EPSILON, ForkGRPO, ForkGRPOConfig, node_values
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import PolicyGradientConfig
from algorithms.trainer import RolloutTrainer
from policies.api import Rollout
from policies.language_model import LanguageModel, load_policy
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig
from tasks.wordle_turn import WordleTurn

Tree = Mapping[tuple[int, ...], float]
"""The reward of each action by the forks that lead to it."""


def leaves(tree: Tree, group: int = 0) -> list[Rollout]:
    """The rollouts of a tree, one per action that nothing follows."""
    parents = {node[:-1] for node in tree}
    found = []
    for leaf in sorted(node for node in tree if node not in parents):
        each = rollout(*((tree[leaf[: t + 1]], 0) for t in range(len(leaf))))
        each.forks, each.group = list(leaf), group
        found.append(each)
    return found


def credit(*trees: Tree, **settings: Any) -> dict[tuple[int, ...], float]:
    """The advantage of each action, which must be that of each of its tokens, by group and forks."""
    rollouts = [each for group, tree in enumerate(trees) for each in leaves(tree, group)]
    batch = batch_of(*rollouts, group_size=1)
    advantages = ForkGRPO(ForkGRPOConfig(**settings)).credit(batch)
    found: dict[tuple[int, ...], float] = {}
    for b, each in enumerate(rollouts):
        for t, turn in enumerate(each.turns):
            (value,) = set(advantages[b, turn.start : turn.end].tolist())
            if bool(batch.action_mask[b, turn.start]):
                assert each.node(t) not in found, "an action is trained twice"
                found[each.node(t)] = value
            else:
                assert value == 0
    assert set(found) == {each.node(t) for each in rollouts for t in range(len(each.turns))}
    return found


UNEVEN: Tree = {(0,): 1.0, (1,): 0.0, (1, 0): 0.5, (1, 1): 0.0, (1, 1, 0): 1.0, (1, 1, 1): 0.0}


@st.composite
def a_tree(draw: st.DrawFn, forks: int = 2, turns: int = 3) -> Tree:
    """A tree in which any action may end the game."""
    tree: dict[tuple[int, ...], float] = {}
    states: list[tuple[int, ...]] = [()]
    for _ in range(turns):
        tried = [(*state, fork) for state in states for fork in range(forks)]
        tree |= {node: draw(st.floats(-1, 1, width=32)) for node in tried}
        states = [node for node in tried if not draw(st.booleans())]
    return tree


def test_the_value_of_an_action_is_its_reward_and_the_mean_value_of_what_was_tried_after_it() -> None:
    values = node_values(batch_of(*leaves(UNEVEN), group_size=1))
    assert {node: value.tolist() for node, value in values.items()} == {
        (0,): [1.0, 0.5],
        (0, 1): [0.5, 0.5],
        (0, 1, 1): [1.0, 0.0],
    }


def test_winning_early_is_not_outvoted_by_the_many_leaves_of_games_that_went_on() -> None:
    tree: Tree = {(0,): 0.0, (1,): 0.6, (0, 0): 1.0, (0, 1): 0.0} | {(0, 1, fork): 0.0 for fork in (0, 1)}
    found = credit(tree)
    assert found[0, 0] == pytest.approx(-found[0, 1])
    assert node_values(batch_of(*leaves(tree), group_size=1))[0,].tolist() == pytest.approx([0.5, 0.6])


@given(a_tree())
def test_a_value_is_the_expected_return_of_a_random_way_down(tree: Tree) -> None:
    values = node_values(batch_of(*leaves(tree), group_size=1))
    parents = {node[:-1] for node in tree}
    ends = [node for node in tree if node not in parents]
    for node in tree:
        below = [leaf for leaf in ends if leaf[: len(node)] == node]
        returns = [sum(tree[leaf[: t + 1]] for t in range(len(node) - 1, len(leaf))) for leaf in below]
        shares = [0.5 ** (len(leaf) - len(node)) for leaf in below]
        assert sum(shares) == pytest.approx(1)
        expected = sum(share * value for share, value in zip(shares, returns, strict=True))
        assert float(values[0, *node[:-1]][node[-1]]) == pytest.approx(expected, abs=1e-5)


@given(a_tree(), a_tree(), st.booleans())
def test_advantages_of_a_states_actions_sum_to_zero_and_are_finite(one: Tree, other: Tree, scale: bool) -> None:
    found = credit(one, other, scale_rewards=scale)
    assert all(math.isfinite(value) for value in found.values())
    states = {node[:-1] for node in found}
    assert all(abs(sum(found[node] for node in found if node[:-1] == state)) < 1e-3 for state in states)


@given(a_tree())
def test_one_trees_credit_does_not_depend_on_anothers(tree: Tree) -> None:
    alone, beside = credit(tree), credit(UNEVEN, tree)
    assert {node[1:]: value for node, value in beside.items() if node[0] == 1} == {
        node[1:]: value for node, value in alone.items()
    }


def test_a_state_whose_actions_all_lead_to_the_same_gets_no_credit() -> None:
    found = credit(UNEVEN)
    assert found[0, 1, 0] == found[0, 1, 1] == 0
    assert found[0, 0] == pytest.approx(0.25 / (math.sqrt(0.125) + EPSILON))
    assert credit({(0,): 0.3, (1,): 0.3, (2,): 0.3}) == {(0, 0): 0, (0, 1): 0, (0, 2): 0}


def test_without_scaling_the_advantage_is_the_difference_from_the_mean() -> None:
    assert credit(UNEVEN, scale_rewards=False)[0, 0] == 0.25


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)), min_size=8, max_size=8))
def test_with_one_turn_it_is_grpos_credit(rewards: list[tuple[float, float]]) -> None:
    plain = [rollout(pair) for pair in rewards]
    trees = [rollout(pair) for pair in rewards]
    for index, each in enumerate(trees):
        each.group, each.forks = divmod(index, 4)[0], [index % 4]
    batch = batch_of(*trees, group_size=1)
    theirs = GRPO(GRPOConfig()).credit(batch_of(*plain, group_size=4))
    ours = ForkGRPO(ForkGRPOConfig()).credit(batch)
    torch.testing.assert_close(ours, theirs[:, None] * batch.action_mask, rtol=0, atol=1e-6)


def trained(algorithm: Any, policy: LanguageModel, task: Wordle, folder: Path, updates: int = 2) -> StubSession:
    policy.instructions = task.instructions
    session = StubSession(policy, task, folder, updates)
    algorithm.improve(policy, task, session)
    return session


def settings(**extra: Any) -> dict[str, Any]:
    return {"learning_rate": 1e-3, "problems_per_update": 4, "group_size": 4, "micro_batch_size": 8} | extra


def test_on_single_turn_tasks_it_is_grpo(tiny: LanguageModel, tmp_path: Path) -> None:
    task, other = WordleTurn(WordleConfig()), load_policy(tiny.config)
    ours = trained(ForkGRPO(ForkGRPOConfig(**settings())), tiny, task, tmp_path)
    theirs = trained(GRPO(GRPOConfig(**settings())), other, task, tmp_path)
    for key in ("loss", "reward", "solved", "grad_norm"):
        assert [step[key] for step in ours.steps] == pytest.approx([step[key] for step in theirs.steps], rel=1e-5)
    assert [step["rollouts_per_update"] for step in ours.steps] == [16, 16]
    assert ours.charges == theirs.charges
    for one, two in zip(tiny.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert any(step["grad_norm"] > 0 for step in ours.steps), "nothing was learned: an empty comparison"


class Gradients(TrainerCallback):
    """Keeps the gradients of the last update."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch_size", [4, 32])
def test_an_update_follows_the_mean_gradient_over_all_actions_each_counted_once(
    tiny: LanguageModel, tmp_path: Path, micro_batch_size: int
) -> None:
    task = ShortWordle(WordleConfig(max_turns=3))
    tiny.instructions = task.instructions
    algorithm = ForkGRPO(ForkGRPOConfig(**settings(group_size=2, micro_batch_size=micro_batch_size, max_grad_norm=1e9)))
    session = StubSession(tiny, task, tmp_path, updates=1)
    start = load_policy(tiny.config)
    trainer, gradients = RolloutTrainer(algorithm, tiny, task, session), Gradients()
    trainer.add_callback(gradients)
    trainer.train()
    assert trainer.credited is not None
    rollouts = trainer.credited[0].rollouts
    assert {len(each.turns) for each in rollouts} == {1, 2, 3}
    assert len(rollouts) < 4 * 2**3, "all trees are full: an empty test"

    loss, tokens, nodes = torch.zeros(()), 0, set()
    values = node_values(batch_of(*rollouts, group_size=1, components=task.components))
    for each in rollouts:
        for t, turn in enumerate(each.turns):
            if each.node(t) in nodes:
                continue
            nodes.add(each.node(t))
            siblings = values[each.node(t - 1)]
            advantage = (siblings[each.forks[t]] - siblings.mean()) / (siblings.std() + EPSILON)
            before = each.prompt_ids + each.completion_ids[: turn.start]
            action = torch.tensor(each.completion_ids[turn.start : turn.end])
            logits = start.model(torch.tensor([before + action.tolist()])).logits[0, len(before) - 1 : -1]
            loss = loss - advantage * logits.log_softmax(-1).gather(1, action[:, None]).sum()
            tokens += len(action)
    (loss / tokens).backward()
    assert len(gradients.found) > 10
    for name, parameter in start.model.named_parameters():
        torch.testing.assert_close(gradients.found[name], parameter.grad, rtol=1e-3, atol=1e-6)
    assert 0.5 * tokens < session.charges[0][1]["trained_tokens"] <= tokens
    assert session.steps[0]["actions_per_update"] == len(nodes)
    assert session.steps[0]["rollouts_per_update"] == len(rollouts)


def test_the_reported_reward_is_that_of_random_ways_down() -> None:
    batch = batch_of(*leaves(UNEVEN), *leaves({(0,): 1.0, (1,): 0.0}, group=1), group_size=1)
    # The first leaf is an early win: were all leaves alike, it would count a third and not a half.
    facts = ForkGRPO(ForkGRPOConfig(group_size=2)).facts(batch)
    assert facts["reward"] == pytest.approx((0.75 + 0.5) / 2)
    assert facts["reward/a"] == pytest.approx(facts["reward"])
    assert facts["rollouts_per_update"] == 6
    assert facts["actions_per_update"] == 8
    assert facts["groups_without_signal"] == 1 / 4


class Left(StubSession):
    """A session with a budget."""

    def __init__(self, policy: LanguageModel, task: Wordle, folder: Path, **left: float) -> None:
        super().__init__(policy, task, folder, updates=1)
        self.left = left

    def remaining(self) -> dict[str, float]:
        return self.left


def test_a_full_update_never_takes_more_than_was_estimated(untrained: LanguageModel, tmp_path: Path) -> None:
    task = Wordle(WordleConfig(max_turns=3, max_action_tokens=8))
    algorithm = ForkGRPO(ForkGRPOConfig(**settings(group_size=2)))
    algorithm.credit = lambda batch: batch.action_mask.float()  # type: ignore[method-assign]
    session = trained(algorithm, untrained, task, tmp_path, updates=1)
    estimated = algorithm.full_update(untrained, task)
    assert estimated["rollouts"] == session.steps[0]["rollouts_per_update"] == 32
    assert estimated["tokens"] == 4 * (2 + 4 + 8) * 8
    assert 0.9 * estimated["tokens"] < session.charges[0][1]["trained_tokens"] <= estimated["tokens"]


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({"rollouts": 2_097_151.0}, ["2,097,152 rollouts", "2,097,151"]),
        ({"tokens": 1e6}, ["tokens", "1,000,000"]),
        ({"updates": 5.0, "flops": 2e12}, ["flops", "2.0e+12"]),
    ],
)
def test_a_tree_that_does_not_fit_is_refused_with_its_size(
    tiny: LanguageModel, tmp_path: Path, left: dict[str, float], words: list[str]
) -> None:
    task = Wordle(WordleConfig())
    with pytest.raises(BadInput) as caught:
        ForkGRPO(ForkGRPOConfig()).check(tiny, task, Left(tiny, task, tmp_path, **left))
    for word in ["algo.group_size=8", "262,144 rollouts per problem", "2,097,152 per update", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("forks", "turns"), [(2, 6), (3, 3), (8, 1)])
def test_a_tree_that_fits_the_quick_budget_passes(tiny: LanguageModel, tmp_path: Path, forks: int, turns: int) -> None:
    task = Wordle(WordleConfig(max_turns=turns))
    tiny.instructions = task.instructions
    ForkGRPO(ForkGRPOConfig(group_size=forks)).check(tiny, task, Left(tiny, task, tmp_path, flops=2e12))


def test_the_command_line_refuses_it_before_anything_is_measured(tmp_path: Path) -> None:
    words = ["run", "+algo=fork_grpo", "task=wordle", "policy.device=cpu", f"results.dir={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "262,144 rollouts per problem" in done.stderr
    assert "val after" not in done.stdout
    assert not list(tmp_path.glob("*/curve.parquet"))


def test_micro_batches_divide_the_rows_of_an_update() -> None:
    config = PolicyGradientConfig(name="x", micro_batch_size=48)
    assert config.micro_batch(64) == 32
    assert config.micro_batch(8) == 8


def test_components_are_summed_with_their_weights() -> None:
    one, two = rollout((1.0, 1.0)), rollout((0.0, 0.0))
    one.forks, two.forks = [0], [1]
    values = node_values(batch_of(one, two, group_size=1))
    assert values[0,].tolist() == [A_AND_B[0].weight + A_AND_B[1].weight, 0.0]
