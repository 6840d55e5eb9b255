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
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from policies.tiny.lessons import Curriculum, Lesson
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


def train(steps: int, lessons: int, rate: float, seed: int, out: Path, log_every: int = 50) -> None:
    """Train and save.

    Args:
        steps: optimiser steps.
        lessons: lessons per step.
        rate: peak learning rate; warms up over 100 steps and falls to a tenth along a cosine.
        seed: of the lessons and of the first weights.
        out: folder for model.safetensors, config, tokenizer and training.json.
        log_every: steps between two printed lines.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    curriculum = Curriculum(Wordle(WordleConfig()), GsmSynth(GsmSynthConfig()), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    started, spoken, losses = time.perf_counter(), 0, []
    for step in range(steps):
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * cosine
        step_batches = batches(curriculum, tokenizer, lessons, 4)
        count = sum(int((labels[:, 1:] != -100).sum()) for _, labels in step_batches)
        total = 0.0
        for ids, labels in step_batches:
            wanted = labels[:, 1:] != -100
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state[wanted]
            loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][wanted], reduction="sum")
            (loss / count).backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spoken += count
        losses.append(total / count)
        if (step + 1) % log_every == 0:
            mean = sum(losses[-log_every:]) / log_every
            print(f"step {step + 1}/{steps} loss {mean:.4f} {time.perf_counter() - started:.0f} s", flush=True)
        if (step + 1) % 500 == 0:
            save(model, tokenizer, out, steps=step + 1, lessons=lessons, rate=rate, seed=seed, tokens=spoken)
    save(model, tokenizer, out, steps=steps, lessons=lessons, rate=rate, seed=seed, tokens=spoken)


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
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lessons", type=int, default=96, help="lessons per step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.steps, arguments.lessons, arguments.rate, arguments.seed, arguments.out)
