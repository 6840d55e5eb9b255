"""Fork GRPO: GRPO's group at every turn. From each state that is not the end, G actions are tried; they are the group.

The straightforward, painful way to carry GRPO over to several turns: every action is compared with others from the
very same state, and an update plays G^T games per problem, where plain GRPO plays G. Relative: tree-structured GRPO,
arXiv 2509.21240, which keeps the tree within a fixed number of rollouts; here the growth is the point, and is reported.

With n an action (a node of the tree), r_n its reward summed over components, and C(n) the G actions tried after it:

    V_n = r_n + mean over c in C(n) of V_c                     r_n alone where the game is over
    A_n = (V_n - mean V) / (std V + 1e-4)                      over n and the others tried from the same state

V_n is the mean return from n on over the leaves below n, each weighted by the chance, 1/G a fork, that a random way
down ends there. (Weighted alike, leaves of games that went on would outnumber those that ended early, by winning.)
A_n goes to every token of action n. Each sampled token is in the loss once, however many leaves lie below it; the loss
is the mean over them. With one turn this is GRPO (a test).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from algorithms.grpo import EPSILON
from algorithms.policy_gradient import ZERO_VARIANCE, PolicyGradient, PolicyGradientConfig, means
from tasks.errors import require

if TYPE_CHECKING:
    from algorithms.api import Session
    from algorithms.batch import RolloutBatch
    from policies.api import Rollout, Sampling
    from policies.language_model import LanguageModel
    from tasks.api import Problem, Task

Node = tuple[int, ...]
"""See `Rollout.node`."""


@dataclass(kw_only=True)
class ForkGRPOConfig(PolicyGradientConfig):
    """Settings of fork_grpo. `group_size` is the number of actions tried from every state."""

    name: str = "fork_grpo"
    scale_rewards: bool = True
    """Divide by the deviation among the actions tried from a state."""


class ForkGRPO(PolicyGradient):
    """Group-relative policy optimisation on whole trees."""

    Config = ForkGRPOConfig
    config: ForkGRPOConfig

    def rollouts_per_problem(self, task: Task) -> int:
        """Leaves of a full tree."""
        return int(self.config.group_size**task.max_turns)

    def check(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Refuse a tree that does not fit the budget.

        Raises:
            BadInput: one update on full trees would take more than there is, the numbers are named; or a greedy policy.
        """
        super().check(policy, task, session)
        forks, turns, problems = self.config.group_size, task.max_turns, self.config.problems_per_update
        needed = self.full_update(policy, task)
        what = (
            f"algo.group_size={forks}: {turns} turns fork into {forks**turns:,} rollouts per problem, "
            f"{problems * forks**turns:,} per update"
        )
        for name, left in session.remaining().items():
            need = needed.get(name, 0.0)
            hint = "lower algo.group_size, algo.problems_per_update or task.max_turns, or raise the budget"
            require(need <= left, f"{what}, up to {amount(need)} {name} of a budget of {amount(left)}; {hint}")

    def full_update(self, policy: LanguageModel, task: Task) -> dict[str, float]:
        """What one update takes if no game ends early and no action ends before its limit.

        What environments say between actions is left out of the FLOPs: nobody knows it beforehand.
        """
        forks, turns, problems = self.config.group_size, task.max_turns, self.config.problems_per_update
        problem, limit = task.problems("train")[0], policy.action_limit(task)
        prompt = len(policy.chat.prompt(policy.instructions, task.start(problem).messages))
        rollouts = problems * forks**turns
        flops = rollouts * policy.shape.update(prompt + turns * limit, heads=turns * limit)
        actions = 0
        for turn in range(turns):
            tried = problems * forks ** (turn + 1)
            said, before = (0, prompt + turn * limit) if turn else (prompt, 0)
            flops += tried * policy.shape.forward(said + limit, context=before, heads=limit)
            actions += tried
        return {"rollouts": float(rollouts), "tokens": float(actions * limit), "flops": flops}

    def play(self, problems: Sequence[Problem], sampling: Sampling, session: Session) -> list[Rollout]:
        """The leaves of one tree per problem."""
        return session.play_forks(problems, self.config.group_size, sampling)

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts, tokens]; 0 outside `action_mask`."""
        advantages: dict[Node, torch.Tensor] = {}
        for siblings, values in node_values(batch).items():
            centred = values - values.mean()
            if self.config.scale_rewards:
                centred = centred / (values.std() + EPSILON)
            advantages |= {(*siblings, fork): advantage for fork, advantage in enumerate(centred)}
        credit = torch.zeros(batch.action_mask.shape, device=batch.rewards.device)
        for b, rollout in enumerate(batch.rollouts):
            for t, turn in enumerate(rollout.turns):
                credit[b, turn.start : turn.end] = advantages[rollout.node(t)]
        return credit * batch.action_mask

    def facts(self, batch: RolloutBatch) -> dict[str, float]:
        """Means over random ways down the trees, and how large the trees were."""
        groups = list(node_values(batch).values())
        problems = len({rollout.group for rollout in batch.rollouts})
        depths = torch.tensor([float(len(rollout.turns)) for rollout in batch.rollouts], device=batch.rewards.device)
        return means(batch, self.config.group_size**-depths / problems) | {
            "groups_without_signal": sum(float(values.std() < ZERO_VARIANCE) for values in groups) / len(groups),
            "rollouts_per_update": float(len(batch.rollouts)),
            "actions_per_update": float(sum(len(values) for values in groups)),
        }

    def trl_settings(self) -> dict[str, Any]:
        """A mean over all sampled tokens of the update."""
        return {"loss_type": "dapo"}


def node_values(batch: RolloutBatch) -> dict[Node, torch.Tensor]:
    """V of the actions tried from each state, in the order of their forks: float32 [forks], by the state's node."""
    scores = (batch.turn_rewards * batch.weights).sum(2)
    own = {rollout.node(t): scores[b, t] for b, rollout in enumerate(batch.rollouts) for t in range(len(rollout.turns))}
    values: dict[Node, dict[int, torch.Tensor]] = defaultdict(dict)
    for node in sorted(own, key=len, reverse=True):
        below = values.get(node)
        value = own[node] + torch.stack(list(below.values())).mean() if below else own[node]
        values[node[:-1]][node[-1]] = value
    return {node: torch.stack([found[fork] for fork in sorted(found)]) for node, found in values.items()}


def amount(number: float) -> str:
    """A cost as people read it: 262,144 or 2.1e+16."""
    return f"{number:,.0f}" if number < 1e9 else f"{number:.1e}"
