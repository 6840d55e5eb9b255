"""What can be refused before a policy is loaded: no such device, numbers that it has not got, too little memory.

The estimate is `policies.memory`'s formula. What is certain (weights, gradients, optimiser) must fit into the memory
that is free; what the longest episodes would need is told, by `run --dry-run`, and not refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.policy_gradient import PolicyGradient
from benchmarks.wording import memory
from policies.source import Source, offline_ways
from tasks.api import SPLITS, Task
from tasks.errors import BadInput, require

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig
    from policies.memory import Load, Need

REPLY = 40
"""Tokens that an environment's reply takes at most, with the chat template's own."""
PLAYED = 256
"""Rollouts that an algorithm without gradients plays at once, at most (`policies.api.Sampling.batch_size`)."""
EXPANDED = 32
"""Bytes that a byte of a GGUF file may become: 4 bits in the file, 16 bytes in training."""


def refuse_unfit(config: RunConfig, source: Source, task: Task) -> None:
    """Refuse what this machine cannot do, and a task that leaves nothing to do.

    Raises:
        BadInput: a split without problems, no such device or numbers, or less free memory than is certainly needed.
    """
    for split in SPLITS:
        way = f"raise task.{split}" if split != "train" else "lower task.val and task.test"
        require(len(task.problems(split)) > 0, f"task={task.name} has no {split} problems; {way}, or give it more")
    from policies.adapter import check_quantisation
    from policies.memory import free_memory

    device, _ = config.device, config.dtype  # Asking for them refuses what is not there.
    if config.adapter is not None and config.adapter.quantised:
        check_quantisation(device)
    free, total = free_memory(device)
    # Reading the configuration out of a GGUF takes seconds; a small file fits whatever it says.
    if source.gguf and (Path(source.folder) / source.gguf).stat().st_size * EXPANDED < free:
        return
    certain = memory_need(config, source, task).certain
    if certain <= free:
        return
    where = f"{device} has {_told(certain, free, total)}"
    ways = ["a smaller policy", "a larger device"]
    if updates_weights(config) and (config.adapter is None or not config.adapter.quantised):
        ways.insert(0, "adapter=lora" if config.adapter is None else "adapter=qlora")
    raise BadInput(
        f"policy={config.policy.name} with {config.algo.name} needs {memory(certain)} at least, and {where}; "
        f"use {', '.join(ways[:-1])} or {ways[-1]}"
    )


def refuse_unfit_warm_start(config: RunConfig, source: Source, task: Task) -> None:
    """Refuse to make a warm start that this machine cannot make.

    Raises:
        BadInput: less free memory than is certainly needed.
    """
    from policies.memory import free_memory

    assert config.warmstart is not None
    device = config.device
    free, total = free_memory(device)
    certain = warm_start_need(config, source, task).certain
    if certain > free:
        way = "a smaller policy or a larger device"
        raise BadInput(
            f"warmstart=sft of policy={config.policy.name} needs {memory(certain)} at least, and {device} has "
            f"{_told(certain, free, total)}; use {way if config.warmstart.lora_rank else 'warmstart.lora_rank=16'}"
        )


def _told(certain: float, free: float, total: float) -> str:
    """How much memory there is, and whether it is others who hold what is lacking."""
    others = f": other processes hold {memory(total - free)}" if certain <= total else ""
    return f"{memory(free)} of {memory(total)} free{others}"


def warm_start_need(config: RunConfig, source: Source, task: Task) -> Need:
    """What making the warm start needs on the device, by formula."""
    from policies.adapter import AdapterConfig
    from policies.devices import choose_dtype, trains_in_bf16
    from policies.memory import Load, need, skeleton

    warm = config.warmstart
    assert warm is not None
    device = config.device
    adapter = None if warm.lora_rank is None else AdapterConfig(rank=warm.lora_rank)
    longest = widest(config, task).longest
    return need(
        skeleton(source, adapter, offline_ways(config.policy)),
        Load(True, warm.micro_batch_size, 0, 0, longest, warm.gradient_checkpointing),
        dtype=choose_dtype(config.policy.dtype, device, trained=adapter is None),
        bf16=trains_in_bf16(config.policy.dtype, device),
        adapter=adapter,
        device=device.type,
    )


def updates_weights(config: RunConfig) -> bool:
    """Whether the algorithm computes gradients; what never does needs no more memory than playing."""
    return issubclass(config.algorithm_class, PolicyGradient)


def memory_need(config: RunConfig, source: Source, task: Task) -> Need:
    """What a run needs on its device, by formula."""
    from policies.devices import trains_in_bf16
    from policies.memory import need, skeleton

    device = config.device
    return need(
        skeleton(source, config.adapter, offline_ways(config.policy)),
        widest(config, task),
        dtype=config.dtype,
        bf16=trains_in_bf16(config.policy.dtype, device),
        adapter=config.adapter,
        device=device.type,
    )


def widest(config: RunConfig, task: Task) -> Load:
    """The longest episodes and the largest batches that a run can come to."""
    from policies.memory import Load, tokens_of

    limit = min(task.max_action_tokens, config.policy.max_action_tokens or task.max_action_tokens)
    messages = task.start(task.problems("train")[0]).messages
    prompt = tokens_of([task.instructions, *(message["content"] for message in messages)]) + REPLY
    evaluate, updates = config.evaluate, updates_weights(config)
    tests, samples = len(task.problems("test")), evaluate.test_samples
    episodes = min(evaluate.test_problems or tests, tests) * samples
    rollouts = config.algo.problems_per_update * config.algo.group_size if updates else PLAYED
    return Load(
        updates=updates,
        micro_batch=config.algo.micro_batch(rollouts) if updates else 0,
        rows=min(max(rollouts, episodes), evaluate.batch_size),
        prompt=prompt,
        longest=prompt + task.max_turns * (limit + REPLY),
        checkpointing=updates and config.algo.gradient_checkpointing,
    )


def memory_lines(config: RunConfig, source: Source, task: Task) -> list[str]:
    """What `run --dry-run` says of memory."""
    from policies.memory import free_memory

    found = memory_need(config, source, task)
    free, _ = free_memory(config.device)
    parts = [("weights", found.weights), ("gradients", found.gradients), ("optimiser", found.optimiser)]
    told = ", ".join(f"{name} {memory(size)}" for name, size in parts if size)
    train = f"{memory(found.update)} more to train on and " if found.update else ""
    lines = [
        f"memory by formula: {told}; the longest episodes take {train}{memory(found.play)} more to play; "
        f"{memory(found.most)} at most, {memory(free)} are free"
    ]
    if config.warmstart is not None:
        warm = warm_start_need(config, source, task)
        lines.append(f"making the warm start: {memory(warm.certain)} at least, {memory(warm.most)} at most")
    if found.most > free:
        knobs = "evaluate.batch_size and policy.micro_batch_size"
        lines.append(f"memory may run out: lower {knobs}, or set batch.gradient_checkpointing=true")
    return lines


def asks_endpoint(config: RunConfig) -> bool:
    """Whether the algorithm reflects on another machine: FLOPs are unknown there, and tokens have a price."""
    return bool(config.algorithm_class.asks_endpoint(config.algo))


def refuse_unmeasurable(config: RunConfig) -> None:
    """Refuse limits that this run could not hold to, before anything is loaded.

    Raises:
        BadInput: joules without a meter; FLOPs, or dollars without a price per token, of a remote reflector.
    """
    limits = config.budget.limits()
    if asks_endpoint(config):
        require(
            "flops" not in limits,
            f"budget.flops={limits.get('flops', 0):g}: the FLOPs of a remote reflector are unknown; "
            "limit rollouts, tokens, updates or seconds (budget.flops=null)",
        )
        require(
            "dollars" not in limits or config.budget.price_per_million_tokens is not None,
            "budget.dollars needs budget.price_per_million_tokens where the reflector is an endpoint",
        )
    if "joules" in limits:
        from benchmarks.running.energy import energy_meter, missing_meter

        device = config.device
        if energy_meter(device) is None:
            raise BadInput(f"budget.joules={limits['joules']:g}: {missing_meter(device)}; set another limit")
