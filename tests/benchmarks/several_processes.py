"""Runs in several processes, and what is looked at in each: `python several_processes.py FOLDER NAME ...`.

Beside CASES there are BROKEN, a run in whose second update the second process fails, and RESUMED, which goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from broken_off import TIMES, dies, run_on

from benchmarks.running.quiet import quiet_libraries
from benchmarks.running.session import RunSession
from policies import ranks

BROKEN, RESUMED = "broken grpo", "resumed grpo"
CHEAP = ("evaluate.test_samples=1", "budget.checkpoints=1")
SHORT = (*CHEAP, "task.max_turns=2", "task.max_action_tokens=40")
UPDATES = ("batch.problems=2", "batch.group_size=4", "budget.updates=2", "algo.micro_batch_size=4")
GAME = (*SHORT, *UPDATES)
SUMS = (*CHEAP, *UPDATES, "task=gsm_synth", "task.problems_per_level=60", "task.max_action_tokens=64")
"""For what learns from solved rollouts only: two turns of Wordle solve nothing."""
CASES: dict[str, tuple[str, ...]] = {
    "grpo": ("+algo=grpo", *GAME),
    "grpo, means of means, a reference": ("+algo=grpo", "algo.loss_type=grpo", "algo.beta=0.1", *GAME),
    "grpo with an adapter": ("+algo=grpo", "adapter=lora", *GAME),
    "dr_grpo": ("+algo=dr_grpo", *GAME),
    "gdpo": ("+algo=gdpo", *GAME),
    "rft": ("+algo=rft", *SUMS),
    "vector_grpo, group": ("+algo=vector_grpo", *GAME),
    "vector_grpo, state": ("+algo=vector_grpo", "algo.baseline=state", *GAME),
    "vector_grpo, heads": ("+algo=vector_grpo", "algo.baseline=heads", *GAME),
    "feedback_grpo, distill": ("+algo=feedback_grpo", *GAME),
    "feedback_grpo, refine": ("+algo=feedback_grpo", "algo.mode=refine", "algo.shuffled=true", *GAME),
    "feedback_grpo, predict": ("+algo=feedback_grpo", "algo.mode=predict", *GAME),
    "fork_grpo": ("+algo=fork_grpo", *GAME),
    "gepa": ("+algo=gepa", "algo.valset_size=4", "algo.minibatch_size=2", "budget.updates=4", *SHORT),
    "base": ("+algo=base", *SHORT),
}


def watched(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """What a run played, credited, spent, and came to."""
    from algorithms import trainer
    from benchmarks.running import run
    from policies.weights import trained_weights

    seen: dict[str, Any] = {"rollouts": [], "advantages": []}
    check, begin, close = trainer.check_advantages, RunSession.begin, run.close

    def weights(session: RunSession) -> dict[str, torch.Tensor]:
        return {name: each.clone() for name, each in trained_weights(session.policy).items()}

    def beginning(session: RunSession) -> None:
        seen["start"] = weights(session)
        begin(session)

    def checking(advantages: torch.Tensor, batch: Any) -> None:
        seen["rollouts"].append(
            [(each.group, each.prompt_ids, each.completion_ids, each.mask) for each in batch.rollouts]
        )
        seen["advantages"].append(advantages.clone())
        check(advantages, batch)

    def closing(config: Any, session: Any, *rest: Any) -> None:
        seen["instructions"] = session.policy.instructions
        seen["weights"] = weights(session)
        close(config, session, *rest)

    with (
        patch.object(trainer, "check_advantages", checking),
        patch.object(RunSession, "begin", beginning),
        patch.object(run, "close", closing),
    ):
        record = run_on(folder, *words)
    if ranks.is_first():
        summary = record.read_json("summary.json")
        seen["costs"] = {
            phase: {name: cost for name, cost in costs.items() if not name.endswith(TIMES)}
            for phase, costs in summary["costs"].items()
        }
        updates = record.read_rows("ledger.parquet") if summary["updates"] else []
        seen["losses"] = [[row["loss"], row["grad_norm"]] for row in updates if "loss" in row]
        proposals = record.folder / "proposals.parquet"
        seen["proposals"] = record.read_rows(proposals.name) if proposals.exists() else []
        seen["solved"] = [row["solved"] for row in record.read_rows("samples.parquet")]
    return seen


def main(folder: Path, names: Sequence[str]) -> None:
    """One of the processes."""
    quiet_libraries()
    with ranks.joined():
        for number, name in enumerate(names):
            # A folder each: runs in one folder share the evaluation of their start.
            words, runs = CASES.get(name, CASES["grpo"]), folder / (f"runs{number}" if name in CASES else "broken")
            fails = name == BROKEN and ranks.rank() == 1
            with patch.object(RunSession, "step", dies(2, RunSession.step) if fails else RunSession.step):
                found = watched(runs, words)
            torch.save(found, folder / f"{name}-{ranks.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
