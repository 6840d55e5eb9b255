"""Meters of energy: the counter of an NVIDIA GPU (NVML), or of a processor's packages (RAPL under Linux).

Both count the whole device, whoever uses it: energy is a run's own only where the run has the device for itself. On a
GPU the processor's share is not counted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RAPL = Path("/sys/class/powercap")

Meter = Callable[[], float]
"""Joules so far, from an arbitrary start; they only grow."""


def energy_meter(device: torch.device) -> Meter | None:
    """The meter of the device that a policy runs on; None where there is none that may be read."""
    return _nvml_meter(device) if device.type == "cuda" else rapl_meter(RAPL)


def missing_meter(device: torch.device) -> str:
    """Why there is no meter, for a message."""
    if device.type == "cuda":
        return "the GPU has no energy counter that NVML can read (package nvidia-ml-py, Volta or newer)"
    return f"this machine has no energy meter that may be read ({RAPL}/*/energy_uj)"


def _nvml_meter(device: torch.device) -> Meter | None:
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # By its UUID: NVML's indices know nothing of CUDA_VISIBLE_DEVICES.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000.0


def rapl_meter(root: Path) -> Meter | None:
    """The sum over the processor's packages; None where one of them may not be read."""
    try:
        names = {file.parent: file.read_text() for file in sorted(root.glob("*/name"))}
        zones = [_Zone(folder) for folder, name in names.items() if name.startswith("package")]
    except (OSError, ValueError):
        return None
    return (lambda: sum(zone.joules() for zone in zones)) if zones else None


class _Zone:
    """One package's counter. It counts micro-joules and starts again from 0 after `max_energy_range_uj`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "energy_uj"
        self.range = int((folder / "max_energy_range_uj").read_text())
        self.last = int(self.file.read_text())
        self.sum = 0

    def joules(self) -> float:
        now = int(self.file.read_text())
        self.sum += (now - self.last) % (self.range + 1)
        self.last = now
        return self.sum / 1e6
