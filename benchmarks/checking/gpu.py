"""What must hold on a CUDA machine before its results are believed: `gpu-check`, meant for five minutes.

Every check is a function of the device, so that it runs on a CPU too (tests/gpu/test_gpu_checks.py): what is checked
there is the check. Policies and tasks are small; a check raises AssertionError, or returns a line on what it measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from algorithms.gepa import GEPAConfig
from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.running.machine import meters, peak_flops_per_s, peak_memory
from benchmarks.running.preflight import memory_need
from benchmarks.running.rehearsal import Rehearsal, rehearsal
from benchmarks.running.starting import load_start
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel, load_policy
from tasks.api import Problem, Task
from tasks.errors import require

ALGORITHMS = ("grpo", "gdpo", "dr_grpo", "rft", "vector_grpo", "feedback_grpo", "gepa")
SMALL = (
    *("task=gsm_synth", "task.levels=[1]", "task.max_action_tokens=32"),
    *("budget=smoke", "evaluate.batch_size=256", "batch.problems=2", "batch.group_size=4", "policy.micro_batch_size=4"),
)
UPDATES = 2
GREEDY = Sampling(temperature=0.0)


class Rewarding(Rehearsal):
    """Every other rollout counts as solved: an untrained policy would seldom give a group anything to learn from."""

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        rollouts = super().play(problems, group_size, sampling)
        for rollout in rollouts[::2]:
            last = rollout.turns[-1]
            rewards = {**last.verdict.rewards, "correct": 1.0}
            rollout.turns[-1] = replace(last, verdict=replace(last.verdict, rewards=rewards, solved=True))
        return rollouts


def configured(policy: Sequence[str], device: str, *words: str, algo: str = "grpo") -> RunConfig:
    """A small run's configuration."""
    config = check_config(compose_config([f"+algo={algo}", *SMALL, *policy, f"policy.device={device}", *words]))
    if isinstance(config.algo, GEPAConfig):
        return replace(config, algo=replace(config.algo, valset_size=4, minibatch_size=2))
    return config


def loaded(config: RunConfig) -> tuple[LanguageModel, Task]:
    """Its policy as it starts, and its task."""
    task: Task = config.task_class(config.task)
    return load_start(config, config.source, task), task


def trains(policy: Sequence[str], device: str, algo: str, adapter: str) -> str:
    """An algorithm makes two updates: weights move (gepa's do not) and stay finite, frozen ones stay where they are."""
    config = configured(policy, device, f"adapter={adapter}", "policy.learning_rate=1e-3", algo=algo)
    model, task = loaded(config)
    before = {name: weight.detach().clone() for name, weight in model.model.named_parameters()}
    began = time.perf_counter()
    with rehearsal(config, model, task, UPDATES, kind=Rewarding) as session:
        config.algorithm_class(config.algo).improve(model, task, session)
    made = len(session.ledger.rows)
    assert made == UPDATES, f"{made} updates were made"
    moved = 0
    for name, weight in model.model.named_parameters():
        assert bool(torch.isfinite(weight).all()), f"{name} is not finite"
        changed = not torch.equal(weight.detach(), before[name])
        assert weight.requires_grad or not changed, f"{name} is frozen and moved"
        moved += changed
    assert moved == 0 if algo == "gepa" else moved > 0, f"{moved} tensors moved"
    return f"{UPDATES} updates in {time.perf_counter() - began:.1f} s, {moved} tensors moved"


def greedy_agrees(policy: Sequence[str], device: str) -> str:
    """In float32 the device writes, greedily, what the CPU writes."""
    written = []
    for where in ("cpu", device):
        model, task = loaded(configured(policy, where, "policy.dtype=float32"))
        rollouts, _ = model.play(task, task.problems("val")[:8], 1, GREEDY, seed=0)
        written.append([rollout.completion_ids for rollout in rollouts])
    same = sum(one == other for one, other in zip(*written, strict=True))
    assert same == len(written[0]), f"{len(written[0]) - same} of {len(written[0])} answers differ"
    return f"{same} greedy answers are the same, token by token"


def checkpoints_move(policy: Sequence[str], device: str) -> str:
    """What is saved on the device is loaded on the CPU bit by bit, and the other way round; adapters too."""
    for adapter in ("none", "lora"):
        for source, target in ((device, "cpu"), ("cpu", device)):
            words = (f"adapter={adapter}", "policy.dtype=float32", "adapter.rank=4" if adapter == "lora" else "seed=0")
            model, _ = loaded(configured(policy, source, *words))
            with torch.no_grad():
                for weight in model.model.parameters():
                    if weight.requires_grad:
                        weight.add_(torch.full_like(weight, 2.0**-10))
            with tempfile.TemporaryDirectory() as folder:
                model.save(Path(folder))
                config = configured(policy, target, *words)
                if adapter == "lora":
                    again, _ = loaded(config)
                    again.restore_adapter(Path(folder))
                else:
                    again = load_policy(replace(config.policy, path=folder))
            assert again.state_hash() == model.state_hash(), f"adapter={adapter} from {source} to {target} differs"
    return "saved and loaded both ways, bit by bit"


