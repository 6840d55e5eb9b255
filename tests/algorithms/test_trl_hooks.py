"""The three places where we hook into TRL. If one fails after an upgrade, algorithms/trainer.py must follow."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from stub_session import StubSession
from trl import GRPOTrainer

from algorithms.grpo import GRPO, GRPOConfig
from algorithms.trainer import RolloutTrainer
from policies.language_model import LanguageModel
from tasks.wordle import Wordle, WordleConfig


def small_trainer(policy: LanguageModel, folder: Path, updates: int = 1) -> RolloutTrainer:
    task = Wordle(WordleConfig(max_turns=2, max_action_tokens=30))
    policy.instructions = task.instructions
    config = GRPOConfig(learning_rate=1e-3, problems_per_update=2, group_size=4, micro_batch_size=4)
    return RolloutTrainer(GRPO(config), policy, task, StubSession(policy, task, folder, updates))


def test_trl_still_has_the_hooks() -> None:
    assert "rollout_func" in inspect.signature(GRPOTrainer.__init__).parameters
    source = inspect.getsource(GRPOTrainer._generate)
    assert "self.rollout_func(prompts, self)" in source
    assert 'extra_fields.pop("env_mask"' in source
    assert "rewards_per_func = self._calculate_rewards(" in inspect.getsource(
        GRPOTrainer._generate_and_score_completions
    )
    assert "advantages.dim() == 1" in inspect.getsource(GRPOTrainer._compute_loss)
    assert "self._get_per_token_logps_and_entropies(" in inspect.getsource(GRPOTrainer._compute_loss)
    assert "compact = _use_triton(" in inspect.getsource(trl.trainer.utils.add_fused_lm_head)


def test_environment_tokens_are_masked_out_of_the_loss(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    seen: list[Any] = []
    original = trainer._generate_and_score_completions

    def listen(inputs: Any) -> Any:
        output = original(inputs)
        seen.append(output)
        return output

    trainer._generate_and_score_completions = listen
    trainer.train()
    (output,) = seen
    for row, rollout in enumerate(trainer.rollouts):
        length = len(rollout.completion_ids)
        assert output["completion_ids"][row, :length].tolist() == rollout.completion_ids
        assert output["tool_mask"][row, :length].tolist() == rollout.mask
        assert output["completion_mask"][row].sum() == length
    assert 0 in {m for rollout in trainer.rollouts for m in rollout.mask}


def test_the_reward_matrix_is_the_verdicts_sum(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    trainer.train()
    assert trainer.reward_matrix is not None
    names = [component.name for component in trainer.task.components]
    expected = torch.tensor(
        [[sum(v.rewards[name] for v in rollout.verdicts) for name in names] for rollout in trainer.rollouts]
    )
    torch.testing.assert_close(trainer.reward_matrix, expected)


def test_an_advantage_per_token_reaches_the_loss(tiny: LanguageModel, tmp_path: Path) -> None:
    trainer = small_trainer(tiny, tmp_path)
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    trainer.algorithm.credit = lambda batch: torch.zeros_like(batch.action_mask, dtype=torch.float32)  # type: ignore
    trainer.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.model.state_dict().items())

    trainer = small_trainer(tiny, tmp_path)
    trainer.algorithm.credit = lambda batch: batch.action_mask.float()  # type: ignore
    trainer.train()
    assert not all(torch.equal(before[name], tensor) for name, tensor in tiny.model.state_dict().items())
