"""Everything that a run can be told, as dataclasses: the one place where defaults stand.

Hydra composes into `Settings`: conf/ holds departures from it, and algorithms and tasks bring dataclasses of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from benchmarks.config.budget import BudgetConfig
from benchmarks.config.evaluate import EvaluateConfig
from benchmarks.records.record import RUNS
from benchmarks.records.store import Store, is_url
from policies.adapter import AdapterConfig
from policies.imitation import ImitationConfig
from policies.source import PolicyConfig
from tasks.errors import require
from tasks.files import located

TRACKERS = {
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""The packages that each tracker needs."""
NO_TRACKER = "none"


@dataclass(kw_only=True)
class BatchConfig:
    """Rollouts of one update; algorithms refer to it."""

    problems: int = 8
    """Groups per update."""
    group_size: int = 8
    """Rollouts per problem and update."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        require(self.problems >= 1, f"batch.problems={self.problems} must be at least 1")
        require(self.group_size >= 2, f"batch.group_size={self.group_size} must be at least 2")


@dataclass(kw_only=True)
class WarmStartConfig(ImitationConfig):
    """Supervised fine-tuning on transcripts that the task makes of its train problems, before any algorithm begins."""

    name: str = "sft"
    transcripts: int = 2000
    """Chats that the task makes of its train problems, in shuffled passes over them; each is seen once."""
    lora_rank: int | None = None
    """Train an adapter of this rank and merge it into the weights; None trains all weights."""
    charge: bool = False
    """Whether its cost counts as the algorithm's own: against the budget, and in every cost that is compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.transcripts >= 1, f"warmstart.transcripts={self.transcripts} must be at least 1")
        rank = self.lora_rank
        require(rank is None or rank >= 1, f"warmstart.lora_rank={rank} must be at least 1")


@dataclass(kw_only=True)
class ResultsConfig:
    """Where records go, and what stays of a run."""

    dir: str = str(RUNS)
    """A folder, or a store that fsspec knows: s3://bucket/runs, say. docs/scaling.md has what then holds."""
    save_every_s: float = 0.0
    """Least seconds between two saved states of a run; 0 saves after every update."""
    keep_policy: bool = True
    """Whether the improved policy stays in the record, as a folder for policy.path=."""
    scratch: str = "results/scratch"
    """Where `dir` is a store: the folder in which runs are made."""

    def __post_init__(self) -> None:
        least = self.save_every_s
        require(0 <= least < math.inf, f"results.save_every_s={least} must be a number of seconds, 0 or above")
        self.store = Store(self.dir).url if is_url(self.dir) else None
        """URL of the store that records go to; None where they stay in the folder."""
        place = located(self.scratch, "results.scratch") if self.store else located(self.dir, "results.dir")
        self.folder: Path = place / Store(self.dir).folder_name if self.store else place
        """The folder in which runs are made: where records go, or where they are made that go to a store."""

    @property
    def where(self) -> str:
        """Where records go, as `--runs` takes it."""
        return self.store or str(self.folder)


@dataclass(kw_only=True)
class Settings:
    """The root of a run's configuration. `algo` has no default: it comes from `+algo=NAME`."""

    algo: Any = MISSING
    task: Any = MISSING
    policy: PolicyConfig = MISSING
    adapter: AdapterConfig | None = None
    """None: all weights are trained."""
    warmstart: WarmStartConfig | None = None
    """None: the weights are the policy's own."""
    budget: BudgetConfig = MISSING
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    results: ResultsConfig = field(default_factory=ResultsConfig)
    seed: int = 0
    """Of everything that is drawn, evaluation apart."""
    tracking: str = NO_TRACKER
    """A copy of the curves for a tracker: none, tensorboard, trackio, wandb or mlflow."""
    force: bool = False
    """Run again what is complete, from the start what was interrupted."""
    files: dict[str, str] = field(default_factory=dict)
    """FILE.py:CLASS of an algorithm or a task that is a single file, by group."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, f"seed={self.seed} must be a whole number from 0 to {2**31 - 1}")
        check_tracking(self.tracking)


def check_tracking(name: str) -> None:
    """Refuse a tracker that cannot be used.

    Raises:
        BadInput: no such tracker, or a package that it needs is not installed.
    """
    names = (NO_TRACKER, *TRACKERS)
    require(name in names, f"tracking={name}: use one of {', '.join(names)}")
    missing = [package for package in TRACKERS.get(name, ()) if find_spec(package) is None]
    install = f"pip install {' '.join(missing)}"
    require(not missing, f"tracking={name}: {', '.join(missing)} not installed; {install}, or leave tracking=none")
