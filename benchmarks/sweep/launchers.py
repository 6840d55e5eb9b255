"""How a sweep's runs are spread over processes and machines: `launcher=NAME`, a preset of conf/launcher/."""

from __future__ import annotations

import importlib.util
import shutil

from tasks.errors import require

WORD = "launcher="
SLURM = ("sbatch", "srun")
HERE = (None, "joblib")
"""Launchers whose runs are made on this machine and end with this process."""
PLUGINS = {
    "joblib": ("hydra-joblib-launcher", "joblib"),
    "ray": ("hydra-ray-launcher", "ray"),
    "slurm": ("hydra-submitit-launcher", "slurm"),
    "slurm_local": ("hydra-submitit-launcher", "slurm"),
}
"""By preset: the package that it needs, and the extra that brings it."""


def refuse_missing(word: str) -> None:
    """Refuse a launcher that cannot be used here.

    Args:
        word: launcher=NAME.

    Raises:
        BadInput: its package or its scheduler is not installed, or it is several.
    """
    name = word.removeprefix(WORD)
    require("," not in name, f"{word}: a sweep has one launcher")
    package, extra = PLUGINS.get(name, ("", ""))
    there = not package or importlib.util.find_spec(f"hydra_plugins.{package.replace('-', '_')}") is not None
    require(there, f"{word} needs the package {package}: pip install 'grpo-bench[{extra}]'")
    if name == "slurm" and not all(map(shutil.which, SLURM)):
        way = "launcher=slurm_local tries the same without a cluster"
        require(False, f"{word}: {' and '.join(SLURM)} are not on this machine's PATH; {way}")
