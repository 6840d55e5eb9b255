"""What happens when an update does not fit in memory: the run fails, or goes on in smaller micro-batches."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

from benchmarks.config.schema import RunConfig

WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""In the RuntimeErrors of torch's allocators; that of the CPU has no class of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory is what the error is about, on the GPU or off it."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


def smaller(config: RunConfig) -> int | None:
    """Half the size of a run's micro-batches, where it asks for that and there is anything to halve."""
    size = getattr(config.algo, "micro_batch_size", 1)
    return size // 2 if size > 1 and config.budget.on_oom == "halve" else None


def remembered(config: RunConfig, manifest: dict[str, Any]) -> RunConfig:
    """The run, under the same name, with the micro-batches that it came down to."""
    halvings = manifest.get("out_of_memory")
    if not halvings:
        return config
    return replace(config, algo=replace(config.algo, micro_batch_size=halvings[-1]["micro_batch_size"]))


def free_memory() -> None:
    """Give back what the failed update held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
