"""One small run of an algorithm, watched: what it plays, samples, trains on and books.

What is seen goes through the policy's `play`, its model's forward passes, the task and the session. Code that avoids
all of them (a second copy of the weights, a private list of problems) is not seen.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console

from algorithms import trainer
from algorithms.api import Algorithm
from benchmarks.checking.rules import Violations
from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record
from benchmarks.resume.state import StateStore
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel
from tasks.api import Problem, Task

MOST_ROLLOUTS = 5_000
"""Rollouts of a smoke-size run beyond which it is taken to be endless."""
LEAST_BOOKED = 0.8
"""Share of the sampled tokens that must be booked; the count from outside is not exact to the token."""
DISTINCT = 8
"""Characters from which on an action's text is not found in another's by chance."""


class Stop(BaseException):
    """Ends a run whose violation is reported; no `except Exception` of a plugin can hold it."""


@dataclass(slots=True)
class Traffic:
    """What went through policy and model."""

    played: list[tuple[Rollout, tuple[list[int], ...]]] = field(default_factory=list)
    """Every rollout, with copies of its prompt ids, completion ids and mask as they were when it was played."""
    trained: set[tuple[int, ...]] = field(default_factory=set)
    """Sequences that went through the model with gradients, without padding."""
    sampled_tokens: int = 0
    """Tokens that the model was asked for one after the other, outside our own samplers' lean decoder."""
    played_tokens: int = 0
    """Tokens that `LanguageModel.play` wrote."""


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """One run that is over."""

    violations: Violations
    policy: LanguageModel
    state: str
    """The policy's hash when the run was over."""
    outcome: str
    """Hash of everything played and of the final policy: equal for equal runs."""


class WatchedSession(RunSession):
    """A session that evaluates nothing and ends a run that continues after its budget."""

    def __init__(self, *parts: Any, violations: Violations) -> None:
        super().__init__(*parts)
        self.violations = violations
        self.over = False

    def checkpoint(self) -> None:
        """Nothing: a check does not ask what is learned."""

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        """As in a run, while there is budget."""
        self._must_be_open("played")
        return super().play(problems, group_size, sampling)

    def step(self, metrics: Mapping[str, float]) -> None:
        """As in a run; the weights are looked at."""
        self._must_be_open("closed an update")
        super().step({name: float(value) for name, value in metrics.items()})
        self.over = not self.open()
        for name, parameter in self.policy.model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                self._stop("finite", f"{name} holds NaN or infinity after update {len(self.ledger.rows)}")

    def _must_be_open(self, what: str) -> None:
        updates, rollouts = len(self.ledger.rows), self.ledger.total("rollouts")
        if self.over:
            self._stop("budget", f"it {what} after update {updates} had spent the budget")
        if rollouts > MOST_ROLLOUTS:
            self._stop("budget", f"it played {rollouts:.0f} rollouts in {updates} updates")

    def _stop(self, rule: str, problem: str) -> None:
        self.violations.add(rule, problem)
        raise Stop


