"""Fixtures for all tests: a policy small enough to be built, not loaded, and the clock for hostile texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig
from policies.tiny.tokenizer import build_tokenizer

# Imports and a busy machine make first examples slow; a law's test is about the law, not about time.
settings.register_profile("grpo-bench", deadline=None)
settings.load_profile("grpo-bench")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left with one of them in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved policy with tiny's tokenizer and random weights."""
    from policies.tiny.train import build_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("untrained")
    tokenizer = build_tokenizer()
    build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def untrained(untrained_folder: Path) -> LanguageModel:
    """A fresh policy with random weights."""
    return load_policy(PolicyConfig(name="untrained", path=str(untrained_folder), device="cpu", dtype="float32"))


@pytest.fixture(scope="session")
def load_tiny() -> Callable[[], LanguageModel]:
    """Makes fresh copies of the embedded policy."""
    config = PolicyConfig(
        name="tiny", path="package:policies/tiny/weights", device="cpu", dtype="float32", max_action_tokens=72
    )
    return lambda: load_policy(config)


@pytest.fixture
def tiny(load_tiny: Callable[[], LanguageModel]) -> LanguageModel:
    """A fresh copy of the embedded policy."""
    return load_tiny()


@pytest.fixture
def takes_less_than() -> Callable[[float, Callable[[], object]], bool]:
    """Whether a call needs less than so many seconds of processor time in the best of three tries."""

    def seconds(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return lambda limit, call: any(seconds(call) < limit for _ in range(3))
