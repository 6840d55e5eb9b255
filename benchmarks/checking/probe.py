"""One small run of an algorithm, watched: what it plays, samples, trains on and books.

What is seen goes through the policy's `play`, its model's forward passes, the task and the session. Code that avoids
all of them (a second copy of the weights, a private list of problems) is not seen.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console

from algorithms.api import Algorithm
from benchmarks.checking.findings import Finding, Notes
from benchmarks.config.schema import RunConfig
from benchmarks.records.record import Record
from benchmarks.resume.state import StateStore
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel
from tasks.api import Problem, Task

MOST_ROLLOUTS = 5_000
"""Rollouts of a smoke-size run after which it is taken for one without end."""
LEAST_BOOKED = 0.8
"""Share of the sampled tokens that must be booked; the count from outside is not exact to the token."""
TELLING = 8
"""Characters from which on an action's text is not found in another's by chance."""


class Stop(BaseException):
    """Ends a run whose fault is noted; no `except Exception` of a plugin can hold it."""


@dataclass(slots=True)
class Seen:
    """What passed by."""

    played: list[tuple[Rollout, tuple[list[int], ...]]] = field(default_factory=list)
    """Every rollout, with copies of its prompt ids, completion ids and mask as they were when it was played."""
    trained: set[tuple[int, ...]] = field(default_factory=set)
    """Sequences that went through the model with gradients, without padding."""
    sampled_tokens: int = 0
    """Tokens that the model was asked for, one after the other, outside our own samplers' lean decoder."""
    played_tokens: int = 0
    """Tokens that `LanguageModel.play` wrote."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One watched run."""

    findings: list[Finding]
    policy: LanguageModel
    state: str
    """The policy's hash when the run was over."""
    outcome: str
    """Hash of everything played and of the final policy: equal for equal runs."""


class ProbeSession(RunSession):
    """A session that evaluates nothing and ends a run that plays on after its budget."""

    def __init__(self, *parts: Any, notes: Notes) -> None:
        super().__init__(*parts)
        self.notes = notes
        self.over = False

    def checkpoint(self) -> None:
        """Nothing: what is learned is no matter here."""

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
                self.notes.add("finite", f"{name} holds NaN or infinity after update {len(self.ledger.rows)}")
                raise Stop

    def _must_be_open(self, what: str) -> None:
        if self.over:
            self.notes.add("budget", f"it {what} after update {len(self.ledger.rows)} had spent the budget")
            raise Stop
        rollouts = self.ledger.total("rollouts")
        if rollouts > MOST_ROLLOUTS:
            self.notes.add("budget", f"it played {rollouts:.0f} rollouts in {len(self.ledger.rows)} updates")
            raise Stop


