"""Copies of a run's curves for the tracker that a user already has: tracking=none, tensorboard, trackio, wandb, mlflow.

The trackers are accelerate's, one interface to all four. Transformers' `report_to` would not serve: it knows what a
Trainer logs, and neither the val curve nor the costs, nor an algorithm without a Trainer. What is local lies beside the
records, in `tracking/`. The record is the truth, so a tracker that fails while a run goes on is named and left behind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.config.settings import NO_TRACKER
from tasks.errors import BadInput

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig

PROJECT = "grpo-bench"
"""What runs are grouped under where a tracker groups them."""


class Tracker:
    """One run in a tracker.

    Args:
        name: tensorboard, trackio, wandb or mlflow.
        config: the run's.
        run: the record's name.

    Raises:
        BadInput: the tracker cannot be started; its own words are in it.
    """

    def __init__(self, name: str, config: RunConfig, run: str) -> None:
        self.name = name
        folder = (config.results.folder.parent / "tracking").absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.tracker = _tracker(name, folder, run)
            self.tracker.start()
            self.tracker.store_init_configuration(_flat(config.resolved))
        # Trackers and their servers raise nearly anything; all of it means the same.
        except Exception as error:
            raise BadInput(f"tracking={name}: cannot start ({' '.join(str(error).split())[:200]})") from None

    def log(self, values: Mapping[str, float | None], update: int) -> None:
        """Send numbers of an update; what was not measured is left out."""
        numbers = {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
        self.tracker.log(numbers, step=update)

    def close(self) -> None:
        """End the tracker's run."""
        self.tracker.finish()


def open_tracker(config: RunConfig, run: str) -> Tracker | None:
    """The tracker that a run asks for."""
    return None if config.tracking == NO_TRACKER else Tracker(config.tracking, config, run)


def _tracker(name: str, folder: Path, run: str) -> Any:
    import torch
    from accelerate import PartialState
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

    # Trackers ask it which process they are in; the trainer, later, takes it as it is.
    PartialState(cpu=not torch.cuda.is_available())
    if name == "tensorboard":
        return TensorBoardTracker(run, folder / "tensorboard")
    if name == "trackio":
        return TrackioTracker(PROJECT, name=run)
    if name == "wandb":
        return WandBTracker(PROJECT, name=run, dir=str(folder))
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    return MLflowTracker(PROJECT, logging_dir=str(folder / "mlflow"), run_name=run)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key; what is no number, text or truth value as text."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return leaves
