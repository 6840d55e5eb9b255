"""What this machine can measure of a run, and how fast it can multiply matrices."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.running.energy import energy_meter
from benchmarks.running.manifest import device_name

ON_CPU, ON_GPU = (256, 512, 1024), (4096, 8192)
"""Widths of the square matrices whose product is timed."""
SECONDS = 0.3
"""For each size."""


def meters(device: torch.device) -> dict[str, Callable[[], float]]:
    """The ledger's meters: CPU seconds of all threads of this process, and where there is one, the GPU's seconds
    and the energy. Reading the first waits for the GPU, so that work is booked to the phase that asked for it."""
    found: dict[str, Callable[[], float]] = {}
    if device.type != "cpu":

        def held() -> float:
            torch.accelerator.synchronize(device)
            return time.perf_counter()

        found["gpu_s"] = held
    found["cpu_s"] = time.process_time
    energy = energy_meter(device)
    return found | ({"energy_j": energy} if energy else {})


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """The most memory held so far: resident in this process, and allocated on its GPU (null without one)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peak_host_bytes": float(peak if sys.platform == "darwin" else peak * 1024),
        "peak_device_bytes": float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None,
    }


def peak_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest matrix product of this device, thread count and dtype: measured once and kept in the user's cache."""
    key = f"{device_name(device)}, {torch.get_num_threads()} threads, {dtype}, torch {torch.__version__}"
    file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpo-bench" / "peak_flops_per_s.json"
    known = _known(file)
    if key not in known:
        known[key] = max(_product_rate(size, device, dtype) for size in (ON_CPU if device.type == "cpu" else ON_GPU))
        _keep(file, known)
    return known[key]


def _product_rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of many products: a busy machine disturbs some of them, not all."""
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    out = a @ a
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        began = time.perf_counter()
        torch.mm(a, a, out=out)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best


def _known(file: Path) -> dict[str, float]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    fits = isinstance(known, dict) and all(isinstance(rate, float) and rate > 0 for rate in known.values())
    return known if fits else {}


def _keep(file: Path, known: dict[str, float]) -> None:
    """Write the cache; where that is not allowed, the next run measures again."""
    temporary = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=2), encoding="utf-8")
        temporary.replace(file)
