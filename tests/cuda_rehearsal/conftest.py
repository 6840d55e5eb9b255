"""The device that all rehearsals run on.

Believing in it cannot be unlearned, so they have a process of their own, which tests/test_cuda_rehearsal.py starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pretended_cuda import build_guard, pretended

collect_ignore_glob = [] if os.environ.get("REHEARSE_CUDA") else ["test_*.py"]


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    build_guard(folder)
    return folder


@pytest.fixture
def cuda(guard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CUDA device, as far as anything can tell."""
    with pretended(monkeypatch):
        yield
