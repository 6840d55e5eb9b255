"""What a user would write without us: the peers of `bench.py`.

`bare_grpo` is a plain TRL script for a single-turn task, with the model, the data and the settings of our run, and its
environment asked once per completion. `one_game_at_a_time` is the pattern of TRL's published Wordle example
(examples/scripts/openenv/wordle.py): a `rollout_func` that plays game after game, renders the whole chat for every turn
and generates from it; its generation server is replaced by transformers' `generate`, which is what runs without vLLM.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from policies.language_model import LanguageModel
from tasks.api import Problem, Task
from tasks.gsm_synth import GsmSynth


class StepEnds(TrainerCallback):
    """Writes down when updates end: wall and CPU seconds."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


def bare_grpo(
    policy: LanguageModel, task: GsmSynth, shape: dict[str, int], updates: int, folder: Path
) -> list[tuple[float, float]]:
    """Train with TRL alone; the ends of all updates.

    Args:
        policy: whose model and tokenizer are used, and nothing else.
        task: asked for problems and rewards.
        shape: problems_per_update, group_size, micro_batch_size, max_action_tokens.
        updates: how many.
        folder: for TRL's files.
    """
    problems = list(task.problems("train")[: updates * shape["problems_per_update"]])
    by_question = {problem.question: problem for problem in problems}
    verdicts: dict[tuple[str, str], Any] = {}

    def reward_for(name: str) -> Any:
        def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
            found = []
            for prompt, completion in zip(prompts, completions, strict=True):
                key = (prompt[-1]["content"], completion[0]["content"])
                if key not in verdicts:
                    verdicts[key] = task.start(by_question[key[0]]).step(key[1])
                found.append(verdicts[key].rewards[name])
            return found

        reward.__name__ = name
        return reward

    rows = [
        [{"role": "system", "content": task.instructions}, {"role": "user", "content": problem.question}]
        for problem in problems
    ]
    size = shape["problems_per_update"] * shape["group_size"]
    ends = StepEnds()
    on_cuda = policy.device.type == "cuda"
    GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=[reward_for(component.name) for component in task.components],
        train_dataset=Dataset.from_dict({"prompt": rows}),
        callbacks=[ends],
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=updates,
            learning_rate=policy.config.learning_rate,
            lr_scheduler_type="constant",
            num_generations=shape["group_size"],
            per_device_train_batch_size=shape["micro_batch_size"],
            gradient_accumulation_steps=size // shape["micro_batch_size"],
            max_completion_length=shape["max_action_tokens"],
            reward_weights=[component.weight for component in task.components],
            gradient_checkpointing=False,
            bf16=on_cuda and policy.model.dtype == torch.bfloat16,
            use_cpu=not on_cuda,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=on_cuda,
        ),
    ).train()
    return ends.ends


@torch.no_grad()
def one_game_at_a_time(policy: LanguageModel, task: Task, problems: Sequence[Problem]) -> int:
    """Play each problem once; returns the number of games."""
    tokenizer, model = policy.tokenizer, policy.model.eval()
    for problem in problems:
        episode = task.start(problem)
        while not episode.done:
            chat = [{"role": "system", "content": task.instructions}, *episode.messages]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(policy.device)
            written = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=policy.action_limit(task),
                do_sample=True,
                top_k=0,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )[0, inputs["input_ids"].shape[1] :]
            episode.step(tokenizer.decode(written, skip_special_tokens=True))
    return len(problems)
