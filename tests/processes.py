"""Functions that are called in several processes at once, as a launcher would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def started(count: int, command: Sequence[str]) -> list[subprocess.Popen[str]]:
    """A Python command in so many processes that know of each other; output and errors in one pipe each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    found = []
    for rank in range(count):
        variables = {**common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1}
        variables |= {"PYTHONPATH": os.pathsep.join(sys.path)}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        found.append(subprocess.Popen([sys.executable, *command], env=environment, **pipes))
    return found


def ended(processes: Sequence[subprocess.Popen[str]], timeout: float = 600) -> list[tuple[int, str]]:
    """Exit code and output of each process, once all have ended."""
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]
