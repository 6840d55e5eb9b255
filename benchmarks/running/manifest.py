"""Where a record's numbers come from: code, packages, machine, weights, command."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.records.record import RECORD_VERSION
from benchmarks.records.redaction import redact
from policies import ranks

if TYPE_CHECKING:
    import torch

    from benchmarks.config.schema import RunConfig
    from policies.language_model import LanguageModel

PACKAGES = ("grpo-bench", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "tokenizers")


def manifest(config: RunConfig, task_fingerprint: str, policy_source: str, command: str) -> dict[str, Any]:
    """What can be said of a run before its policy is loaded."""
    commit, dirty = git_state()
    return {
        "record_version": RECORD_VERSION,
        "command": redact(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "experiment": config.experiment(task_fingerprint),
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := package_version(name))},
        "cpu_cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "task_fingerprint": task_fingerprint,
        "policy_source": redact(policy_source),
    }


def describe(policy: LanguageModel) -> dict[str, Any]:
    """What the manifest says of a loaded policy and where it runs."""
    import torch

    from policies.chat import DATE

    return {
        "chat_date": f"{DATE:%Y-%m-%d}",
        "device": device_name(policy.device),
        "processes": ranks.count(),
        "threads": torch.get_num_threads(),
        "policy_state": policy.state_hash(),
        "policy_parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "dtype": str(policy.model.dtype).removeprefix("torch."),
    }


def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout that the code runs from; (None, None) outside one."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.stdout.strip(), bool(status.stdout.strip())


def package_version(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def command_line(arguments: list[str]) -> str:
    """The command as typed, but for secrets and the user's home folder."""
    return redact(" ".join(["python -m benchmarks", *arguments]))
