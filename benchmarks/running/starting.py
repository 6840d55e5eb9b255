"""The policy as a run starts with it, and the meters of the device that it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.running.ledger import Ledger
from policies import ranks
from policies.source import Source
from tasks.api import Task

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig
    from policies.language_model import LanguageModel


def load_start(config: RunConfig, source: Source, task: Task) -> LanguageModel:
    """The policy as it starts."""
    from policies.language_model import load_policy

    policy = load_policy(config.policy, source, config.adapter, config.seed)
    policy.instructions = policy.instructions or task.instructions
    return policy


def equip(ledger: Ledger, policy: LanguageModel) -> None:
    """Give the ledger the meters, and the peak FLOP/s, of the device that the policy is on."""
    from benchmarks.running.machine import meters, peak_flops_per_s

    ledger.meters = meters(policy.device)
    if policy.device.type == "cpu" and ranks.local_rank() > 0:
        ledger.meters.pop("energy_j", None)  # It counts the whole machine, and the first process reads it.
    ledger.peak_flops_per_s = sum(ranks.gather(peak_flops_per_s(policy.device, policy.model.dtype)))
