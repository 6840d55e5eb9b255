"""Being told to stop: Ctrl-C, and the SIGTERM of schedulers and containers, which counts as one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does. In a thread, where Python takes no signals, nothing changes."""
    with handled({signal.SIGTERM: _interrupt}):
        yield


@contextmanager
def handled(handlers: Mapping[int, Callable[[int, FrameType | None], object]]) -> Iterator[None]:
    """These handlers for these signals, and those of before in the end. In a thread, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unstoppable() -> Iterator[None]:
    """Neither signal counts, for the moment that it takes to put an end on record: a second Ctrl-C comes too late."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = ignore_interruptions()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions() -> dict[int, Any]:
    """Let neither signal count any more. Returns their handlers until now."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: whoever ends all processes of a group, a sweep and its workers say, ends some of them twice.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
