"""How a sweep's runs are spread over processes and machines: `launcher=NAME`, a preset of conf/launcher/."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence

from benchmarks.config.plugins import unknown
from benchmarks.config.presets import presets
from tasks.errors import BadInput, require

WORD = "launcher="
OF_HYDRA = ("hydra.", "hydra/")
"""How the words begin that are about the sweep and not about its runs."""
SLURM = ("sbatch", "srun")
HERE = (None, "joblib")
"""Launchers whose runs are made on this machine and end with this process."""
N_JOBS = "hydra.launcher.n_jobs"
PLUGINS = {
    "joblib": ("hydra-joblib-launcher", "joblib"),
    "ray": ("hydra-ray-launcher", "ray"),
    "slurm": ("hydra-submitit-launcher", "slurm"),
    "slurm_local": ("hydra-submitit-launcher", "slurm"),
}
"""By preset: the package that it needs, and the extra that brings it."""


def launcher_of(overrides: Sequence[str]) -> str | None:
    """The launcher that a command line names; None where the runs go one after the other, in this process.

    Raises:
        BadInput: two of them, an unknown one, or one whose package or whose scheduler is not installed.
    """
    names = [word.removeprefix(WORD) for word in overrides if word.startswith(WORD)]
    if not names:
        return None
    require(len(names) == 1, f"{' '.join(WORD + name for name in names)}: a sweep has one launcher")
    (name,) = names
    if name not in presets("launcher"):
        raise BadInput(unknown("launcher", name, presets("launcher")))
    package, extra = PLUGINS[name]
    if importlib.util.find_spec(f"hydra_plugins.{package.replace('-', '_')}") is None:
        raise BadInput(f"{WORD}{name} needs the package {package}: pip install 'grpo-bench[{extra}]'")
    if name == "slurm" and not all(map(shutil.which, SLURM)):
        told = "launcher=slurm_local tries the same without a cluster"
        raise BadInput(f"{WORD}slurm: {' and '.join(SLURM)} are not on this machine's PATH; {told}")
    return name


def words_about_runs(overrides: Sequence[str]) -> list[str]:
    """The words that say what is run, without those that say how."""
    return [word for word in overrides if not word.startswith((WORD, *OF_HYDRA))]


def words_for_launcher(name: str | None, overrides: Sequence[str], runs: int) -> list[str]:
    """Hydra's words for a launcher. joblib gets no more processes than there are runs, and shares the cores out so."""
    if name is None:
        return []
    words = [f"{WORD}{name}"]
    if name == "joblib" and not any(word.startswith(f"{N_JOBS}=") for word in overrides):
        from joblib import cpu_count

        words.append(f"{N_JOBS}={min(cpu_count(), runs)}")
    return words
