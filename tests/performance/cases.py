"""What `bench.py` compares: each case has sides that do the same work, run one after the other in one process."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "algorithms"))
from stub_session import StubSession

from policies.api import Sampling
from policies.language_model import LanguageModel, load_policy
from policies.sampler import build_sampler
from policies.source import PolicyConfig
from tasks.api import Task
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

Times = tuple[float, float]
"""Wall and CPU seconds per unit of work."""


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison, or one figure."""

    about: str
    """The conditions, in words."""
    unit: str
    """What times are per."""
    sides: Mapping[str, Callable[[], Times]]
    """Ours first."""
    targets: Mapping[str, float]
    """Per other side: at most so many times its time. Under the name of ours: at most so many seconds."""


def clock() -> Times:
    """Wall and CPU seconds; waits for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def per_unit(began: Times, ended: Times, units: float) -> Times:
    """Seconds per unit between two readings."""
    return (ended[0] - began[0]) / units, (ended[1] - began[1]) / units


def timed(work: Callable[[], float], repeats: int = 1) -> Times:
    """Do the work, which says how many units it was; the best of some repeats by CPU time."""
    found = []
    for _ in range(repeats):
        began = clock()
        units = work()
        found.append(per_unit(began, clock(), units))
    return min(found, key=lambda times: times[1])


def tiny(sampler: str = "batched") -> LanguageModel:
    """A fresh copy of the embedded policy."""
    config = PolicyConfig(name="tiny", path="package:policies/tiny/weights", dtype="float32", max_action_tokens=72)
    return load_policy(replace(config, sampler=sampler, learning_rate=1e-4))


def with_model(model: Any, sampler: str = "batched") -> LanguageModel:
    """tiny's tokenizer with a random model: for times, weights do not matter."""
    policy = tiny(sampler)
    return LanguageModel(policy.config, policy.source, model, policy.tokenizer, policy.device)


def qwen2_20m() -> Any:
    """A Qwen2 of 20M parameters."""
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=20_000, tie_word_embeddings=True, **shape, **heads))


def smollm2_135m() -> Any:
    """A Llama of SmolLM2-135M's shape."""
    torch.manual_seed(0)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    return LlamaForCausalLM(LlamaConfig(vocab_size=49_152, tie_word_embeddings=True, **shape, **heads))


class TimedSession(StubSession):
    """A session that writes down when updates end."""

    def __init__(self, policy: LanguageModel, task: Task, scratch: Path, updates: int) -> None:
        super().__init__(policy, task, scratch, updates)
        self.ends: list[Times] = []

    def step(self, metrics: Mapping[str, float]) -> None:
        super().step(metrics)
        self.ends.append(clock())


def grpo(make: Callable[[], LanguageModel], shape: dict[str, int], updates: int, ours: bool) -> Times:
    """Seconds per update of single-turn GRPO, after one update for warming up."""
    from peers import bare_grpo

    from algorithms.grpo import GRPO, GRPOConfig

    task = GsmSynth(GsmSynthConfig(max_action_tokens=shape["max_action_tokens"]))
    policy = make()
    policy.instructions = task.instructions
    with tempfile.TemporaryDirectory() as folder:
        if ours:
            settings = {name: size for name, size in shape.items() if name != "max_action_tokens"}
            session = TimedSession(policy, task, Path(folder), updates + 1)
            GRPO(GRPOConfig(learning_rate=1e-4, **settings)).improve(policy, task, session)
            ends = session.ends
        else:
            ends = bare_grpo(policy, task, shape, updates + 1, Path(folder))
    return per_unit(ends[0], ends[-1], updates)


