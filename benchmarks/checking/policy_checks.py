"""The rules for policies: a few episodes, one gradient, and a copy on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from algorithms.batch import RolloutBatch
from algorithms.policy_gradient import PolicyGradient, PolicyGradientConfig
from benchmarks.checking.gradients import ProbeSession, SharedRollouts, captured_gradients
from benchmarks.checking.rules import Violations
from benchmarks.config.schema import RunConfig
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel, load_policy
from policies.source import Source
from tasks.api import Task

PROBLEMS, GROUP = 2, 2
CLOSE = {torch.float32: 1e-3}
"""Nats by which the sampler's log-probabilities may miss the model's on average, by the weights' dtype."""
ROUNDED = 0.05
"""The same in other dtypes, whose kernels round in another order."""


class Alternating(PolicyGradient):
    """Credit of 1 and -1 in turns: a gradient whatever the rewards are."""

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]."""
        return 1 - 2.0 * (torch.arange(len(batch.rollouts), device=batch.rewards.device) % 2)


def policy_violations(config: RunConfig) -> Violations:
    """The rules that a policy breaks on a task.

    Raises:
        BadInput: it cannot be loaded, or its chat template cannot play turns.
    """
    violations = Violations()
    task: Task = config.task_class(config.task)
    policy = load_policy(config.policy, config.source, config.adapter, config.seed)
    policy.instructions = policy.instructions or task.instructions
    problems, sampling = task.problems("train")[:PROBLEMS], Sampling(logprobs=True)
    rollouts, again = (policy.play(task, problems, GROUP, sampling, 0)[0] for _ in range(2))
    if [each.completion_ids for each in rollouts] != [each.completion_ids for each in again]:
        violations.add("repeatable", "played twice with one seed, the actions differ")
    check_text(policy, rollouts, violations)
    check_logprobs(policy, rollouts, violations)
    check_gradient(config, policy, task, violations)
    check_copy(config, policy, violations)
    return violations


def check_text(policy: LanguageModel, rollouts: Sequence[Rollout], violations: Violations) -> None:
    """The judged text is what the sampled ids say, and the ends of its tokens lead to its end."""
    for rollout in rollouts:
        for turn in rollout.turns:
            ids = rollout.completion_ids[turn.start : turn.end]
            ends = policy.chat.token_ends(ids)
            if policy.chat.text(ids) != turn.action or ends != sorted(ends) or ends[-1:] != [len(turn.action)]:
                violations.add("tokens", f"{turn.action[:40]!r} is not what its {len(ids)} tokens write")


@torch.no_grad()
def check_logprobs(policy: LanguageModel, rollouts: Sequence[Rollout], violations: Violations) -> None:
    """The sampler's probabilities are those of a plain forward pass over the whole rollout."""
    gaps = []
    for rollout in rollouts:
        ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids], device=policy.device)
        plain = policy.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        written = torch.tensor(rollout.mask, dtype=torch.bool, device=policy.device)
        sampled = torch.tensor(rollout.logprobs, device=policy.device)
        gaps.append((plain[len(rollout.prompt_ids) - 1 :][written] - sampled).abs())
    gap = float(torch.cat(gaps).mean())
    allowed = CLOSE.get(policy.model.dtype, ROUNDED)
    if not gap <= allowed:
        text = f"sampled and plain log-probabilities differ by {gap:.3g} nats a token; {allowed:g} would be rounding"
        violations.add("logprobs", text)


def check_gradient(config: RunConfig, policy: LanguageModel, task: Task, violations: Violations) -> None:
    """One update has a gradient that is finite and not 0."""
    algo = PolicyGradientConfig(name="check", problems_per_update=PROBLEMS, group_size=GROUP)
    shared = SharedRollouts(task, config.seed, config.evaluate.batch_size)
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder, captured_gradients(policy) as found:
        session = ProbeSession(policy, shared, task.problems("train")[:PROBLEMS], 1, {}, Path(folder))
        Alternating(algo).improve(policy, task, session)
    norm = float(found[0].norm())
    if not 0 < norm < float("inf"):
        violations.add("gradients", f"the gradient of an update has the norm {norm:g}")


def check_copy(config: RunConfig, policy: LanguageModel, violations: Violations) -> None:
    """Saved and loaded again, it is the same policy; of one with an adapter, the adapter is."""
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder:
        policy.save(Path(folder))
        if config.adapter is None:
            settings = replace(config.policy, gguf_variable=None, gguf_package=None)
            copy = load_policy(settings, Source(folder, None, "the saved policy"))
        else:
            copy = load_policy(config.policy, config.source, config.adapter, config.seed + 1)
            copy.restore_adapter(Path(folder))
    if copy.state_hash() != policy.state_hash():
        violations.add("saves", "saved and loaded again, it has other weights or instructions")
