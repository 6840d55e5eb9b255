"""What all policy-gradient algorithms share: their settings, and the one hook in which they differ, `credit`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from algorithms.api import Algorithm, Session, State
from policies.api import Sampling
from tasks.api import Problem, Task
from tasks.errors import require

if TYPE_CHECKING:
    import torch

    from algorithms.batch import RolloutBatch
    from algorithms.micro_batches import Row
    from policies.api import Rollout
    from policies.language_model import LanguageModel


ZERO_VARIANCE = 1e-6
"""A group whose scores have a smaller standard deviation has no signal."""


@dataclass(kw_only=True)
class PolicyGradientConfig:
    """Settings of every policy-gradient algorithm; `shared` names the setting that a field follows in a run."""

    name: str
    learning_rate: float = field(default=1e-6, metadata={"shared": "policy.learning_rate"})
    """AdamW's, constant after the warm-up."""
    warmup_updates: int = 0
    """Updates over which the learning rate rises from 0."""
    problems_per_update: int = field(default=8, metadata={"shared": "batch.problems"})
    """Groups per update."""
    group_size: int = field(default=8, metadata={"shared": "batch.group_size"})
    """Rollouts per problem and update."""
    micro_batch_size: int = field(default=16, metadata={"shared": "policy.micro_batch_size"})
    """Rollouts per backward pass, at most on average: passes are cut by tokens where the loss allows it. A matter of
    memory only."""
    temperature: float = 1.0
    """Of the rollouts."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    weight_decay: float = 0.0
    """AdamW's."""
    gradient_checkpointing: bool = field(default=False, metadata={"shared": "batch.gradient_checkpointing"})
    """Recompute activations in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        for name in ("problems_per_update", "micro_batch_size"):
            require(getattr(self, name) >= 1, f"algo.{name}={getattr(self, name)} must be at least 1")
        size = self.group_size
        require(size >= 2, f"algo.group_size={size} must be at least 2: a group is its own baseline")
        for name in ("learning_rate", "temperature", "max_grad_norm"):
            require(getattr(self, name) > 0, f"algo.{name}={getattr(self, name):g} must be above 0")

    def micro_batch(self, rollouts: int) -> int:
        """The largest number of rollouts, at most `micro_batch_size`, that divides an update's."""
        return next(n for n in range(min(self.micro_batch_size, rollouts), 0, -1) if rollouts % n == 0)


def means(batch: RolloutBatch, shares: torch.Tensor) -> dict[str, float]:
    """Mean reward, whole and by component, and how much was solved; `shares` float32 [rollouts] sum to 1."""
    rewards = shares @ batch.rewards
    named = zip(batch.components, rewards.tolist(), strict=True)
    return {
        "reward": float((rewards * batch.weights).sum()),
        "solved": sum(share for share, each in zip(shares.tolist(), batch.rollouts, strict=True) if each.solved),
        **{f"reward/{component.name}": reward for component, reward in named},
    }


class PolicyGradient(Algorithm):
    """Plays groups, turns verdicts into one advantage per token, and follows the gradient."""

    config: PolicyGradientConfig
    policy: LanguageModel
    """Set by `improve`, like the two below."""
    task: Task
    session: Session

    def check(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Refuse a policy that always plays alike.

        Raises:
            BadInput: its saved temperature is 0.
        """
        greedy = "sampling.json of the policy says temperature 0: a group would be one rollout many times"
        require(policy.temperature > 0, f"{greedy}; delete the file to train")

    def rollouts_per_problem(self, task: Task) -> int:
        """How many rollouts of a problem `play` returns, at most."""
        return self.config.group_size

    def play(self, problems: Sequence[Problem], sampling: Sampling, session: Session) -> list[Rollout]:
        """The rollouts of one update."""
        return session.play(problems, self.config.group_size, sampling)

    @abstractmethod
    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Turn verdicts into advantages: float32 [rollouts] or [rollouts, tokens]; higher is better."""

    def demonstrations(self, batch: RolloutBatch) -> Sequence[Row]:
        """Rows to train on beside the rollouts, asked for after `credit`; the loss's denominator stays theirs."""
        return ()

    def sampling(self) -> Sampling:
        """How the rollouts are drawn."""
        return Sampling(temperature=self.config.temperature)

    def facts(self, batch: RolloutBatch) -> dict[str, float]:
        """What the ledger's row says of the rollouts of an update."""
        from algorithms.reward_correlation import reward_correlations

        count = len(batch.rollouts)
        scores = (batch.rewards * batch.weights).sum(1).view(-1, batch.group_size)
        no_signal = float((scores.std(1) < ZERO_VARIANCE).float().mean())
        facts = means(batch, batch.rewards.new_full((count,), 1 / count)) | reward_correlations(batch)
        return facts | {"groups_without_signal": no_signal}

    def trl_settings(self) -> dict[str, Any]:
        """Settings of TRL's GRPOConfig that the algorithm stands for (loss type, clipping, ...)."""
        return {}

    def state(self) -> State:
        """What the algorithm itself remembers from update to update, beside policy and optimiser."""
        return {}

    def restore(self, state: State) -> None:
        """Take back what `state` returned in a run that was interrupted."""

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Train until the session closes."""
        from algorithms.trainer import RolloutTrainer
        from algorithms.trainer_state import resume, trainer_state

        self.policy, self.task, self.session = policy, task, session
        trainer = RolloutTrainer(self, policy, task, session)
        saved = session.resumable(lambda: trainer_state(trainer))
        if saved is not None:
            resume(trainer, saved)
        if saved is None or session.open():
            trainer.train()