def watch(config: RunConfig, policy: LanguageModel, states: StateStore | None = None) -> WatchedRun:
    """Improve a policy under watch, from the newest of the states on, where there is any."""
    violations, traffic = Violations(), Traffic()
    task: Task = config.task_class(config.task)
    policy.instructions = policy.instructions or task.instructions
    algorithm: Algorithm = config.algorithm_class(config.algo)
    fingerprint = task.fingerprint()
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder, ExitStack() as watching:
        (Path(folder) / "scratch").mkdir()
        parts = (Record(Path(folder)), Progress(Console(file=io.StringIO()), "check"), Path(folder) / "scratch")
        session = WatchedSession(config, policy, task, *parts, None, states, violations=violations)
        watching.enter_context(train_only(type(task), violations))
        watching.enter_context(playing(traffic))
        watching.enter_context(forward_passes(policy, traffic))
        watching.enter_context(advantages(violations))
        try:
            with session.phase("update"):
                algorithm.improve(policy, task, session)
            check_costs(session, traffic, violations)
        except Stop:
            pass
        except Exception as error:  # a stranger's code may raise anything; that it did is the violation
            violations.add("runs", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    check_tokens(policy, traffic, violations)
    if task.fingerprint() != fingerprint:
        violations.add("isolation", "it changed the task: its fingerprint is another one after the run")
    state = policy.state_hash()
    ids = [(rollout.problem.id, before) for rollout, before in traffic.played]
    outcome = hashlib.sha256(f"{state} {ids}".encode()).hexdigest()
    return WatchedRun(violations, policy, state, outcome)


@contextmanager
def train_only(task: type[Task], violations: Violations) -> Iterator[None]:
    """Report val and test problems that are listed, started, or solved by the oracle, on any instance of the task."""

    def watched(method: str, report: str) -> Any:
        original: Callable[..., Any] = getattr(task, method)

        def call(self: Task, asked: Any) -> Any:
            split = asked.split if isinstance(asked, Problem) else asked
            if split != "train":
                problem = asked.id if isinstance(asked, Problem) else ""
                violations.add("splits", report.format(split=split, problem=problem))
            return original(self, asked)

        return patch.object(task, method, call)

    with (
        watched("problems", "it asked for the {split} problems"),
        watched("start", "it started the {split} problem {problem}"),
        watched("oracle", "it asked the oracle about the {split} problem {problem}"),
    ):
        yield


@contextmanager
def playing(traffic: Traffic) -> Iterator[None]:
    """Keep every rollout as it was when it was played, whoever asked for it."""
    play = LanguageModel.play

    def watched(self: LanguageModel, *args: Any, **kwargs: Any) -> Any:
        rollouts, cost = play(self, *args, **kwargs)
        traffic.played_tokens += cost.generated_tokens
        traffic.played += [
            (each, (list(each.prompt_ids), list(each.completion_ids), list(each.mask))) for each in rollouts
        ]
        return rollouts, cost

    with patch.object(LanguageModel, "play", watched):
        yield


@contextmanager
def forward_passes(policy: LanguageModel, traffic: Traffic) -> Iterator[None]:
    """Count sampled tokens and keep trained sequences.

    A pass with a cache samples one token per row that has not ended; so does one whose input is the last one's and one
    token more. Any other pass with gradients trains.
    """
    over = [*policy.chat.ends, policy.tokenizer.pad_token_id]
    last: list[torch.Tensor] = []

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            return
        grows = (
            bool(last) and ids.shape == (len(last[0]), last[0].shape[1] + 1) and bool((ids[:, :-1] == last[0]).all())
        )
        last[:] = [ids]
        mask = kwargs.get("attention_mask")
        if kwargs.get("past_key_values") is not None or grows:
            ended = (
                torch.isin(ids[:, -1], torch.tensor(over, device=ids.device)) if ids.shape[1] == 1 else ids[:, -1] < 0
            )
            traffic.sampled_tokens += int((~ended).sum())
        elif torch.is_grad_enabled():
            rows = ids.tolist()
            kept = mask.bool().tolist() if mask is not None else [[True] * len(row) for row in rows]
            traffic.trained |= {
                tuple(i for i, k in zip(row, keep, strict=True) if k) for row, keep in zip(rows, kept, strict=True)
            }

    handle = policy.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def advantages(violations: Violations) -> Iterator[None]:
    """Report advantages that the trainer refuses under their own rule."""
    check = trainer.check_advantages

    def watched(found: Any, batch: Any) -> None:
        try:
            check(found, batch)
        except (ValueError, TypeError, AttributeError) as error:
            violations.add("advantages", str(error))
            raise Stop from None

    with patch.object(trainer, "check_advantages", watched):
        yield


def check_costs(session: RunSession, traffic: Traffic, violations: Violations) -> None:
    """Compare what was sampled and trained with what was booked."""
    booked = session.ledger.total("generated_tokens") + session.ledger.total("reflected_tokens")
    sampled = max(traffic.sampled_tokens, traffic.played_tokens)
    if booked < LEAST_BOOKED * sampled:
        violations.add(
            "costs",
            f"the model sampled about {sampled} tokens, {booked:.0f} are booked: "
            "play through session.play, or book what you sample with session.charge",
        )
    if traffic.trained and not (session.ledger.total("trained_tokens") and session.ledger.totals["update/flops"]):
        violations.add("costs", "it trained without booking: session.charge('update', trained_tokens=..., flops=...)")


def check_tokens(policy: LanguageModel, traffic: Traffic, violations: Violations) -> None:
    """Find sampled actions that were changed, or trained on in other tokens than they were sampled in."""
    for rollout, before in traffic.played:
        if (rollout.prompt_ids, rollout.completion_ids, rollout.mask) != before:
            violations.add("tokens", f"it changed the tokens of a rollout of {rollout.problem.id} after it was played")
    written: dict[str, set[str]] = {}
    for rollout, (_, completion, _) in traffic.played:
        for turn in rollout.turns:
            ids = completion[turn.start : turn.end]
            ended = bool(ids) and ids[-1] in policy.chat.ends
            written.setdefault(turn.action, set()).add(_joined(ids[:-1] if ended else ids))
    again = {action: _joined(policy.tokenizer(action, add_special_tokens=False)["input_ids"]) for action in written}
    changed = [
        action
        for action, forms in written.items()
        # A text that is part of another one may well stand there in other tokens.
        if len(action.strip()) >= DISTINCT
        and again[action] not in forms
        and not any(action in other for other in written if other != action)
    ]
    for row in map(_joined, traffic.trained):
        for action in changed:
            if again[action] in row and not any(form in row for form in written[action]):
                violations.add("tokens", f"it trained on the action {action[:40]!r}, encoded again from its text")
                return


def _joined(ids: Sequence[int]) -> str:
    """Ids as a text in which a run of ids is found if and only if it is one."""
    return "," + "".join(f"{each}," for each in ids)