def watch(config: RunConfig, policy: LanguageModel, states: StateStore | None = None) -> Observation:
    """Improve a policy under watch, from the newest of the states on, where there is any."""
    notes, seen = Notes(), Seen()
    task: Task = config.task_class(config.task)
    policy.instructions = policy.instructions or task.instructions
    algorithm: Algorithm = config.algorithm_class(config.algo)
    fingerprint = task.fingerprint()
    with tempfile.TemporaryDirectory(prefix="grpo-bench-check-") as folder, ExitStack() as watching:
        (Path(folder) / "scratch").mkdir()
        progress = Progress(Console(file=io.StringIO()), "check")
        session = ProbeSession(
            config, policy, task, Record(Path(folder)), progress, Path(folder) / "scratch", None, states, notes=notes
        )
        watching.enter_context(train_only(type(task), notes))
        watching.enter_context(playing(seen))
        watching.enter_context(forward_passes(policy, seen))
        watching.enter_context(credit(algorithm, notes))
        ended = False
        try:
            with session.phase("update"):
                algorithm.improve(policy, task, session)
            ended = True
        except Stop:
            pass
        except Exception as error:  # a stranger's code may raise anything; that it did is the finding
            notes.add("runs", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if ended:
        check_costs(session, seen, notes)
    check_tokens(policy, seen, notes)
    if task.fingerprint() != fingerprint:
        notes.add("isolation", "it changed the task: its fingerprint is another one after the run")
    state = policy.state_hash()
    ids = [(rollout.problem.id, before) for rollout, before in seen.played]
    outcome = hashlib.sha256(f"{state} {ids}".encode()).hexdigest()
    return Observation(notes.findings, policy, state, outcome)


@contextmanager
def train_only(task: type[Task], notes: Notes) -> Iterator[None]:
    """Note every val or test problem that is listed, started, or solved by the oracle, on any instance of the task."""
    problems, start, oracle = task.problems, task.start, task.oracle

    def watched_problems(self: Task, split: Any) -> Any:
        if split != "train":
            notes.add("splits", f"it asked for the {split} problems")
        return problems(self, split)

    def watched_start(self: Task, problem: Problem) -> Any:
        if problem.split != "train":
            notes.add("splits", f"it started the {problem.split} problem {problem.id}")
        return start(self, problem)

    def watched_oracle(self: Task, problem: Problem) -> Any:
        if problem.split != "train":
            notes.add("splits", f"it asked the oracle about the {problem.split} problem {problem.id}")
        return oracle(self, problem)

    with (
        patch.object(task, "problems", watched_problems),
        patch.object(task, "start", watched_start),
        patch.object(task, "oracle", watched_oracle),
    ):
        yield


@contextmanager
def playing(seen: Seen) -> Iterator[None]:
    """Remember every rollout as it was when it was played, whoever asked for it."""
    play = LanguageModel.play

    def watched(self: LanguageModel, *args: Any, **kwargs: Any) -> Any:
        rollouts, cost = play(self, *args, **kwargs)
        seen.played_tokens += cost.generated_tokens
        seen.played += [
            (each, (list(each.prompt_ids), list(each.completion_ids), list(each.mask))) for each in rollouts
        ]
        return rollouts, cost

    with patch.object(LanguageModel, "play", watched):
        yield


@contextmanager
def forward_passes(policy: LanguageModel, seen: Seen) -> Iterator[None]:
    """Count sampled tokens and remember trained sequences.

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
            seen.sampled_tokens += int((~ended).sum())
        elif torch.is_grad_enabled():
            rows = ids.tolist()
            kept = mask.bool().tolist() if mask is not None else [[True] * len(row) for row in rows]
            seen.trained |= {
                tuple(i for i, k in zip(row, keep, strict=True) if k) for row, keep in zip(rows, kept, strict=True)
            }

    handle = policy.model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def credit(algorithm: Algorithm, notes: Notes) -> Iterator[None]:
    """Look at every advantage before the trainer does; algorithms without `credit` are left alone."""
    from algorithms.policy_gradient import PolicyGradient
    from algorithms.trainer import check_advantages

    if not isinstance(algorithm, PolicyGradient):
        yield
        return
    original = algorithm.credit

    def watched(batch: Any) -> Any:
        advantages = original(batch)
        try:
            check_advantages(advantages, batch)
        except (ValueError, TypeError, AttributeError) as error:
            notes.add("advantages", str(error))
            raise Stop from None
        return advantages

    with patch.object(algorithm, "credit", watched):
        yield


def check_costs(session: RunSession, seen: Seen, notes: Notes) -> None:
    """Compare what was sampled and trained with what was booked."""
    booked = session.ledger.total("generated_tokens") + session.ledger.total("reflected_tokens")
    sampled = max(seen.sampled_tokens, seen.played_tokens)
    if booked < LEAST_BOOKED * sampled:
        notes.add(
            "costs",
            f"the model sampled about {sampled} tokens, {booked:.0f} are booked: "
            "play through session.play, or book what you sample with session.charge",
        )
    if seen.trained and not (session.ledger.total("trained_tokens") and session.ledger.totals["update/flops"]):
        notes.add("costs", "it trained without booking: session.charge('update', trained_tokens=..., flops=...)")


def check_tokens(policy: LanguageModel, seen: Seen, notes: Notes) -> None:
    """Find sampled actions that were changed, or trained on in other tokens than they were sampled in."""
    for rollout, before in seen.played:
        if (rollout.prompt_ids, rollout.completion_ids, rollout.mask) != before:
            notes.add("tokens", f"it changed the tokens of a rollout of {rollout.problem.id} after it was played")
    written: dict[str, set[str]] = {}
    for rollout, (_, completion, _) in seen.played:
        for turn in rollout.turns:
            ids = completion[turn.start : turn.end]
            written.setdefault(turn.action, set()).add(_joined(ids[:-1] if ids[-1] in policy.chat.ends else ids))
    again = {action: _joined(policy.tokenizer(action, add_special_tokens=False)["input_ids"]) for action in written}
    telling = [
        action
        for action, forms in written.items()
        # A text that is part of another one may well stand there in other tokens.
        if len(action.strip()) >= TELLING
        and again[action] not in forms
        and not any(action in other for other in written if other != action)
    ]
    for row in map(_joined, seen.trained):
        for action in telling:
            if again[action] in row and not any(form in row for form in written[action]):
                notes.add("tokens", f"it trained on the action {action[:40]!r}, encoded again from its text")
                return


def _joined(ids: Sequence[int]) -> str:
    """Ids as a text in which a run of ids is found if and only if it is one."""
    return "," + "".join(f"{each}," for each in ids)
