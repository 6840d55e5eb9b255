"""The one trainer of all policy-gradient algorithms: TRL's GRPOTrainer with our episodes and an algorithm's credit.

From TRL come the loss with its clipping and KL term, the fused output head, the optimiser, its schedule and the loop
over updates. What is changed of TRL 1.16 and of transformers' Trainer beneath it, all of it; for each a test of
tests/algorithms/test_trl_hooks.py fails where the library moves it.

    replaced    get_train_dataloader     endless and empty: problems come from the session, so no run is cut short
    replaced    _prepare_inputs          plays, credits, and returns a micro-batch as TRL's loss reads it; nothing is
                                         generated, decoded or rewarded by TRL
    replaced    _get_per_token_logps_and_entropies, for the trained model: see algorithms/token_logprobs.py
    read        _step                    micro-batches done, for the place in the update
    read        ref_model                with beta above 0, TRL's copy of the starting weights
    written     _globalstep_last_logged  when a run is resumed (algorithms/trainer_state.py)
    replaced    accelerator.gather       in a run of several processes only: each process has the whole update already
    replaced    trl.trainer.utils._use_triton, so that a CPU computes the head where the loss needs it and nowhere else
                                         (policies/trl_head.py)

The processes of a run (policies/ranks.py) play and credit the whole update together; each trains on its share of the
micro-batches, and DistributedDataParallel averages the gradients.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import set_seed

from algorithms.api import Session
from algorithms.batch import RolloutBatch, build_batch
from algorithms.credit_samples import FIRST, LAST, credit_rows
from algorithms.micro_batches import Row, by_rows, by_tokens, micro_batches, rollout_rows
from algorithms.token_logprobs import token_logprobs
from policies import ranks
from policies.language_model import LanguageModel
from tasks.api import Problem, Task
from tasks.errors import RunFailed

if TYPE_CHECKING:
    from algorithms.policy_gradient import PolicyGradient

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter


class RolloutTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, playing our episodes and using an algorithm's credit."""

    def __init__(self, algorithm: PolicyGradient, policy: LanguageModel, task: Task, session: Session) -> None:
        self.algorithm, self.policy, self.task, self.session = algorithm, policy, task, session
        self.sampling = algorithm.sampling()
        self.problems: Iterator[Problem] = session.problems()
        self.parts: list[dict[str, torch.Tensor]] = []
        """This process's micro-batches of the update."""
        self.facts: dict[str, float] = {}
        self.credited: tuple[RolloutBatch, torch.Tensor] | None = None
        super().__init__(
            model=policy.model,
            processing_class=policy.tokenizer,
            reward_funcs=[no_reward],
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            args=trl_config(algorithm, policy, task, session),
            callbacks=[StepCallback(self)],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if ranks.count() > 1:
            set_seed(self.args.seed)  # TRL gave each process another one.
            self.accelerator.gather = lambda tensor: tensor

    def get_train_dataloader(self) -> Endless:
        """A batch for every micro-batch, without end."""
        return Endless()

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        place: int = self._step % self.args.steps_per_generation
        if place == 0:
            with torch.no_grad():
                self.parts = self.next_update()
        return self.parts[place]

    def next_update(self) -> list[dict[str, torch.Tensor]]:
        """Play and credit the rollouts of an update."""
        config = self.algorithm.config
        problems = list(islice(self.problems, config.problems_per_update))
        rollouts = self.algorithm.play(problems, self.sampling, self.session)
        # Trees have no groups of one size: their credit goes by `Rollout.node`.
        size = 1 if rollouts[0].forks else config.group_size
        device = self.accelerator.device
        batch = build_batch(rollouts, size, self.task.components, device, self.policy.chat.token_ends)
        advantages = ranks.first(self.algorithm.credit(batch))
        check_advantages(advantages, batch)
        if self.state.global_step == 0:
            self.session.keep(FIRST, credit_rows(batch, advantages, 1))
        self.credited = (batch, advantages)
        rows = [*rollout_rows(batch, advantages), *ranks.first(self.algorithm.demonstrations(batch))]
        if self.loss_type == "dapo":
            # Its denominator is the update's tokens, so rows that add nothing to the sum can be left out. Other losses
            # average within micro-batches, which must then be equally many of all rows.
            needed = [row for row in rows if (row.tokens if self.beta else row.has_gradient)]
            rows = needed or [min(rows, key=len)]
        self._book(rows)
        self.facts = self.algorithm.facts(batch)
        cut = by_tokens if self.loss_type == "dapo" else by_rows
        count = self.args.steps_per_generation * ranks.count()
        parts = micro_batches(rows, count, cut, self.policy.tokenizer.pad_token_id, device)
        tokens = batch.action_mask.sum()
        return [
            self._with_reference(part) | {"num_items_in_batch": tokens} for part in parts[ranks.rank() :: ranks.count()]
        ]

    def _book(self, rows: Sequence[Row]) -> None:
        shape = self.policy.shape
        self.session.charge(
            "update",
            trained_tokens=float(sum(row.tokens for row in rows)),
            flops=sum(shape.update(len(row), heads=row.tokens) for row in rows),
        )

    def _with_reference(self, part: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A micro-batch, with beta above 0 with the log-probabilities that its KL term compares with."""
        if not self.beta:
            return part
        ids, mask = (torch.cat([part[f"prompt_{name}"], part[f"completion_{name}"]], 1) for name in ("ids", "mask"))
        width = part["completion_ids"].shape[1]
        if self.ref_model is not None:
            found = self._get_per_token_logps_and_entropies(self.ref_model, ids, mask, width)
        else:
            model = self.accelerator.unwrap_model(self.model)
            with use_adapter(model, "ref" if "ref" in model.peft_config else None):
                found = self._get_per_token_logps_and_entropies(self.model, ids, mask, width)
        return part | {"ref_per_token_logps": found[0]}

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Any, mask: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> Any:
        if not compute_entropy or self.aux_loss_enabled:
            return super()._get_per_token_logps_and_entropies(
                model, ids, mask, *args, compute_entropy=compute_entropy, **kwargs
            )
        part = self.parts[self._step % self.args.steps_per_generation]
        with self.accelerator.autocast():
            return (*token_logprobs(model, ids, mask, part["tool_mask"]), None)

    def last_credit(self) -> list[dict[str, Any]]:
        """Samples of what the update that was just made rewarded."""
        assert self.credited is not None
        return credit_rows(*self.credited, self.state.global_step)


class Endless:
    """What transformers' loop draws a batch from for every micro-batch; `RolloutTrainer` does not look at it."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {}


def no_reward(**_: Any) -> list[float]:
    """TRL asks for a reward function; it is never called."""
    raise AssertionError


class StepCallback(TrainerCallback):  # type: ignore[misc]
    """Closes each update with the session and stops when the budget is spent."""

    def __init__(self, trainer: RolloutTrainer) -> None:
        self.trainer = trainer

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise RunFailed(f"the {name} of update {state.global_step} is {logs[name]}; the update before is kept")
        facts = dict(self.trainer.facts)
        facts |= {key: float(logs[key]) for key in ("loss", "grad_norm", "entropy") if key in logs}
        self.trainer.session.step(facts)
        if not self.trainer.session.open():
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep what the last update was credited."""
        if self.trainer.credited:
            self.trainer.session.keep(LAST, self.trainer.last_credit())


def check_advantages(advantages: torch.Tensor, batch: RolloutBatch) -> None:
    """Refuse what would silently train on nonsense.

    Raises:
        ValueError: wrong shape, or a number that is not finite.
    """
    allowed = [tuple(batch.action_mask.shape[:1]), tuple(batch.action_mask.shape)]
    if tuple(advantages.shape) not in allowed:
        raise ValueError(f"credit returned shape {tuple(advantages.shape)}; it must be {allowed[0]} or {allowed[1]}")
    if not bool(torch.isfinite(advantages).all()):
        raise ValueError("credit returned an advantage that is not finite")


def trl_config(algorithm: PolicyGradient, policy: LanguageModel, task: Task, session: Session) -> TrlConfig:
    """TRL's configuration for our own. Everything left out is TRL's default."""
    config = algorithm.config
    size = config.problems_per_update * algorithm.rollouts_per_problem(task) // ranks.count()
    micro_batch = config.micro_batch(size)
    return TrlConfig(
        output_dir=str(session.scratch),
        seed=session.seed,
        max_steps=sys.maxsize,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=config.warmup_updates,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        temperature=config.temperature * policy.temperature,
        num_generations=algorithm.rollouts_per_problem(task),
        num_iterations=1,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size // micro_batch,
        steps_per_generation=size // micro_batch,
        max_completion_length=task.max_turns * task.max_action_tokens,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=policy.bf16,
        use_cpu=policy.device.type == "cpu",
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,  # It would log a loss that is NaN as 0.
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=policy.device.type == "cuda",
        ddp_find_unused_parameters=False,
        **algorithm.trl_settings(),
    )
