"""One run in several processes, as torchrun and `accelerate launch` start them.

Every process goes through the same program with the same seeds. What takes time is divided (`share`) and put together
again (`gather`), so that each of them knows all of it; what could come out differently on another card, or by another
clock, is settled by the process that is first (`first`, `once`). In one process none of this does anything.

Processes of one run trust each other: what they exchange is pickled, over connections without a password.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

from tasks.errors import BadInput, RunFailed

T = TypeVar("T")

STARTED_WITH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that the launchers set."""
LONGEST_WAIT = timedelta(hours=2)
"""For the slowest process; after that it counts as lost."""
GRACE_S = 5.0
"""For so long a process that failed leaves it to the first to say why the run ends, and to end it."""
INTERRUPTED = "interrupted"
ENDED = "ended"


@dataclass(slots=True)
class Place:
    """Which of a run's processes this is."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Which of this machine's."""
    store: Any = field(default=None, repr=False)
    """What all of them can read while the launcher lives."""


_here = Place()


def rank() -> int:
    """Which process this is, from 0."""
    return _here.rank


def local_rank() -> int:
    """Which of this machine's processes this is, from 0."""
    return _here.local


def count() -> int:
    """How many processes make the run."""
    return _here.count


def is_first() -> bool:
    """Whether this is the process that owns the record and talks to the user."""
    return _here.rank == 0


def share(pieces: int) -> range:
    """Which of so many pieces of work are this process's: a stretch of them."""
    return range(_here.rank * pieces // _here.count, (_here.rank + 1) * pieces // _here.count)


def gather(mine: T) -> list[T]:
    """What each process has, in their order; all of them must ask. Tensors come to this process's device."""
    if _here.count == 1:
        return [mine]
    import torch.distributed as dist

    found: list[Any] = [None] * _here.count
    dist.all_gather_object(found, _packed(mine))
    return [mine if other == _here.rank else _unpacked(each) for other, each in enumerate(found)]


def first(mine: T) -> T:
    """What the first process has; all of them must ask."""
    return once(lambda: mine)


def once(work: Callable[[], T]) -> T:
    """What comes of work that only the first process does; all of them must ask."""
    if _here.count == 1:
        return work()
    import torch.distributed as dist

    sent = [_packed(found := work())] if is_first() else [b""]
    dist.broadcast_object_list(sent, src=0)
    return found if is_first() else cast(T, _unpacked(sent[0]))


def _packed(value: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _unpacked(data: bytes) -> Any:
    import torch

    def here(storage: Any, place: str) -> Any:
        return storage.cuda() if place.startswith("cuda") else storage

    return torch.load(io.BytesIO(data), map_location=here, weights_only=False)


def started_together() -> bool:
    """Whether a launcher started this process as one of several."""
    return all(os.environ.get(name) for name in STARTED_WITH) and int(os.environ["WORLD_SIZE"]) > 1


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that a launcher started; alone, this does nothing.

    An error in one process ends all: it tells the others why (`ended_by`), and those that wait for it wait no longer.
    """
    global _here
    if not started_together():
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, number, size = next(rendezvous("env://", timeout=LONGEST_WAIT))
    place = Place(number, size, int(os.environ["LOCAL_RANK"]), PrefixStore("grpo-bench", store))
    cuda = torch.cuda.is_available()
    if cuda and place.local < torch.cuda.device_count():
        torch.cuda.set_device(place.local)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=PrefixStore("default", store),
        rank=number,
        world_size=size,
        timeout=LONGEST_WAIT,
    )
    _here = place
    try:
        yield
    except BaseException as error:
        mine = tell(error)
        if is_first():
            raise
        if isinstance(error, SystemExit | KeyboardInterrupt) or not mine:
            raise SystemExit(1) from None
        if not isinstance(error, BadInput | RunFailed):
            traceback.print_exception(error)
        dist.destroy_process_group()
        time.sleep(GRACE_S)  # The first process says it, and its end is this one's.
        raise SystemExit(1) from None
    finally:
        _here = Place()
        if dist.is_initialized():
            dist.destroy_process_group()


def tell(error: BaseException) -> bool:
    """Tell the other processes why this one ends, unless one of them has ended before.

    Returns:
        Whether this one is the first to end.
    """
    if _here.count == 1:
        return True
    words = (str(error).splitlines() or [""])[0][:300]
    if not isinstance(error, BadInput | RunFailed):
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    reason = INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"process {_here.rank}: {words}"
    with contextlib.suppress(RuntimeError):  # The launcher, whose store it is, may be gone.
        told = _here.store.compare_set(ENDED, "", f"{_here.rank} {reason}").decode()
        return bool(told.startswith(f"{_here.rank} "))
    return False


def ended_by() -> str | None:
    """Why another process ended the run: its words, or INTERRUPTED. None where none did."""
    if _here.count == 1:
        return None
    with contextlib.suppress(RuntimeError):
        if _here.store.check([ENDED]):
            other, _, reason = _here.store.get(ENDED).decode().partition(" ")
            return str(reason) if int(other) != _here.rank else None
    return None
