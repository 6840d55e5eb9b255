"""What an algorithm's update costs beside GRPO's on the same rollouts: `python tests/performance/algorithm_costs.py`.

The rollouts are played once and handed to every algorithm. One round lets each algorithm make a few updates with a
fresh copy of the policy, in turn; the ratio to GRPO is taken within the round, and the median over rounds is shown.
`update` is the time from rollouts to changed weights; `with play` adds what sampling the rollouts took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "algorithms"))
from stub_session import StubSession

from algorithms.feedback_grpo import FeedbackGRPO, FeedbackGRPOConfig
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import PolicyGradient
from algorithms.vector_grpo import VectorGRPO, VectorGRPOConfig
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig
from tasks.api import Problem, Task
from tasks.wordle import Wordle, WordleConfig

GROUPS, GROUP_SIZE, WARM = 8, 8, 1
LIMITS = {"vector_grpo": 1.05, "vector_grpo heads": 1.15, "feedback_grpo distill": 1.4}


class Replay(StubSession):
    """A session that hands out the same rollouts to everyone and writes down when updates end."""

    def __init__(self, task: Task, batches: Sequence[list[Rollout]], scratch: Path, policy: LanguageModel) -> None:
        super().__init__(policy, task, scratch, updates=len(batches))
        self.batches = list(batches)
        self.ends: list[float] = []

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        self.plays += 1
        return self.batches[self.plays - 1]

    def step(self, metrics: Mapping[str, float]) -> None:
        super().step(metrics)
        self.ends.append(time.perf_counter())


def algorithms() -> dict[str, PolicyGradient]:
    """Fresh instances, in the order in which a round runs them."""
    shared = {"learning_rate": 1e-4, "problems_per_update": GROUPS, "group_size": GROUP_SIZE, "micro_batch_size": 16}
    return {
        "grpo": GRPO(GRPOConfig(**shared)),
        "vector_grpo": VectorGRPO(VectorGRPOConfig(**shared)),
        "vector_grpo heads": VectorGRPO(VectorGRPOConfig(**shared, baseline="heads")),
        "feedback_grpo distill": FeedbackGRPO(FeedbackGRPOConfig(**shared)),
    }


def tiny(threads: int) -> LanguageModel:
    """A fresh copy of the policy."""
    config = PolicyConfig(
        name="tiny", path="package:policies/tiny/weights", device="cpu", dtype="float32", threads=threads
    )
    return load_policy(config)


def measure(rounds: int, updates: int, threads: int) -> dict[str, dict[str, float]]:
    """Seconds per update and ratios to GRPO, by algorithm."""
    task = Wordle(WordleConfig())
    policy = tiny(threads)
    policy.instructions = task.instructions
    batches, play_s = [], []
    for number in range(updates + WARM):
        problems = task.problems("train")[number * GROUPS : (number + 1) * GROUPS]
        began = time.perf_counter()
        batches.append(policy.play(task, problems, GROUP_SIZE, Sampling(hidden=True, logprobs=True), number)[0])
        play_s.append(time.perf_counter() - began)
    seconds: dict[str, list[float]] = {name: [] for name in algorithms()}
    for _ in range(rounds):
        for name, algorithm in algorithms().items():
            with tempfile.TemporaryDirectory() as scratch:
                fresh = tiny(threads)
                session = Replay(task, batches, Path(scratch), fresh)
                algorithm.improve(fresh, task, session)
                seconds[name].append((session.ends[-1] - session.ends[WARM - 1]) / updates)
    play = statistics.median(play_s)
    base = seconds["grpo"]
    return {
        name: {
            "update_s": statistics.median(own),
            "play_s": play,
            "ratio": statistics.median(a / b for a, b in zip(own, base, strict=True)),
            "ratio_with_play": statistics.median((a + play) / (b + play) for a, b in zip(own, base, strict=True)),
        }
        for name, own in seconds.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    found = measure(arguments.rounds, arguments.updates, arguments.threads)
    print(f"{'':24}{'update':>10}{'ratio':>8}{'with play':>11}{'limit':>7}")
    for name, numbers in found.items():
        limit = f"{LIMITS[name]:.2f}" if name in LIMITS else ""
        print(
            f"{name:24}{numbers['update_s']:8.2f} s{numbers['ratio']:8.2f}{numbers['ratio_with_play']:11.2f}{limit:>7}"
        )
    print(json.dumps(found))
