"""Ours against a bare TRL GRPOTrainer: same data, same seeds, same losses, same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from stub_session import StubSession
from transformers import TrainerCallback
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer

from algorithms.grpo import GRPO, GRPOConfig
from policies.language_model import LanguageModel, load_policy
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

UPDATES, PROBLEMS, GROUP, TOKENS = 3, 4, 4, 48


class SeedEachStep(TrainerCallback):
    """Seeds torch's global generator as our session seeds the sampler."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.manual_seed(state.global_step + 1)


def bare_trl(policy: LanguageModel, task: GsmSynth, folder: Path) -> list[float]:
    problems = list(task.problems("train")[:40])
    by_question = {problem.question: problem for problem in problems}

    def reward_for(name: str) -> Any:
        def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
            out = []
            for prompt, completion in zip(prompts, completions, strict=True):
                episode = task.start(by_question[prompt[-1]["content"]])
                out.append(episode.step(completion[0]["content"]).rewards[name])
            return out

        reward.__name__ = name
        return reward

    rows = [
        [{"role": "system", "content": task.instructions}, {"role": "user", "content": problem.question}]
        for problem in problems
    ]
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=[reward_for(component.name) for component in task.components],
        train_dataset=Dataset.from_dict({"prompt": rows}),
        callbacks=[SeedEachStep()],
        args=TrlConfig(
            output_dir=str(folder),
            max_steps=UPDATES,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            num_generations=GROUP,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=2,
            max_completion_length=TOKENS,
            reward_weights=[component.weight for component in task.components],
            shuffle_dataset=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_grpo_is_bare_trl_on_single_turn_data(tiny: LanguageModel, tmp_path: Path) -> None:
    task = GsmSynth(GsmSynthConfig(max_action_tokens=TOKENS, problems_per_level=60))
    # The sampler that draws with torch's generator in the order in which a script of one's own does.
    ours, theirs = load_policy(replace(tiny.config, sampler="hf")), load_policy(tiny.config)
    ours.instructions = task.instructions

    session = StubSession(ours, task, tmp_path, UPDATES)
    config = GRPOConfig(
        learning_rate=1e-3, problems_per_update=PROBLEMS, group_size=GROUP, micro_batch_size=8, temperature=1.0
    )
    GRPO(config).improve(ours, task, session)
    losses = bare_trl(theirs, task, tmp_path)

    assert any(step["groups_without_signal"] < 1 for step in session.steps), "nothing was learned: an empty comparison"
    # We sort micro-batches by length and TRL shuffles them: the same sums in another order.
    assert [step["loss"] for step in session.steps] == pytest.approx(losses, rel=1e-5, abs=1e-6)
    start = load_policy(tiny.config).model.state_dict()
    ours_moved, theirs_moved = (
        torch.cat([(tensor - start[name]).flatten() for name, tensor in policy.model.state_dict().items()])
        for policy in (ours, theirs)
    )
    # Adam turns rounding errors of gradients that are nearly 0 into visible steps of a few single weights.
    assert float(theirs_moved.norm()) > 0.1
    assert float((ours_moved - theirs_moved).norm() / theirs_moved.norm()) < 1e-3
