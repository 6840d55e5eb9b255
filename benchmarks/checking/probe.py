"""Can these algorithms differ at all? Their gradients on the same batches, at the starting weights.

For each algorithm and batch: the gradient that its optimiser would see, its cosine with a held-out gradient of
P(solved), and its cosine with the gradients of the other algorithms. docs/probe.md says how to read it, and what it
does not see.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from algorithms.batch import RolloutBatch
from algorithms.policy_gradient import PolicyGradient, PolicyGradientConfig
from benchmarks.checking.credit_rms import CreditRms, measured_credit
from benchmarks.checking.gradients import LARGEST, ProbeSession, SharedRollouts, captured_gradients, gram_matrix
from benchmarks.checking.probe_statistics import WithError, cosines, mean_with_error
from benchmarks.config.schema import RunConfig
from benchmarks.running.warmstart import find_or_make
from policies.language_model import load_policy
from policies.source import Source
from tasks.api import Problem, Task
from tasks.errors import RunFailed, require


class SolvedGradient(PolicyGradient):
    """REINFORCE on `solved` with a leave-one-out baseline: an unbiased estimate of the gradient of P(solved).

    A_i = solved_i - mean over the others of its group, times action tokens / rollouts: the loss, a mean over action
    tokens (`dapo`), then is the mean over rollouts of - A_i log pi(rollout i).
    """

    Config = PolicyGradientConfig

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]."""
        solved = batch.rewards.new_tensor([float(rollout.solved) for rollout in batch.rollouts])
        groups = solved.view(-1, batch.group_size)
        others = (groups.sum(1, keepdim=True) - groups) / (batch.group_size - 1)
        return (groups - others).flatten() * batch.action_mask.sum() / len(solved)

    def trl_settings(self) -> dict[str, Any]:
        """A mean over all action tokens of the update, which `credit` counts on."""
        return {"loss_type": "dapo"}


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmProbe:
    """What the probe found of one algorithm; every figure is a mean over batches with its standard error."""

    cosine: WithError
    """Of one batch's gradient with the held-out gradient of P(solved)."""
    cosine_minus_first: WithError | None
    """The same less that of the first algorithm, paired by batch; None for the first."""
    cosine_of_mean: WithError
    """Of the mean gradient over batches with the held-out gradient."""
    groups_without_signal: WithError
    """Share of groups; undefined where the algorithm's ledger has no such column."""
    credit_rms: WithError
    """Root mean square of the credit over action tokens."""
    credit_rms_by_span: dict[str, WithError]
    """Over the tokens that a component judges, of components with spans; and `elsewhere`."""
    credit_rms_by_component: dict[str, WithError]
    """Of the change in credit where a component's weight is set to 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairProbe:
    """How alike two algorithms' gradients on the same batch are."""

    first: str
    second: str
    cosine: WithError
    cosine_of_mean: WithError


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """All that one probe found, with its conditions."""

    task: str
    task_version: str
    policy: str
    policy_state: str
    seed: int
    batches: int
    problems_per_batch: int
    group_size: int
    held_out_batches: int
    held_out_rollouts: int
    held_out_solved: float
    """Share of the held-out rollouts that are solved: P(solved)."""
    held_out_halves: float | None
    """Cosine between the held-out gradient's two halves: how well it is known."""
    sketched: bool
    """Whether the gradients were sketched, being larger than `gradients.LARGEST`."""
    algorithms: dict[str, AlgorithmProbe]
    pairs: list[PairProbe]
    settings: dict[str, Any]
    """The configuration as in a record; `algo` by the algorithm's name here."""
    wall_s: float

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is undefined is null."""
        return {"probe_version": 1} | asdict(self)


def probe(configs: Mapping[str, RunConfig], batches: int, held_out: int, say: Callable[[str], object]) -> Probe:
    """Compare the gradients of algorithms on the same batches.

    Args:
        configs: by the names under which they are shown; they differ in `algo` only.
        batches: batches of one update's size.
        held_out: batches for the held-out gradient, of other train problems.
        say: takes a line on what is being done.

    Raises:
        BadInput: an algorithm that has no gradient, batches of different sizes, or too few train problems.
    """
    began = time.perf_counter()
    require(batches >= 2, f"--batches {batches} must be at least 2: errors come from the spread over batches")
    require(held_out >= 2, f"--held-out {held_out} must be at least 2 batches")
    names = list(configs)
    first = configs[names[0]]
    size: int = getattr(first.algo, "problems_per_update", 0)
    for name, config in configs.items():
        gradient = issubclass(config.algorithm_class, PolicyGradient)
        require(gradient, f"{name} cannot be probed: it follows no policy gradient; name algorithms that have `credit`")
        own = config.algo.problems_per_update
        require(own == size, f"{name} has problems_per_update={own}, {names[0]} has {size}: batches must be the same")
    algorithms: dict[str, PolicyGradient] = {
        name: config.algorithm_class(replace(config.algo, max_grad_norm=math.inf)) for name, config in configs.items()
    }
    task: Task = first.task_class(first.task)
    deck = list(task.problems("train"))
    random.Random(f"probe {first.seed}").shuffle(deck)
    needed = (batches + held_out) * size
    fewer = "lower --batches, --held-out or batch.problems"
    require(needed <= len(deck), f"{needed} train problems are needed, {task.name} has {len(deck)}: {fewer}")
    apart, deck = deck[: held_out * size], deck[held_out * size : needed]
    source = first.source
    if first.warmstart is not None:
        source = find_or_make(first, source, task, say).source
    askers = [algorithm.sampling() for algorithm in algorithms.values()]
    shared = SharedRollouts(task, first.seed, first.evaluate.batch_size, askers)

    say(f"the held-out gradient of P(solved): {held_out} batches")
    truth = observe(first, SolvedGradient(solved_config(first.algo)), source, shared, apart, held_out)
    vectors = [torch.stack(truth.gradients[half::2]).sum(0) for half in (0, 1)]
    seen: dict[str, Observed] = {}
    for name, algorithm in algorithms.items():
        say(f"{name}: {batches} batches")
        seen[name] = observe(configs[name], algorithm, source, shared, deck, batches)
        vectors += seen[name].gradients
    found = cosines(gram_matrix(vectors).numpy(), names, batches)
    return Probe(
        task=task.name,
        task_version=task.version,
        policy=first.policy.name,
        policy_state=truth.policy_state,
        seed=first.seed,
        batches=batches,
        problems_per_batch=size,
        group_size=first.algo.group_size,
        held_out_batches=held_out,
        held_out_rollouts=len(apart) * first.algo.group_size,
        held_out_solved=sum(facts["solved"] for facts in truth.facts) / held_out,
        held_out_halves=found.halves,
        sketched=truth.coordinates > LARGEST,
        algorithms={
            name: AlgorithmProbe(
                cosine=found.held_out[name],
                cosine_minus_first=found.minus_first.get(name),
                cosine_of_mean=found.held_out_of_mean[name],
                groups_without_signal=mean_with_error(
                    [facts.get("groups_without_signal", math.nan) for facts in observed.facts]
                ),
                credit_rms=mean_with_error(observed.credit.everywhere),
                credit_rms_by_span=with_errors(observed.credit.by_span),
                credit_rms_by_component=with_errors(observed.credit.by_component),
            )
            for name, observed in seen.items()
        },
        pairs=[
            PairProbe(first=one, second=other, cosine=cosine, cosine_of_mean=found.pairs_of_mean[one, other])
            for (one, other), cosine in found.pairs.items()
        ],
        settings={key: value for key, value in first.resolved.items() if key not in ("budget", "evaluate")}
        | {"algo": {name: config.resolved["algo"] for name, config in configs.items()}},
        wall_s=time.perf_counter() - began,
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """One algorithm on its batches."""

    gradients: list[torch.Tensor]
    """One a batch: float32 [coordinates], on the CPU."""
    facts: list[dict[str, float]]
    """What its ledger would say of each batch."""
    credit: CreditRms
    policy_state: str
    coordinates: int
    """Weights that have a gradient."""


def solved_config(algo: PolicyGradientConfig) -> PolicyGradientConfig:
    """The settings of an algorithm that decide how batches are played and cut, for `SolvedGradient`."""
    shared = {field.name: getattr(algo, field.name) for field in fields(PolicyGradientConfig)}
    return PolicyGradientConfig(**shared | {"name": "solved", "max_grad_norm": math.inf})


def observe(
    config: RunConfig,
    algorithm: PolicyGradient,
    source: Source,
    shared: SharedRollouts,
    problems: Sequence[Problem],
    batches: int,
) -> Observed:
    """Have an algorithm improve a fresh copy of the policy, whose weights stay as they are."""
    policy = load_policy(config.policy, source, config.adapter, config.seed)
    policy.instructions = policy.instructions or shared.task.instructions
    state = policy.state_hash()
    with (
        tempfile.TemporaryDirectory(prefix="grpo-bench-probe-") as scratch,
        captured_gradients(policy) as gradients,
        measured_credit(algorithm) as credit,
    ):
        session = ProbeSession(policy, shared, problems, batches, config.budget.limits(), Path(scratch))
        algorithm.check(policy, shared.task, session)
        algorithm.improve(policy, shared.task, session)
    if policy.state_hash() != state:
        raise RunFailed(f"{config.algo.name} changed the policy otherwise than by a torch optimiser")
    if len(gradients) != batches:
        raise RunFailed(f"{config.algo.name} made {len(gradients)} updates of {batches} batches")
    coordinates = sum(weight.numel() for weight in policy.model.parameters() if weight.requires_grad)
    return Observed(gradients, session.facts, credit, state, coordinates)


def with_errors(rms: Mapping[str, Sequence[float]]) -> dict[str, WithError]:
    """Means over batches, by name."""
    return {name: mean_with_error(numbers) for name, numbers in rms.items()}
