"""What a trainer needs to resume beside the weights: optimiser, schedule, global generators, and the algorithm's own.

The generators are put back at the first step and not before: the trainer draws from them while it is set up.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from algorithms.credit_samples import LAST
from algorithms.optimizer_state import optimizer_state, put_optimizer_state
from policies.devices import generator_states, put_generator_states

if TYPE_CHECKING:
    from algorithms.api import State
    from algorithms.trainer import RolloutTrainer


def trainer_state(trainer: RolloutTrainer) -> State:
    """The state after an update."""
    return {
        "updates": trainer.state.global_step,
        "optimizer": optimizer_state(trainer.optimizer),
        "schedule": trainer.lr_scheduler.state_dict(),
        "generators": generators(trainer.policy.device),
        "algorithm": trainer.algorithm.state(),
        "last_credit": None if trainer.session.open() else trainer.last_credit(),
    }


def resume(trainer: RolloutTrainer, state: State) -> None:
    """Make a new trainer resume from a state; its policy has its weights already."""
    if state["last_credit"] is not None:
        trainer.session.keep(LAST, state["last_credit"])
    trainer.problems = islice(trainer.problems, state["updates"] * trainer.algorithm.config.problems_per_update, None)
    trainer.add_callback(Resume(trainer, state))
    trainer.algorithm.restore(state["algorithm"])


class Resume(TrainerCallback):  # type: ignore[misc]
    """Puts a state back when training begins."""

    def __init__(self, trainer: RolloutTrainer, state: State) -> None:
        self.trainer, self.saved = trainer, state
        self.first = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Put optimiser, schedule and count back."""
        put_optimizer_state(self.trainer.optimizer, self.saved["optimizer"])
        self.trainer.lr_scheduler.load_state_dict(dict(self.saved["schedule"]))
        state.global_step = self.trainer._globalstep_last_logged = self.saved["updates"]

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put the generators back."""
        if self.first:
            put_generators(self.trainer.policy.device, self.saved["generators"])
        self.first = False


def generators(device: torch.device) -> dict[str, Any]:
    """The states of the global generators that dropout and libraries draw from."""
    kind, words, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(words, np.int64)), *rest],
        "torch": generator_states(device),
    }


def put_generators(device: torch.device, states: State) -> None:
    """The inverse of `generators`."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, words, *rest = states["numpy"]
    np.random.set_state((kind, words.numpy(), *rest))  # noqa: NPY002
    put_generator_states(device, states["torch"])
