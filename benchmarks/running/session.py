"""What one run gives its algorithm: problems, budget, ledger, and the evaluations of its learning curve."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.records.record import Record
from benchmarks.resume.saving import Saving
from benchmarks.resume.state import StateStore
from benchmarks.running.evaluation import Evaluation, evaluate
from benchmarks.running.ledger import Ledger
from benchmarks.running.no_signal import no_signal
from benchmarks.running.progress import Progress
from policies import ranks
from tasks.api import Problem, Split, Task

if TYPE_CHECKING:
    from algorithms.api import State
    from benchmarks.config.schema import RunConfig
    from policies.api import PlayCost, Rollout, Sampling
    from policies.language_model import LanguageModel

SEED_STRIDE = 1_000_003
"""Distance between the `play` seeds of two runs; evaluation seeds are below 40,000."""


class RunSession:
    """See `algorithms.api.Session`."""

    def __init__(
        self,
        config: RunConfig,
        policy: LanguageModel,
        task: Task,
        record: Record,
        progress: Progress,
        scratch: Path,
        ledger: Ledger | None = None,
        states: StateStore | None = None,
    ) -> None:
        self.config, self.policy, self.task = config, policy, task
        self.record, self.progress, self.scratch = record, progress, scratch
        self.seed = config.seed
        self.rng = random.Random(f"algorithm {config.seed}")
        self.ledger = ledger or Ledger()
        self.curve: list[dict[str, float | None]] = []
        self.known_start: dict[str, float] | None = None
        """Metrics of the curve's first point, where another run has measured them."""
        self.start_instructions = ""
        self.stopped_by = ""
        self.log: list[Any] = []
        self.plays = 0
        self.next_checkpoint = 1
        self.saving = Saving(self, states, config.results.save_every_s)
        self._returning = ExitStack()

    # What an algorithm may use.

    def open(self) -> bool:
        """Whether there is budget left."""
        share, limit = self.config.budget.share(self._spent())
        if share >= 1:
            self.stopped_by = limit
        return share < 1

    def problems(self) -> Iterator[Problem]:
        """Train problems without end, in shuffled passes."""
        rng = random.Random(f"problems {self.seed}")
        while True:
            deck = list(self.task.problems("train"))
            rng.shuffle(deck)
            yield from deck

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        """Play train problems and book what it took."""
        with self.phase("rollout"):
            within = self._within_memory(sampling)
            rollouts, cost = self.policy.play(self.task, problems, group_size, within, self._next_seed())
        self._book("rollout", cost)
        return rollouts

    def play_forks(self, problems: Sequence[Problem], forks: int, sampling: Sampling) -> list[Rollout]:
        """Play train problems as trees and book what it took."""
        from policies.forks import play_forks

        with self.phase("rollout"):
            within = self._within_memory(sampling)
            rollouts, cost = play_forks(self.policy, self.task, problems, forks, within, self._next_seed())
        self._book("rollout", cost)
        return rollouts

    def remaining(self) -> dict[str, float]:
        """What is left of each limit that is set."""
        spent = self._spent()
        return {name: limit - (spent[name] or 0.0) for name, limit in self.config.budget.limits().items()}

    def sample(self, contexts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """Write one action after each context and book what it took."""
        with self.phase("rollout"):
            limit = self.policy.action_limit(self.task)
            actions, cost = self.policy.sample(contexts, limit, self._within_memory(sampling), self._next_seed())
        self._book("rollout", cost)
        return actions

    def _within_memory(self, sampling: Sampling) -> Sampling:
        """No more episodes side by side than in an evaluation, whose number is set to fit the device."""
        return replace(sampling, batch_size=min(sampling.batch_size, self.config.evaluate.batch_size))

    def _spent(self) -> dict[str, float | None]:
        """What was spent, by the first process's ledger: all processes decide alike."""
        return ranks.first(self.ledger.spent())

    def _next_seed(self) -> int:
        self.plays += 1
        return (self.seed + 1) * SEED_STRIDE + self.plays

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book the time inside to a phase."""
        self._returning.close()
        self.progress.phase(name)
        with self.ledger.phase(name):
            yield
        self.progress.phase("update")

    def charge(self, phase: str, **amounts: float) -> None:
        """Book costs to a phase."""
        self.ledger.charge(phase, amounts)

    def step(self, metrics: Mapping[str, float]) -> None:
        """Close one update."""
        from benchmarks.running.machine import peak_memory

        self.add_up()
        self.ledger.close_row({**metrics, **peak_memory(self.policy.device)})
        with self.ledger.phase("record"):
            spent = self._spent()
            share, _ = self.config.budget.share(spent)
            self.saving.update_done(last=share >= 1)
            self.progress.step(len(self.ledger.rows), share, spent, metrics)
            if message := no_signal(self.ledger.rows, self.config):
                self.progress.say(message)
        self._evaluate_where_due(share)

    def _evaluate_where_due(self, share: float) -> None:
        """Evaluate if a checkpoint of the budget was passed; states are saved before, so that this is done again."""
        if share * self.config.budget.checkpoints >= self.next_checkpoint:
            self.next_checkpoint = int(share * self.config.budget.checkpoints) + 1
            self.checkpoint()

    def resumable(self, state: Callable[[], State | None], *, weights: bool = True) -> State | None:
        """Make the run resumable, and put back what an earlier process saved."""
        found = self.saving.resumable(state, weights)
        if found is not None:
            spent = self._spent()
            share, _ = self.config.budget.share(spent)
            self.progress.step(len(self.ledger.rows), share, spent, {})
            self._evaluate_where_due(share)
        return found

    def keep(self, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put a table of the algorithm's own into the record."""
        self.record.keep(file, rows)

    # What the runner calls.

    def begin(self) -> None:
        """The curve's point at cost 0, unless an earlier process has it."""
        self.start_instructions = self.policy.instructions
        if self.curve:
            return
        if self.known_start is None:
            self.checkpoint()
        else:
            self._add_point(self.known_start)
        self.saving.save()

    @contextmanager
    def improving(self) -> Iterator[None]:
        """While the algorithm improves. What it does before it first plays is loading where it only catches up."""
        with self.ledger.phase("update"):
            if self.saving.resumed_after:
                self._returning.enter_context(self.ledger.phase("load"))
            try:
                yield
            finally:
                self._returning.close()

    def checkpoint(self) -> None:
        """Evaluate on val, off the clock, and put what was measured so far on disk."""
        self._add_point(self.measure(self.policy, "val", samples=self.config.evaluate.val_samples).metrics)

    def _add_point(self, metrics: Mapping[str, float]) -> None:
        # Seconds of the device, unlike those on the clock, do not count what else the machine was doing.
        device = self.ledger.total("gpu_s" if "gpu_s" in self.ledger.meters else "cpu_s")
        spent = self.ledger.spent() | {"device_seconds": device}
        self.curve.append({**{f"spent/{name}": value for name, value in spent.items()}, **metrics})
        with self.ledger.phase("record"):
            self.progress.evaluated(metrics)
            self.save()

    def add_up(self) -> None:
        """Have the first process's ledger book what the other processes' meters read."""
        for read in ranks.gather(self.ledger.drain())[1:]:
            self.ledger.merge(read)

    def measure(
        self,
        policy: LanguageModel,
        split: Split,
        *,
        temperature: float = 1.0,
        samples: int = 1,
        task: Task | None = None,
    ) -> Evaluation:
        """Evaluate a policy, on the run's task unless another is named; time and cost are booked to `evaluate`."""
        self.progress.phase(f"evaluate {split}")
        config, task = self.config.evaluate, task or self.task
        with self.ledger.phase("evaluate"):
            found = evaluate(policy, task, split, config, self.seed, temperature=temperature, samples=samples)
        self._book("evaluate", found.cost)
        return found

    def _book(self, phase: str, cost: PlayCost) -> None:
        """Book what playing took; in rollouts the environments' time stands apart, as `score`."""
        if phase == "rollout":
            self.ledger.move(phase, "score", cost.score_s)
        amounts = ("rollouts", "prompt_tokens", "generated_tokens", "flops")
        self.ledger.charge(phase, {name: getattr(cost, name) for name in amounts})

    def save(self) -> None:
        """Write ledger and curve."""
        if self.ledger.rows:
            self.record.write_rows("ledger.parquet", self.ledger.rows)
        if self.curve:
            self.record.write_rows("curve.parquet", self.curve)