def wordle(make: Callable[[], LanguageModel], games: int, group_size: int, **settings: Any) -> Times:
    """Seconds per game of Wordle."""
    task, policy = Wordle(WordleConfig(**settings)), make()
    policy.instructions = task.instructions
    problems = task.problems("train")

    def play(count: int) -> float:
        chosen = [problems[number % len(problems)] for number in range(count // group_size)]
        return float(len(policy.play(task, chosen, group_size, Sampling(), 0)[0]))

    play(group_size)
    return timed(lambda: play(games))


def evaluation() -> Times:
    """Seconds for 500 games."""
    wall, cpu = wordle(tiny, 500, 1)
    return 500 * wall, 500 * cpu


def example_pattern(games: int) -> Times:
    """Seconds per game of Wordle, in the way of TRL's example."""
    from peers import one_game_at_a_time

    task, policy = Wordle(WordleConfig()), tiny()
    problems = task.problems("train")[:games]
    one_game_at_a_time(policy, task, problems[:1])
    return timed(lambda: float(one_game_at_a_time(policy, task, problems)))


def mixed_lengths(sampler: str, sequences: int, batch_size: int, limit: int) -> Times:
    """Seconds per generated token, where one token in 16 ends a sequence: lengths are geometric, cut at the limit."""
    model = smollm2_135m().eval()
    rng = random.Random(0)
    prompts = [[rng.randrange(49_152) for _ in range(rng.randint(8, 48))] for _ in range(sequences)]
    ends = range(0, 49_152, 16)

    def work() -> float:
        sampling = Sampling(batch_size=batch_size)
        made = build_sampler(sampler, model, pad=0, ends=ends, limit=limit, sampling=sampling, seed=0)
        for prompt in prompts:
            made.add(prompt)
        return float(sum(len(action.ids) for action in made.actions()))

    return timed(work)


def turns(count: int) -> Times:
    """Seconds per game of so many turns, every action as long as it may be: random weights never win and never end."""
    torch.manual_seed(0)
    shape = tiny().model.config
    return wordle(lambda: with_model(LlamaForCausalLM(shape)), 32, 32, max_turns=count, max_action_tokens=16)


def feedback_table() -> Times:
    """Seconds for the marks of 12,972 guesses against 2,315 secrets."""
    from tasks.clues import marks_table
    from tasks.words import load_words

    words = load_words("classic")
    guesses, secrets = words.guesses[:12_972], words.secrets[:2_315]
    return timed(lambda: 1.0 if marks_table(guesses, secrets).size else 0.0)


SINGLE = {"problems_per_update": 8, "group_size": 8, "micro_batch_size": 16, "max_action_tokens": 72}
SMALL = {"problems_per_update": 4, "group_size": 4, "micro_batch_size": 8, "max_action_tokens": 32}

CASES: dict[str, Case] = {
    "grpo tiny": Case(
        "gsm_synth, 8 problems x 8, up to 72 tokens, float32",
        "update",
        {"ours": lambda: grpo(tiny, SINGLE, 1, True), "bare TRL": lambda: grpo(tiny, SINGLE, 1, False)},
        {"bare TRL": 0.8},
    ),
    "grpo qwen2 20M": Case(
        "random Qwen2 (20M), gsm_synth prompts, 4 problems x 4, 32 tokens, float32",
        "update",
        {
            "ours": lambda: grpo(lambda: with_model(qwen2_20m()), SMALL, 1, True),
            "bare TRL": lambda: grpo(lambda: with_model(qwen2_20m()), SMALL, 1, False),
        },
        {"bare TRL": 0.8},
    ),
    "wordle rollouts": Case(
        "tiny, six turns, temperature 1: 64 games as 8 x 8; the example's pattern plays 2",
        "game",
        {
            "batched": lambda: wordle(tiny, 64, 8),
            "hf": lambda: wordle(lambda: tiny("hf"), 64, 8),
            "TRL's example pattern": lambda: example_pattern(2),
        },
        {"hf": 1 / 2.5, "TRL's example pattern": 1 / 4},
    ),
    "wordle rollouts 256": Case(
        "tiny, six turns, temperature 1: 256 games as 32 x 8",
        "game",
        {"batched": lambda: wordle(tiny, 256, 8), "hf": lambda: wordle(lambda: tiny("hf"), 256, 8)},
        {"hf": 1 / 2.5},
    ),
    "135M mixed lengths": Case(
        "SmolLM2-135M's shape, 64 sequences at batch 32, prompts of 8 to 48, geometric lengths (mean 15, at most 48)",
        "token",
        {
            "batched": lambda: mixed_lengths("batched", 64, 32, 48),
            "transformers' generate": lambda: mixed_lengths("hf", 64, 32, 48),
        },
        {"transformers' generate": 1 / 1.5},
    ),
    "turns": Case(
        "tiny's shape, random weights, 32 games, every action 16 tokens",
        "game",
        {f"{count} turns": (lambda count=count: turns(count)) for count in (6, 1, 2, 4)},
        {},
    ),
    "evaluation": Case(
        "500 games of wordle with tiny, batch 256, temperature 1",
        "evaluation",
        {"batched": evaluation},
        {"batched": 8.0},
    ),
    "feedback table": Case("12,972 guesses x 2,315 secrets", "table", {"numpy": feedback_table}, {"numpy": 2.0}),
}
