"""A sweep's worker processes and how they end: with their sweep, and never in the middle of a record.

Ctrl-C and SIGTERM reach the sweep. It tells each worker that is at work on a run to stop (SIGTERM), waits until the
records say `interrupted`, and ends; a second Ctrl-C kills the workers at once. A worker whose sweep is gone, kill -9
included, notices within a second, puts the end of its run on record and ends too.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from benchmarks.resume.interruption import SIGNALS, handled
from benchmarks.resume.lock import holders

GRACE_S = 120.0
"""For a worker to put its run's end on record; the update in flight may be in the middle of a long call of torch."""
POLL_S = 0.1
WATCH_S = 1.0
ENDED = 130
"""Exit code of a worker whose sweep is gone."""
OF_LAUNCHERS = (signal.SIGUSR1, signal.SIGUSR2)
"""One of them tells submitit that SLURM is about to end the job."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """The process that a worker works for."""

    watched: bool
    """Whether its workers are its own children and must not outlive it."""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    folder: Path = field(default_factory=Path.cwd)
    """Where it was started: what paths on its command line mean."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While one of its runs goes on in this process, which may be a worker or the sweep's own.

        Raises:
            KeyboardInterrupt: this worker was told to stop, now or before.
            OSError: a worker on another host does not see the sweep's folder.
        """
        if (os.getpid(), socket.gethostname()) == (self.pid, self.host):
            yield
            return
        os.chdir(self.folder)
        if not self.watched:
            with ending_first():
                yield
            return
        worker = _Worker.of_this_process(self)
        worker.must_go_on()
        try:
            with handled({signal.SIGTERM: worker.stop_run}):
                yield
        except KeyboardInterrupt:
            worker.told.set()
            raise
        finally:
            worker.must_have_a_sweep()


class _Worker:
    """This process, if it is a worker."""

    _this: _Worker | None = None

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.told = threading.Event()
        # Ctrl-C goes to every process of a terminal; the sweep passes it on once, and as SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.stop)
        threading.Thread(target=self.watch, name="watch", daemon=True).start()

    @classmethod
    def of_this_process(cls, sweep: Sweep) -> _Worker:
        if cls._this is None:
            cls._this = cls(sweep)
        return cls._this

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Between two runs: do not begin another."""
        self.told.set()

    def stop_run(self, number: int, frame: FrameType | None) -> None:
        self.told.set()
        raise KeyboardInterrupt

    def orphaned(self) -> bool:
        return os.getppid() != self.sweep.pid

    def must_go_on(self) -> None:
        self.must_have_a_sweep()
        if self.told.is_set():
            raise KeyboardInterrupt

    def must_have_a_sweep(self) -> None:
        if self.orphaned():
            # Not by an exception: the pool that called this would hand it to nobody and wait for another run.
            os._exit(ENDED)

    def watch(self) -> None:
        while not self.orphaned():
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(ENDED)


@contextmanager
def ending_first() -> Iterator[None]:
    """A launcher's own signal ends the run as Ctrl-C does; then the launcher does with the job what it wants to."""
    theirs = {number: handler for number in OF_LAUNCHERS if callable(handler := signal.getsignal(number))}
    came: list[tuple[int, FrameType | None]] = []

    def stop_run(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        raise KeyboardInterrupt

    try:
        with handled(dict.fromkeys(theirs, stop_run)):
            yield
    except KeyboardInterrupt:
        for number, frame in came:
            theirs[signal.Signals(number)](number, frame)
        raise


@contextmanager
def ending_workers(folders: Iterable[Path]) -> Iterator[None]:
    """While this process is a sweep: what ends it ends its workers' runs first, in good order.

    Args:
        folders: the results folders of its runs.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM, once no worker is at work any more.
    """
    folders = sorted(set(folders))

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, kill)
        told: set[int] = set()
        until = time.monotonic() + GRACE_S
        while (at_work := _at_work(folders)) and time.monotonic() < until:
            if not told:
                # print could be what the signal came in between of.
                os.write(
                    2, f"stopping {len(at_work)} runs, which save what they have; Ctrl-C again kills them\n".encode()
                )
            for pid in at_work - told:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            told |= at_work
            time.sleep(POLL_S)
        raise KeyboardInterrupt

    def kill(number: int, frame: FrameType | None) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        raise KeyboardInterrupt

    with handled(dict.fromkeys(SIGNALS, stop)):
        yield


def _at_work(folders: Iterable[Path]) -> set[int]:
    """Processes below this one that are at work on a run."""
    below = {child.pid for child in psutil.Process().children(recursive=True)}
    return below & {pid for folder in folders for pid in holders(folder)}
