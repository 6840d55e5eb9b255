"""The peak that mfu is a share of: measured once per device, thread count and dtype."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.running import machine
from benchmarks.running.machine import meters, peak_flops_per_s, peak_memory

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "SECONDS", 0.02)
    return tmp_path / "grpo-bench" / "peak_flops_per_s.json"


def test_the_peak_is_measured_once_per_dtype_and_then_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = peak_flops_per_s(CPU, torch.float32)
    peak_flops_per_s(CPU, torch.float64)
    assert len(json.loads(cache.read_text())) == 2
    monkeypatch.setattr(machine, "_product_rate", lambda *_: pytest.fail("measured again"))
    assert peak_flops_per_s(CPU, torch.float32) == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": "fast"}', '{"a": -1.0}'])
def test_a_damaged_cache_is_measured_anew(cache: Path, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    assert peak_flops_per_s(CPU, torch.float32) > 1e8
    assert len(json.loads(cache.read_text())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert peak_flops_per_s(CPU, torch.float32) > 1e8


def test_no_product_is_faster_than_the_peak(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([3.0, 7.0, 5.0])
    monkeypatch.setattr(machine, "_product_rate", lambda *_: next(rates))
    assert peak_flops_per_s(CPU, torch.float32) == 7.0


def test_without_a_gpu_its_seconds_and_memory_are_null() -> None:
    assert "gpu_s" not in meters(CPU)
    found = peak_memory(CPU)
    assert found["peak_device_bytes"] is None
    assert (found["peak_host_bytes"] or 0) > 50 * 2**20
