"""The one trainer of all policy-gradient algorithms, on top of TRL's GRPOTrainer.

Three hooks into TRL 1.16 carry everything (tests/algorithms/test_trl_hooks.py fails where one of them moves):
`rollout_func` plays our episodes and returns `env_mask`; `_calculate_rewards` is listened to for the reward matrix; and
`_generate_and_score_completions` has its `advantages` replaced by what `credit` says, [B] or [B, N].

A run in several processes (policies/ranks.py) has the whole update in each of them, played together and credited alike;
each trains on its share of the micro-batches, and DistributedDataParallel averages the gradients.

Two more save time and change no number: the rollouts of an update are cut into micro-batches by length
(algorithms/micro_batches.py), and only what the loss needs is computed of each (algorithms/token_logprobs.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import set_seed

from algorithms.api import Session
from algorithms.batch import Demonstration, RolloutBatch, build_batch, masks_once
from algorithms.credit_samples import FIRST, LAST, credit_rows
from algorithms.micro_batches import by_length, by_rows, by_tokens
from algorithms.token_logprobs import token_logprobs
from policies import ranks
from policies.api import Rollout
from policies.language_model import LanguageModel
from tasks.api import Task
from tasks.errors import RunFailed

if TYPE_CHECKING:
    from algorithms.policy_gradient import PolicyGradient

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer

LONGEST_RUN = 20_000
"""Updates after which a run ends even if its budget does not."""


class RolloutTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, playing our episodes and using an algorithm's credit."""

    def __init__(self, algorithm: PolicyGradient, policy: LanguageModel, task: Task, session: Session) -> None:
        config = algorithm.config
        self.algorithm, self.policy, self.task, self.session = algorithm, policy, task, session
        self.sampling = algorithm.sampling()
        self.rows_per_problem = algorithm.rollouts_per_problem(task)
        self.problems = {problem.id: problem for problem in task.problems("train")}
        self.rollouts: list[Rollout] = []
        self.reward_matrix: torch.Tensor | None = None
        self.facts: dict[str, float] = {}
        self.credited: tuple[RolloutBatch, torch.Tensor] | None = None
        self.in_loss: torch.Tensor | None = None
        """While a loss is computed: int64 [rows, completion], 1 where it has a token."""
        rows = [problem.id for problem in islice(session.problems(), LONGEST_RUN * config.problems_per_update)]
        super().__init__(
            model=policy.model,
            processing_class=policy.tokenizer,
            reward_funcs=[reward_of(component.name) for component in task.components],
            rollout_func=self._play,
            train_dataset=Dataset.from_dict({"prompt": rows}),
            args=trl_config(algorithm, policy, task, session),
            callbacks=[StepCallback(self)],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if ranks.count() > 1:
            set_seed(self.args.seed)  # TRL gave each process another one.
            # TRL would put together what all of them have whole, in parts that need not be of one size.
            self.accelerator.gather = lambda tensor: tensor

    def _play(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        problems = [self.problems[id_] for id_ in prompts[:: self.rows_per_problem]]
        self.rollouts = self.algorithm.play(problems, self.sampling, self.session)
        # TRL wants as many rows as it has prompts; trees may have fewer leaves.
        rows = self.rollouts + [self._filler()] * (len(prompts) - len(self.rollouts))
        return {
            "prompt_ids": [row.prompt_ids for row in rows],
            "completion_ids": [row.completion_ids for row in rows],
            "env_mask": masks_once(rows),
            "logprobs": None,
            "rollout": rows,
        }

    def _filler(self) -> Rollout:
        """A row without an action: no reward, no token in the loss."""
        end = [self.policy.tokenizer.eos_token_id]
        problem = self.rollouts[0].problem
        return Rollout(problem=problem, group=-1, prompt_ids=end, completion_ids=end, mask=[0])

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.reward_matrix = super()._calculate_rewards(*args, **kwargs)
        return self.reward_matrix

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        inputs = [each for part in ranks.gather(inputs) for each in part]
        output = super()._generate_and_score_completions(inputs)
        # Trees have no groups of one size: their credit goes by `Rollout.node`.
        size = 1 if self.rollouts[0].forks else self.algorithm.config.group_size
        device = output["completion_ids"].device
        ends = self.policy.chat.token_ends
        assert self.reward_matrix is not None
        rewards = self.reward_matrix[: len(self.rollouts)]
        batch = build_batch(self.rollouts, size, self.task.components, device, ends, rewards)
        advantages = ranks.first(self.algorithm.credit(batch))
        check_advantages(advantages, batch)
        if self.state.global_step == 0:
            self.session.keep(FIRST, credit_rows(batch, advantages, 1))
        self.credited = (batch, advantages)
        fillers = len(output["completion_ids"]) - len(self.rollouts)
        output["advantages"] = torch.cat([advantages, advantages.new_zeros(fillers, *advantages.shape[1:])])
        extra = ranks.first(self.algorithm.demonstrations(batch))
        self._book_update(batch, extra)
        return with_demonstrations(output, extra, self.policy.tokenizer.pad_token_id) if extra else output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        fresh = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        inputs = super()._prepare_inputs(generation_batch)
        if fresh:
            # Other losses average within micro-batches, which must then be equally many rollouts.
            cut = by_tokens if self.loss_type == "dapo" else by_rows
            parts = by_length(self._buffered_inputs, cut, ranks.count())  # type: ignore[has-type]
            self._buffered_inputs = parts[ranks.rank() :: ranks.count()]
            inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self.in_loss = inputs["completion_mask"] * inputs["tool_mask"]
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            self.in_loss = None
        return loss

    def _get_per_token_logps_and_entropies(self, model: Any, ids: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
        if self.in_loss is None or self.aux_loss_enabled:
            return super()._get_per_token_logps_and_entropies(model, ids, mask, *args, **kwargs)
        with self.accelerator.autocast():
            return (*token_logprobs(model, ids, mask, self.in_loss), None)

    def last_credit(self) -> list[dict[str, Any]]:
        """Samples of what the update that was just made rewarded."""
        assert self.credited is not None
        return credit_rows(*self.credited, self.state.global_step)

    def _book_update(self, batch: RolloutBatch, extra: Sequence[Demonstration]) -> None:
        lengths = [(len(r.prompt_ids) + len(r.completion_ids), len(r.completion_ids)) for r in batch.rollouts]
        lengths += [(len(each.context) + len(each.target), len(each.target)) for each in extra]
        self.session.charge(
            "update",
            trained_tokens=float(batch.action_mask.sum()) + sum(len(each.target) for each in extra),
            flops=sum(self.policy.shape.update(total, heads=completion) for total, completion in lengths),
        )
        self.facts = self.algorithm.facts(batch)


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


def with_demonstrations(output: dict[str, Any], extra: Sequence[Demonstration], pad: int) -> dict[str, Any]:
    """TRL's tensors with rows for demonstrations behind those of the rollouts, in a whole number of times their count.

    Rows that only fill up are masked. `num_items_in_batch` stays what it is: the tokens of the rollouts.

    Raises:
        ValueError: TRL keeps something per token that demonstrations have not (say, log-probabilities of a reference).
    """
    rows = {key: tensor for key, tensor in output.items() if isinstance(tensor, torch.Tensor) and tensor.dim() > 0}
    known = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask", "advantages"}
    if unknown := set(rows) - known:
        raise ValueError(f"demonstrations have no {', '.join(sorted(unknown))}")
    count, device = len(rows["completion_ids"]), rows["completion_ids"].device
    size = -(-len(extra) // count) * count
    widths = {
        "prompt": max(rows["prompt_ids"].shape[1], *(len(each.context) for each in extra)),
        "completion": max(rows["completion_ids"].shape[1], *(len(each.target) for each in extra)),
    }
    new: dict[str, torch.Tensor] = {}
    for name, width in widths.items():
        new[f"{name}_ids"] = torch.full((size, width), pad, device=device)
        new[f"{name}_mask"] = torch.zeros(size, width, dtype=rows[f"{name}_mask"].dtype, device=device)
        new[f"{name}_mask"][:, -1 if name == "prompt" else 0] = 1  # a row of nothing but padding gives NaN
    new["tool_mask"] = torch.zeros(size, widths["completion"], dtype=torch.long, device=device)
    new["advantages"] = torch.zeros(size, widths["completion"], device=device)
    for row, each in enumerate(extra):
        context, target = len(each.context), len(each.target)
        new["prompt_ids"][row, -context:] = torch.tensor(each.context, device=device)
        new["prompt_mask"][row, -context:] = 1
        new["completion_ids"][row, :target] = torch.tensor(each.target, device=device)
        new["completion_mask"][row, :target] = 1
        new["tool_mask"][row, :target] = 1
        new["advantages"][row, :target] = each.advantages
    advantages = rows["advantages"]
    rows["advantages"] = advantages if advantages.dim() == 2 else advantages[:, None].expand_as(rows["completion_ids"])
    rows.setdefault("tool_mask", torch.ones_like(rows["completion_ids"]))
    joined = {}
    for key, tensor in rows.items():
        width = widths["prompt" if key.startswith("prompt") else "completion"]
        space = tensor.new_full((count, width - tensor.shape[1]), pad if key.endswith("_ids") else 0)
        wide = torch.cat([space, tensor] if key.startswith("prompt") else [tensor, space], dim=1)
        joined[key] = torch.cat([wide, new[key].to(tensor.dtype)])
    return output | joined


def reward_of(name: str) -> Callable[..., list[float]]:
    """A TRL reward function for one component: its rewards summed over the turns of each rollout."""

    def reward(rollout: list[Rollout], **_: Any) -> list[float]:
        return [sum(verdict.rewards[name] for verdict in each.verdicts) for each in rollout]

    reward.__name__ = name
    return reward


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
    per_problem = algorithm.rollouts_per_problem(task)
    size = config.problems_per_update * per_problem // ranks.count()
    micro_batch = config.micro_batch(size)
    return TrlConfig(
        output_dir=str(session.scratch),
        seed=session.seed,
        max_steps=LONGEST_RUN,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=config.warmup_updates,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        temperature=config.temperature,
        num_generations=per_problem,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size // micro_batch,
        steps_per_generation=size // micro_batch,
        max_completion_length=task.max_turns * task.max_action_tokens,
        reward_weights=[component.weight for component in task.components],
        shuffle_dataset=False,
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
