"""Supervised fine-tuning on chats: a policy learns to write what the assistant wrote in them, by TRL's SFTTrainer.

A chat becomes tokens exactly as it would be played: the same prompt, the same ids between two actions, an end token
after each action. The loss counts actions only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.api import Message
from tasks.errors import BadInput, require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

IGNORED = -100
"""The label of a token that is not to be learned."""


@dataclass(kw_only=True)
class ImitationConfig:
    """How chats are imitated."""

    learning_rate: float = 5e-5
    """AdamW's at its highest: it rises over the first twentieth of the steps and falls to 0 in a straight line."""
    batch_size: int = 16
    """Chats of one step."""
    micro_batch_size: int = 4
    """At most so many chats per backward pass; a matter of memory only."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    seed: int = 0
    """Of the order of the chats, and of an adapter's first matrices."""

    def __post_init__(self) -> None:
        for key in ("batch_size", "micro_batch_size"):
            require(getattr(self, key) >= 1, f"warmstart.{key}={getattr(self, key)} must be at least 1")
        require(self.learning_rate > 0, f"warmstart.learning_rate={self.learning_rate:g} must be above 0")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One chat as tokens."""

    ids: list[int]
    labels: list[int]
    """The ids of actions, `IGNORED` elsewhere."""
    longest_action: int
    """Tokens of the longest action, its end token included."""


def encode(policy: LanguageModel, messages: Sequence[Message]) -> Lesson:
    """A chat as it would have been played by the policy under its instructions.

    Args:
        messages: without the system message; from the first action on, assistant and user by turns.

    Raises:
        ValueError: the chat does not go by turns.
    """
    first = next((place for place, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
    ids = policy.chat.prompt(policy.instructions, messages[:first])
    labels = [IGNORED] * len(ids)
    longest = 0
    for place, message in enumerate(messages[first:]):
        if (message["role"] == "assistant") != (place % 2 == 0):
            raise ValueError(f"after the first action, message {first + place} is the {message['role']}'s again")
        if message["role"] == "assistant":
            action = policy.chat.action(message["content"])
            longest = max(longest, len(action))
            ids, labels = ids + action, labels + action
        elif first + place + 1 < len(messages):
            said = policy.chat.after_action(message, ended=True)
            ids, labels = ids + said, labels + [IGNORED] * len(said)
    return Lesson(ids, labels, longest)


def fitting(lessons: Sequence[Lesson], limit: int) -> list[Lesson]:
    """The lessons whose actions the policy could write within its limit of tokens: others would teach it to be cut off.

    Raises:
        BadInput: none is left.
    """
    fit = [lesson for lesson in lessons if lesson.longest_action <= limit]
    if not fit:
        shortest = min(lesson.longest_action for lesson in lessons)
        raise BadInput(
            f"warmstart: every transcript has an action of {shortest} tokens or more and the policy may write {limit}; "
            "raise task.max_action_tokens and policy.max_action_tokens"
        )
    return fit


def imitate(policy: LanguageModel, lessons: Sequence[Lesson], config: ImitationConfig) -> dict[str, float]:
    """Fine-tune the policy in place, one pass over the lessons; torch's global generators stay as they were.

    Returns:
        `trained_tokens` and `flops` that it took, and the mean `loss` of the first and the last tenth of the steps.
    """
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback, ProgressCallback
    from trl import SFTTrainer

    from policies.devices import kept_generators
    from policies.trl_head import skip_what_is_not_in_the_loss

    skip_what_is_not_in_the_loss()
    rows = Dataset.from_dict({"input_ids": [each.ids for each in lessons], "labels": [each.labels for each in lessons]})
    with tempfile.TemporaryDirectory(prefix="grpo-bench-sft-") as folder, kept_generators(policy.device):
        trainer = SFTTrainer(
            model=policy.model,
            processing_class=policy.tokenizer,
            train_dataset=rows,
            args=_trl_config(policy, config, len(lessons), folder),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    policy.model.eval()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tenth = max(len(losses) // 10, 1)
    return {
        "trained_tokens": float(sum(label != IGNORED for each in lessons for label in each.labels)),
        "flops": sum(policy.shape.update(len(each.ids)) for each in lessons),
        "first_loss": sum(losses[:tenth]) / tenth,
        "last_loss": sum(losses[-tenth:]) / tenth,
    }


def _trl_config(policy: LanguageModel, config: ImitationConfig, lessons: int, folder: str) -> Any:
    from trl import SFTConfig

    size = min(config.batch_size, lessons)
    micro_batch = next(n for n in range(min(config.micro_batch_size, size), 0, -1) if size % n == 0)
    steps = -(-lessons // size)
    return SFTConfig(
        output_dir=folder,
        seed=config.seed,
        num_train_epochs=1,
        max_length=None,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=-(-steps // 20),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=size // micro_batch,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=policy.bf16,
        use_cpu=policy.device.type == "cpu",
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=policy.device.type == "cuda",
    )
