"""What the tests of tasks/ share: the data that is measured on but not shipped, and the clock for hostile texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def _shared(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.is_dir():
        pytest.skip(f"no folder {path}: this data is not part of the project")
    return path


@pytest.fixture(scope="session")
def gsm8k_folder() -> Path:
    return _shared("gsm8k")


@pytest.fixture(scope="session")
def wordle_folder() -> Path:
    return _shared("wordle")


@pytest.fixture
def takes_less_than() -> Callable[[float, Callable[[], object]], bool]:
    """Whether a call needs less than so many seconds of processor time in the best of three tries."""

    def seconds(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return lambda limit, call: any(seconds(call) < limit for _ in range(3))
