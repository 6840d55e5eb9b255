"""summary.json: the numbers of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.records.record import RECORD_VERSION

if TYPE_CHECKING:
    from benchmarks.running.session import RunSession


def summary(session: RunSession, manifest: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of one run.

    Args:
        session: that is over.
        manifest: of the run.
        measured: what the evaluations found; goes in as it is.
    """
    from benchmarks.running.machine import peak_memory

    config, ledger = session.config, session.ledger
    spent, phases = ledger.spent(), ledger.phases()
    rollouts, generated = ledger.total("rollouts"), ledger.total("generated_tokens")
    play_s = phases.get("rollout", 0.0) + phases.get("score", 0.0)
    memory = peak_memory(session.policy.device)
    device_bytes = memory["peak_device_bytes"]
    return {
        "record_version": RECORD_VERSION,
        "algo": config.algo.name,
        "task": config.task.name,
        "policy": config.policy.name,
        "budget": config.budget.name,
        "seed": config.seed,
        "experiment": manifest["experiment"],
        "task_version": session.task.version,
        "stopped_by": session.stopped_by,
        "updates": len(ledger.rows),
        "test_samples": config.evaluate.test_samples,
        **measured,
        "reward_correlations": ledger.means("corr/"),
        "rollouts": rollouts,
        "tokens_generated": generated,
        "tokens_prompt": ledger.total("prompt_tokens"),
        "tokens_trained": ledger.total("trained_tokens"),
        "tokens_reflected": ledger.total("reflected_tokens"),
        "flops": spent["flops"],
        "wall_s": spent["seconds"],
        "cpu_s": ledger.total("cpu_s"),
        "gpu_s": ledger.total("gpu_s") if "gpu_s" in ledger.meters else None,
        "evaluate_wall_s": phases.get("evaluate", 0.0),
        "phases": phases,
        "costs": ledger.by_phase(),
        "peak_flops_per_s": ledger.peak_flops_per_s,
        "rollouts_per_s": rollouts / play_s if play_s > 0 else None,
        "tokens_per_s": generated / play_s if play_s > 0 else None,
        **memory,
        "peak_memory_bytes": memory["peak_host_bytes"] if device_bytes is None else device_bytes,
        "energy_j": spent["joules"],
        "dollars": spent["dollars"],
    }
