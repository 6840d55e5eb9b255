"""A profile of one update per algorithm: `python tests/performance/where_time_goes.py`.

CPU seconds of playing and of everything else, and which share of each goes to matrix products, to attention, and to
other operations of torch; what is left is Python, tokenizer and environment. With tiny on wordle, 8 problems x 8, and
fork_grpo with 2 problems and 2 forks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from cases import tiny
from stub_session import StubSession
from torch.profiler import ProfilerActivity, profile

from algorithms.feedback_grpo import FeedbackGRPO, FeedbackGRPOConfig
from algorithms.fork_grpo import ForkGRPO, ForkGRPOConfig
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import PolicyGradient
from algorithms.rft import RFT, RFTConfig
from algorithms.vector_grpo import VectorGRPO, VectorGRPOConfig
from tasks.wordle import Wordle, WordleConfig

PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_")
ATTENTION = ("aten::_scaled_dot_product", "aten::bmm", "aten::baddbmm", "aten::_softmax")
SHARED: dict[str, Any] = {"learning_rate": 1e-4, "problems_per_update": 8, "group_size": 8, "micro_batch_size": 16}


class Profiled(StubSession):
    """A session that profiles its second update: playing, and the rest."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, updates=2, **named)
        self.seconds = {"playing": 0.0, "updating": 0.0}
        self.kinds = {"playing": dict.fromkeys(("products", "attention", "other"), 0.0)}
        self.kinds["updating"] = dict(self.kinds["playing"])
        self.profile: Any = None
        self.began = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Close the part that runs, run this one, and go on with updating."""
        self.close("updating")
        self.open_part()
        yield
        self.close(name)
        self.open_part()

    def open_part(self) -> None:
        if len(self.steps) == 1:
            self.began = time.process_time()
            self.profile = profile(activities=[ProfilerActivity.CPU])
            self.profile.__enter__()

    def close(self, name: str) -> None:
        if self.profile is None:
            return
        self.seconds[name] += time.process_time() - self.began
        self.profile.__exit__(None, None, None)
        for event in self.profile.key_averages():
            kind = "products" if event.key in PRODUCTS else "attention" if event.key.startswith(ATTENTION) else "other"
            self.kinds[name][kind] += event.self_cpu_time_total / 1e6
        self.profile = None

    def play(self, *given: Any) -> Any:
        with self.part("playing"):
            return super().play(*given)

    def play_forks(self, *given: Any) -> Any:
        with self.part("playing"):
            return super().play_forks(*given)

    def sample(self, *given: Any) -> Any:
        with self.part("playing"):
            return super().sample(*given)

    def step(self, metrics: Any) -> None:
        self.close("updating")
        super().step(metrics)
        self.open_part()


def algorithms() -> dict[str, PolicyGradient]:
    """Fresh instances."""
    modes = {f"feedback_grpo {mode}": FeedbackGRPO(FeedbackGRPOConfig(**SHARED, mode=mode)) for mode in MODES}
    return {
        "grpo": GRPO(GRPOConfig(**SHARED)),
        "rft": RFT(RFTConfig(**SHARED)),
        "vector_grpo": VectorGRPO(VectorGRPOConfig(**SHARED)),
        "vector_grpo heads": VectorGRPO(VectorGRPOConfig(**SHARED, baseline="heads")),
        **modes,
        "fork_grpo, 2 problems": ForkGRPO(ForkGRPOConfig(**SHARED | {"group_size": 2, "problems_per_update": 2})),
    }


MODES = ("distill", "refine", "predict")


def main() -> None:
    """Print two lines per algorithm."""
    torch.set_num_threads(1)
    for name, algorithm in algorithms().items():
        policy, task = tiny(), Wordle(WordleConfig())
        policy.instructions = task.instructions
        with tempfile.TemporaryDirectory() as folder:
            session = Profiled(policy, task, Path(folder))
            algorithm.improve(policy, task, session)
        for part, seconds in session.seconds.items():
            kinds = session.kinds[part]
            whole = sum(kinds.values())
            shares = "  ".join(f"{kind} {spent / whole:4.0%}" for kind, spent in kinds.items())
            print(f"{name:24}{part:10}{seconds:7.2f} s CPU   of torch's time: {shares}", flush=True)


if __name__ == "__main__":
    main()
