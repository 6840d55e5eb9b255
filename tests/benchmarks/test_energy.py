"""Joules from the counters that a machine has; nothing where it has none."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from benchmarks.running import energy
from benchmarks.running.energy import energy_meter, rapl_meter


def zone(root: Path, name: str, microjoules: int, *, most: int = 999_999) -> Path:
    folder = root / f"intel-rapl:{len(list(root.iterdir()))}"
    folder.mkdir()
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "package-0", 100), zone(tmp_path, "package-1", 500)
    core = zone(tmp_path, "core", 0)
    meter = rapl_meter(tmp_path)
    assert meter
    for folder, now in ((first, 300_100), (second, 200_500), (core, 999_999)):
        (folder / "energy_uj").write_text(str(now))
    assert meter() == pytest.approx(0.5)


def test_a_counter_that_starts_again_from_zero_goes_on(tmp_path: Path) -> None:
    folder = zone(tmp_path, "package-0", 900_000)
    meter = rapl_meter(tmp_path)
    assert meter
    readings = []
    for now in (999_999, 100_000, 900_000):
        (folder / "energy_uj").write_text(str(now))
        readings.append(meter())
    assert readings == pytest.approx([0.099999, 0.2, 1.0])


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert rapl_meter(tmp_path / "nowhere") is None
    zone(tmp_path, "core", 1)
    assert rapl_meter(tmp_path) is None
    (zone(tmp_path, "package-0", 1) / "energy_uj").unlink()
    assert rapl_meter(tmp_path) is None


def fake_nvml(monkeypatch: pytest.MonkeyPatch, readings: list[int]) -> list[str]:
    asked: list[str] = []

    class NVMLError(Exception):
        pass

    def total(handle: str) -> int:
        asked.append(handle)
        if not readings:
            raise NVMLError("not supported")
        return readings.pop(0)

    module = ModuleType("pynvml")
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    module.NVMLError, module.nvmlInit = NVMLError, lambda: None  # type: ignore[attr-defined]
    module.nvmlDeviceGetHandleByUUID = lambda uuid: uuid  # type: ignore[attr-defined]
    module.nvmlDeviceGetTotalEnergyConsumption = total  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab-cd"))
    return asked


def test_a_gpu_is_found_by_its_uuid_and_its_millijoules_become_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_nvml(monkeypatch, [1000, 2500, 7500])
    meter = energy_meter(torch.device("cuda:1"))
    assert meter
    assert (meter(), meter()) == (2.5, 7.5)
    assert set(asked) == {"GPU-ab-cd"}


def test_a_gpu_without_a_counter_has_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml(monkeypatch, [])
    assert energy_meter(torch.device("cuda")) is None


def test_on_a_processor_rapl_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zone(tmp_path, "package-0", 1)
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    assert energy_meter(torch.device("cpu"))
