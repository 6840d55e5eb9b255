"""What the tests of tasks/ share: the data that is measured on but not shipped."""

from __future__ import annotations

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
