"""What is different about a run that several processes share (policies/ranks.py).

The first process owns lock, record, states, progress and tracker; the others do the same and write nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from algorithms.policy_gradient import PolicyGradient
from benchmarks.records.record import Record
from benchmarks.resume.lock import Held, Lock, held
from benchmarks.resume.state import StateStore
from benchmarks.running.out_of_memory import is_out_of_memory
from benchmarks.running.preflight import asks_endpoint
from policies import ranks
from tasks.api import Task
from tasks.errors import BadInput, RunFailed, require

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig
    from benchmarks.running.session import RunSession


@contextmanager
def owned(record: Record) -> Iterator[tuple[Record, Lock | None]]:
    """A record while it is this run's: for the first process to write, under its lock, for the others to read.

    Raises:
        Held: another run is at work on it.
    """
    with ExitStack() as holding:
        held_by, lock = "", None
        if ranks.is_first():
            try:
                lock = holding.enter_context(held(record.folder.parent, record.name))
            except Held as other:
                held_by = str(other)
        if held_by := ranks.first(held_by):
            raise Held(held_by)
        yield (record if lock else Record(record.folder, writable=False)), lock


def states_of(record: Record, lock: Lock | None) -> StateStore:
    """The states of a run that `owned` has given: for the first process to write, for the others to read."""
    return StateStore(record.folder, lock.must_be_held) if lock else StateStore(record.folder, writable=False)


def refuse_undividable(config: RunConfig, task: Task) -> None:
    """Refuse what several processes cannot share.

    Raises:
        BadInput: what it is, and what would be right.
    """
    count = ranks.count()
    if count == 1:
        return
    run = f"a run in {count} processes"
    sampler, device = config.policy.sampler, config.policy.device
    require(sampler == "batched", f"policy.sampler={sampler} has one random stream for all games; {run} needs batched")
    require(config.budget.on_oom == "fail", f"budget.on_oom={config.budget.on_oom}: {run} cannot try again; use fail")
    require(":" not in device, f"policy.device={device}: {run} gives each one its own; use auto, cuda or cpu")
    require(
        config.results.store is None,
        f"results.dir={config.results.where}: {run} keeps its record in a folder; sweeps go to stores",
    )
    require(not asks_endpoint(config), f"algo.reflector=endpoint: {run} would ask once each; use one process")
    if issubclass(config.algorithm_class, PolicyGradient):
        algorithm = config.algorithm_class(config.algo)
        each, problems = algorithm.rollouts_per_problem(task), config.algo.problems_per_update
        divides = problems * each % count == 0
        require(divides, f"{problems} problems x {each} rollouts do not divide among {count} processes")
    _refuse_missing_gpu(config)


def _refuse_missing_gpu(config: RunConfig) -> None:
    import torch

    if config.device.type == "cuda":
        there, wanted = torch.cuda.device_count(), ranks.local_rank() + 1
        require(wanted <= there, f"there are {there} GPUs, and a process each is needed; start at most {there}")


def started_alike(session: RunSession) -> None:
    """Refuse to continue where the processes do not resume from the same state.

    Raises:
        RunFailed: they read different ones.
    """
    found = ranks.gather(session.saving.resumed_after)
    if len(set(found)) > 1:
        read = ", ".join(str(updates) for updates in found)
        raise RunFailed(f"the processes read different states of this run (updates {read}); do they share a disk?")


def ended_alike(session: RunSession) -> None:
    """Refuse to measure a policy of which the processes have different ones.

    Raises:
        RunFailed: they do.
    """
    if len(set(ranks.gather(session.policy.state_hash() if ranks.count() > 1 else ""))) > 1:
        raise RunFailed("the processes have come to different policies: the algorithm does something in one alone")


def reason(error: BaseException) -> BaseException:
    """Why the run ends: this process's error, or, where it only felt another process's end, why that one ended."""
    ranks.tell(error)
    other = ranks.ended_by()
    own = isinstance(error, BadInput | RunFailed) or is_out_of_memory(error)
    if other is None or own or not isinstance(error, RuntimeError | KeyboardInterrupt):
        return error
    return KeyboardInterrupt() if other == ranks.INTERRUPTED else RunFailed(other)
