"""How near to the machine's limits: `python tests/performance/limits.py`, the second half of `make bench`.

Two limits are computed: FLOPs (the formula of policies/flops.py) over the measured rate of matrix products, and bytes
(all weights and the keys and values that are read, once per decoding step) over the measured rate of copying. Shares
are of those: `MFU` of the first, `bandwidth` of the second. Decoding is held to whichever takes longer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import TimedSession, clock, qwen2_20m, smollm2_135m, tiny, with_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from algorithms.grpo import GRPO, GRPOConfig
from benchmarks.running.machine import peak_flops_per_s
from policies.api import Sampling
from policies.language_model import LanguageModel
from policies.sampler import build_sampler
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

PROMPT = 32
"""Tokens of a prompt in the decoding runs."""


def qwen2_5m() -> Any:
    """A Qwen2 of 5M parameters."""
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "vocab_size": 8_000}
    return Qwen2ForCausalLM(
        Qwen2Config(num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, **shape)
    )


def bytes_per_s(device: torch.device) -> float:
    """The fastest of several copies of 256 MiB: bytes read and written, over seconds."""
    source = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(8):
        began = clock()[0]
        target.copy_(source)
        best = min(best, clock()[0] - began)
    return 2 * source.numel() / best


def decoding(policy: LanguageModel, batch: int, tokens: int, peak: float, bandwidth: float) -> str:
    """One line: a batch of sequences, none of which ends before `tokens`."""
    model, shape = policy.model.eval(), policy.shape

    def once(tokens: int) -> float:
        sampling = Sampling(batch_size=batch)
        sampler = build_sampler("batched", model, pad=0, ends=(), limit=tokens, sampling=sampling, seed=0)
        for row in range(batch):
            # No two alike, or the prompt would be read once.
            sampler.add([row // 200, row % 200, *range(PROMPT - 2)])
        began = clock()[0]
        written = sum(len(action.ids) for action in sampler.actions())
        assert written == batch * tokens
        return clock()[0] - began

    once(2)
    seconds = once(tokens) - once(1)
    size = next(model.parameters()).element_size()
    context = PROMPT + tokens / 2
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * head
    moved = (tokens - 1) * size * (shape.body + shape.head + batch * context * width)
    flops = batch * shape.forward(tokens - 1, context=PROMPT)
    limit = max(flops / peak, moved / bandwidth)
    rate, name = batch * (tokens - 1) / seconds, f"decoding {batch:4} side by side"
    return (
        f"{name} {rate:10.0f} tokens/s   MFU {flops / seconds / peak:6.1%}"
        f"   bandwidth {moved / seconds / bandwidth:6.1%}   limit/time {limit / seconds:6.1%}"
    )


def updating(policy: LanguageModel, problems: int, group: int, micro_batch: int, tokens: int, peak: float) -> str:
    """One line: single-turn GRPO, rollouts and update apart."""
    task = GsmSynth(GsmSynthConfig(max_action_tokens=tokens))
    policy.instructions = task.instructions
    play_s, update_flops = 0.0, 0.0

    class Booked(TimedSession):
        def play(self, *given: Any, **named: Any) -> Any:
            nonlocal play_s
            began = time.perf_counter()
            rollouts = super().play(*given, **named)
            play_s = time.perf_counter() - began
            return rollouts

        def charge(self, phase: str, **amounts: float) -> None:
            nonlocal update_flops
            update_flops = amounts.get("flops", 0.0)

    with tempfile.TemporaryDirectory() as folder:
        session = Booked(policy, task, Path(folder), 2)
        config = GRPOConfig(problems_per_update=problems, group_size=group, micro_batch_size=micro_batch)
        GRPO(config).improve(policy, task, session)
    whole = session.ends[1][0] - session.ends[0][0]
    return (
        f"update   {problems} x {group:2}, {tokens} tokens {whole:8.2f} s, of which playing {play_s:6.2f} s"
        f"   MFU of the rest {update_flops / (whole - play_s) / peak:6.1%}"
    )


def main() -> None:
    """Print all lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    device = tiny().device
    on_cuda = device.type == "cuda"
    dtype = torch.bfloat16 if on_cuda else torch.float32
    peak, bandwidth = peak_flops_per_s(device, dtype), bytes_per_s(device)
    where = torch.cuda.get_device_name() if on_cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, {dtype}: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s copying")
    models: dict[str, Callable[[], LanguageModel]] = {
        "tiny (1M)": tiny,
        "Qwen2, 5M": lambda: with_model(qwen2_5m()),
        "Qwen2, 20M": lambda: with_model(qwen2_20m()),
        "Llama, 135M": lambda: with_model(smollm2_135m()),
    }
    for name, make in models.items():
        large = name == "Llama, 135M"
        policy = make()
        policy.model.to(dtype)
        batch, tokens = (256, 256) if on_cuda else (16, 8) if large else (64, 32)
        print(f"{name:12}", decoding(policy, batch, tokens, peak, bandwidth), flush=True)
        shape = (2, 4, 4, 16) if large and not on_cuda else (8, 8, 16, 72) if name == "tiny (1M)" else (4, 4, 8, 32)
        print(f"{name:12}", updating(policy, *shape, peak), flush=True)
    for group in (4, 16, 32, 64):
        print(f"{'tiny (1M)':12}", updating(tiny(), 2, group, 16, 72, peak), flush=True)


if __name__ == "__main__":
    main()
