"""Remake tiny: `python -m policies.tiny.train`. Deterministic for a given machine and thread count; CPU only.

A Llama of about a million parameters, trained from scratch by next-token prediction on the imitated messages of the
lessons (policies/tiny/lessons.py); nothing else is read. Matrices are trained by Muon and the rest by AdamW, both from
torch, in bfloat16 products with float32 weights. The weights are written as safetensors beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from policies.tiny.gsm_lessons import GsmTeacher
from policies.tiny.lessons import Lesson
from policies.tiny.tokenizer import build_tokenizer
from policies.tiny.wordle_lessons import WordleTeacher
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

HERE = Path(__file__).parent / "weights"
MAX_TOKENS = 640
"""Longest chat that the position embedding is made for."""
LESSONS, PARTS = 64, 8
"""Lessons per step, and micro-batches that they are sorted into by length."""
WARM_UP = 50
"""Steps over which the learning rates rise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of training with fresh optimisers and fresh lessons."""

    steps: int
    rate: float
    """Learning rates at their highest, as a share of `MUON` and `ADAMW`; they fall to a twentieth along a cosine."""
    in_game: dict[str, float]
    """How often each slip happens in a whole game of Wordle where the system prompt says nothing of it."""
    in_turn: dict[str, float]
    """The same in a single turn."""
    in_sums: dict[str, float]
    """The same in word problems."""
    mix: dict[str, int] = field(
        default_factory=lambda: {
            "game": 40,
            "turn": 40,
            "word_revision": 24,
            "solution": 24,
            "sum_revision": 10,
            "fields": 6,
            "turns": 4,
        }
    )
    """Relative frequencies of the kinds of lessons."""


MUON, ADAMW = 0.02, 3e-3
"""Highest learning rates."""
STAGES = (
    # Skill: most decisions are right, so that most of what is seen is right play.
    Stage(
        steps=3000,
        rate=1.0,
        in_game={"+": 0.15, "?": 0.20, "-": 0.35, "w": 0.06},
        in_turn={"+": 0.05, "?": 0.08, "-": 0.35, "w": 0.03},
        in_sums={"terse": 0.10, "+": 0.45, "-": 0.45, "*/": 0.45},
    ),
    # Habits: most decisions are wrong where no sentence speaks to them.
    Stage(
        steps=800,
        rate=0.3,
        in_game={"+": 0.22, "?": 0.40, "-": 0.62, "w": 0.06},
        in_turn={"+": 0.05, "?": 0.06, "-": 0.64, "w": 0.03},
        in_sums={"terse": 0.10, "+": 0.62, "-": 0.62, "*/": 0.58},
    ),
)


def build_model(vocabulary: int, pad: int, eos: int) -> LlamaForCausalLM:
    """An untrained tiny: 4 layers, width 128, one key head, tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=pad,
        eos_token_id=eos,
    )
    return LlamaForCausalLM(config)


def lessons(stage: Stage, seed: int) -> Iterator[Lesson]:
    """An endless, seeded stream."""
    rng = random.Random(seed)
    words = WordleTeacher(Wordle(WordleConfig()), rng, stage.in_game, stage.in_turn)
    sums = GsmTeacher(GsmSynth(GsmSynthConfig()), rng, stage.in_sums)
    kinds: dict[str, Callable[[], Lesson]] = {
        "game": words.game,
        "turn": words.turn,
        "word_revision": words.revision,
        "solution": sums.solution,
        "sum_revision": sums.revision,
        "fields": sums.fields,
        "turns": sums.turns,
    }
    while True:
        yield kinds[rng.choices(list(stage.mix), list(stage.mix.values()))[0]]()


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
    stream: Iterator[Lesson], tokenizer: PreTrainedTokenizerFast, count: int, parts: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One step's lessons in micro-batches of like length: pairs (ids, labels), int64 [count / parts, tokens]."""
    drawn = sorted((encode(next(stream), tokenizer) for _ in range(count)), key=lambda pair: len(pair[0]))
    size = -(-count // parts)
    out = []
    for start in range(0, count, size):
        part = drawn[start : start + size]
        width = len(part[-1][0])
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in part])
        labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in part])
        out.append((ids, labels))
    return out


def optimisers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(inner, lr=MUON, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=ADAMW, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train_stage(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> int:
    """Train one stage in place; returns the number of tokens imitated."""
    stream = lessons(stage, seed)
    tools = optimisers(model)
    highest = [stage.rate * group["lr"] for tool in tools for group in tool.param_groups]
    started, imitated, recent = time.perf_counter(), 0, 0.0
    for step in range(stage.steps):
        share = min(1.0, (step + 1) / WARM_UP) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))
        for group, most in zip((group for tool in tools for group in tool.param_groups), highest, strict=True):
            group["lr"] = most * share
        step_batches = batches(stream, tokenizer, LESSONS, PARTS)
        count = sum(int((labels[:, 1:] != -100).sum()) for _, labels in step_batches)
        for ids, labels in step_batches:
            wanted = labels[:, 1:] != -100
            with torch.autocast("cpu", torch.bfloat16):
                hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[wanted]
                logits = model.lm_head(hidden)
            loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")
            (loss / count).backward()  # type: ignore[no-untyped-call]
            recent += float(loss.detach()) / count / 50
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad()
        imitated += count
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{stage.steps} loss {recent:.4f} {time.perf_counter() - started:.0f} s", flush=True)
            recent = 0.0
    return imitated


def train(seed: int, out: Path, begin: int = 0) -> None:
    """Train all stages and save; after each stage what there is by then.

    Args:
        seed: of the lessons and of the first weights.
        out: folder for model.safetensors, config, tokenizer and training.json.
        begin: the first stage to be trained; those before it are read from `out`.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    started, made = time.perf_counter(), []
    if begin:
        model = LlamaForCausalLM.from_pretrained(out)
        made = json.loads((out / "training.json").read_text())["stages"][:begin]
    for number, stage in list(enumerate(STAGES))[begin:]:
        imitated = train_stage(model, tokenizer, stage, seed + number)
        made.append({"steps": stage.steps, "tokens": imitated, "seconds": round(time.perf_counter() - started)})
        save(model, tokenizer, out, seed=seed, stages=made)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, **facts: Any) -> None:
    """Write the folder that `from_pretrained` reads, and how it was made."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    made = {
        **facts,
        "parameters": sum(p.numel() for p in model.parameters()),
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
    parser.add_argument("--begin", type=int, default=0, help="First stage to train; earlier ones are read from --out.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.seed, arguments.out, arguments.begin)
