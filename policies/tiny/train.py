"""Remake tiny: `python -m policies.tiny.train`. Deterministic for a given machine and thread count; CPU only.

A Llama of about a million parameters, trained from scratch by next-token prediction on the imitated messages of
`policies.tiny.lessons`; nothing else is read. The weights are written as safetensors beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from policies.tiny.lessons import Curriculum, Habits, Lesson
from policies.tiny.tokenizer import build_tokenizer
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

HERE = Path(__file__).parent / "weights"
MAX_TOKENS = 640
"""Longest chat that the position embedding is made for."""


def build_model(vocabulary: int, pad: int, eos: int) -> LlamaForCausalLM:
    """An untrained tiny: 4 layers, width 128, tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=pad,
        eos_token_id=eos,
    )
    return LlamaForCausalLM(config)


def encode(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Token ids of a lesson, and their labels: -100 wherever nothing is to be imitated."""
    ids: list[int] = []
    labels: list[int] = []
    imitate = iter(lesson.imitate)
    for message in lesson.messages:
        head = [tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>")]
        body = [*tokenizer(message["content"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        learn = message["role"] == "assistant" and next(imitate)
        ids += head + body
        labels += [-100] * len(head) + (body if learn else [-100] * len(body))
    return ids, labels


def batches(
    curriculum: Curriculum, tokenizer: PreTrainedTokenizerFast, lessons: int, parts: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One step's lessons in micro-batches of like length: pairs (ids, labels), int64 [lessons / parts, tokens]."""
    drawn = sorted((encode(curriculum.draw(), tokenizer) for _ in range(lessons)), key=lambda pair: len(pair[0]))
    size = -(-lessons // parts)
    out = []
    for start in range(0, lessons, size):
        part = drawn[start : start + size]
        width = len(part[-1][0])
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in part])
        labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in part])
        out.append((ids, labels))
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of training with a fresh optimiser and fresh lessons."""

    steps: int
    horizon: int
    """Steps in which the learning rate falls to a tenth along a cosine; `steps` may end it earlier."""
    peak: float
    """Highest learning rate, reached after 100 steps."""
    habits: Habits


STAGES = (
    Stage(
        steps=900,
        horizon=1800,
        peak=2e-3,
        habits=Habits(
            game=42,
            turn=12,
            word_revision=14,
            solution=26,
            sum_revision=6,
            all_secrets=False,
            slip=0.45,
            turn_slip=0.45,
            misspell=0.08,
            terse=0.35,
            miscopy=0.08,
            misreckon=0.10,
        ),
    ),
    Stage(
        steps=1900,
        horizon=1900,
        peak=1.5e-3,
        habits=Habits(
            game=46,
            turn=24,
            word_revision=4,
            solution=24,
            sum_revision=2,
            all_secrets=False,
            slip=0.30,
            turn_slip=0.30,
            misspell=0.04,
            terse=0.25,
            miscopy=0.05,
            misreckon=0.06,
        ),
    ),
    Stage(
        steps=350,
        horizon=350,
        peak=8e-4,
        habits=Habits(
            game=46,
            turn=30,
            word_revision=2,
            solution=20,
            sum_revision=2,
            all_secrets=True,
            slip=0.65,
            turn_slip=0.10,
            misspell=0.04,
            terse=0.42,
            miscopy=0.06,
            misreckon=0.08,
        ),
    ),
    Stage(
        steps=900,
        horizon=900,
        peak=1e-3,
        habits=Habits(
            game=30,
            turn=90,
            word_revision=80,
            solution=20,
            sum_revision=10,
            all_secrets=True,
            slip=0.65,
            turn_slip=0.55,
            misspell=0.04,
            terse=0.45,
            miscopy=0.07,
            misreckon=0.10,
            stubborn=True,
        ),
    ),
    Stage(
        steps=1000,
        horizon=1000,
        peak=8e-4,
        habits=Habits(
            game=24,
            turn=40,
            word_revision=140,
            solution=20,
            sum_revision=10,
            all_secrets=True,
            slip=0.65,
            turn_slip=0.25,
            misspell=0.04,
            terse=0.48,
            miscopy=0.10,
            misreckon=0.14,
            stubborn=True,
            arbitrary=0.25,
        ),
    ),
)
LESSONS, PARTS = 64, 4
"""Lessons per step, and micro-batches that they are sorted into by length."""


def train_stage(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> int:
    """Train one stage in place; returns the number of tokens imitated."""
    curriculum = Curriculum(Wordle(WordleConfig()), GsmSynth(GsmSynthConfig()), stage.habits, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.peak, betas=(0.9, 0.95), weight_decay=0.01)
    started, imitated, recent = time.perf_counter(), 0, 0.0
    for step in range(stage.steps):
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / stage.horizon))
        for group in optimizer.param_groups:
            group["lr"] = stage.peak * warm * cosine
        step_batches = batches(curriculum, tokenizer, LESSONS, PARTS)
        count = sum(int((labels[:, 1:] != -100).sum()) for _, labels in step_batches)
        for ids, labels in step_batches:
            wanted = labels[:, 1:] != -100
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state[wanted]
            loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][wanted], reduction="sum")
            (loss / count).backward()  # type: ignore[no-untyped-call]
            recent += float(loss.detach()) / count / 50
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        imitated += count
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{stage.steps} loss {recent:.4f} {time.perf_counter() - started:.0f} s", flush=True)
            recent = 0.0
    return imitated


def train(seed: int, out: Path) -> None:
    """Train all stages and save; after each stage what there is by then.

    Args:
        seed: of the lessons and of the first weights.
        out: folder for model.safetensors, config, tokenizer and training.json.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    imitated = 0
    for number, stage in enumerate(STAGES):
        imitated += train_stage(model, tokenizer, stage, seed + number)
        save(model, tokenizer, out, stage=number, seed=seed, steps=stage.steps, tokens=imitated)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, **facts: float) -> None:
    """Write the folder that `from_pretrained` reads, and how it was made."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    parameters = sum(p.numel() for p in model.parameters())
    made = {
        **facts,
        "parameters": parameters,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model.safetensors": weights,
    }
    (out / "training.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.seed, arguments.out)