def memory_and_energy(policy: Sequence[str], device: str) -> str:
    """Readings are there and grow with work; what an update takes is within the formula."""
    config = configured(policy, device)
    model, task = loaded(config)
    read = meters(model.device)
    before = {name: meter() for name, meter in read.items()}
    with rehearsal(config, model, task, UPDATES) as session:
        config.algorithm_class(config.algo).improve(model, task, session)
    spent = {name: meter() - before[name] for name, meter in read.items()}
    peaks = peak_memory(model.device)
    peak = peaks["peak_host_bytes"] if peaks["peak_device_bytes"] is None else peaks["peak_device_bytes"]
    predicted = memory_need(config, config.source, task)
    assert peak is not None
    assert predicted.weights < peak, f"a peak of {peak:.0f} bytes is less than the weights"
    if model.device.type == "cuda":
        assert peak < predicted.most, (
            f"a peak of {peak / 2**30:.2f} GiB, above the formula's {predicted.most / 2**30:.2f}"
        )
        assert "energy_j" in read, "no energy meter: pip install 'grpo-bench[energy]'"
    assert all(amount > 0 for amount in spent.values()), f"a meter stood still: {spent}"
    amounts = ", ".join(f"{name} {amount:.1f}" for name, amount in spent.items())
    return f"peak {peak / 2**30:.2f} GiB, formula at most {predicted.most / 2**30:.2f} GiB; {amounts}"


def figures(policy: Sequence[str], device: str) -> str:
    """How fast the device plays and trains: tokens a second, and the share of its fastest matrix product."""
    config = configured(policy, device, "batch.problems=8", "batch.group_size=8")
    model, task = loaded(config)
    problems = task.problems("train")[: config.algo.problems_per_update]
    began = time.perf_counter()
    rollouts, cost = model.play(task, problems, config.algo.group_size, Sampling(), seed=0)
    play_s = time.perf_counter() - began
    with rehearsal(config, model, task, UPDATES) as session:
        began = time.perf_counter()
        config.algorithm_class(config.algo).improve(model, task, session)
        improve_s = time.perf_counter() - began
    peak = peak_flops_per_s(model.device, model.model.dtype)
    written = cost.generated_tokens
    assert written > 0
    return (
        f"{written / play_s:,.0f} tokens/s played ({len(rollouts)} side by side, {cost.flops / play_s / peak:.1%} of "
        f"peak), {UPDATES} updates with play in {improve_s:.1f} s; peak {peak:.2e} FLOP/s"
    )


def checks(policy: Sequence[str], device: str) -> dict[str, Callable[[], str]]:
    """All checks by name."""
    found: dict[str, Callable[[], str]] = {
        "greedy answers in float32": lambda: greedy_agrees(policy, device),
        "checkpoints": lambda: checkpoints_move(policy, device),
        "memory and energy": lambda: memory_and_energy(policy, device),
        "speed": lambda: figures(policy, device),
    }
    for adapter in ("none", "lora"):
        for algo in ALGORITHMS:
            found[f"{algo}, adapter={adapter}"] = partial(trains, policy, device, algo, adapter)
    return found


def check_all(policy: Sequence[str], device: str, say: Callable[[str], object]) -> int:
    """Run every check and say what came of it. Exit code 1 where one failed."""
    failed, began = 0, time.perf_counter()
    for name, check in checks(policy, device).items():
        try:
            say(f"ok      {name}: {check()}")
        except Exception as error:  # whatever it is, the other checks say something too
            failed += 1
            say(f"FAILED  {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    say(f"{failed} checks failed; {time.perf_counter() - began:.0f} s on {device}")
    return int(failed > 0)


def check_cuda(words: Sequence[str], say: Callable[[str], object]) -> int:
    """Every check on this machine's CUDA device. Exit code 1 where one failed.

    Args:
        words: Hydra's words for the policy.
        say: takes a line for the user.

    Raises:
        BadInput: torch sees no CUDA device, or there is no such policy.
    """
    require(torch.cuda.is_available(), "gpu-check needs a CUDA device, and torch sees none here; nothing was checked")
    say(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    with tempfile.TemporaryDirectory() as folder:
        # Once, since reading a GGUF takes longer than a check.
        load_policy(configured(words, "cpu").policy).save(Path(folder))
        return check_all([*words, f"policy.path={folder}"], "cuda", say)
