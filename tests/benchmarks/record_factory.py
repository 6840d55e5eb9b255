"""Writes records as the runner leaves them, from a table of what was solved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RECORD_VERSION, Record, Status

DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "no summary": ({"without": ["summary.json"]}, "summary.json: missing"),
    "no samples": ({"without": ["samples.parquet"]}, "samples.parquet: missing"),
    "no status": ({"without": ["status"]}, "status: missing"),
    "another version": ({"record_version": 2}, "record_version 1"),
    "keys missing": ({"lacking": ["flops", "phases"]}, "lacks flops, phases"),
    "a text for a number": ({"flops": "many"}, "impossible value of flops"),
    "an impossible accuracy": ({"accuracy_final": 1.5}, "impossible value of accuracy_final"),
    "a negative cost": ({"wall_s": -1.0}, "impossible value of wall_s"),
    "an integer beyond all floats": ({"rollouts": 10**400}, "impossible value of rollouts"),
    "a truth value for a number": ({"rollouts": True}, "impossible value of rollouts"),
    "metrics that are no numbers": ({"metrics_final": {"solved": None}}, "impossible value of solved"),
    "a name that steers the terminal": ({"algo": "grpo\x1b[2J"}, "impossible value of algo"),
    "an accuracy other than the samples'": ({"accuracy_final": 0.7}, "accuracy_final"),
    "another number of problems": ({"n_test": 3}, "n_test"),
    "another number of samples": ({"test_samples": 1}, "test_samples"),
    "no config": ({"status": "running", "without": ["config.yaml"]}, "config.yaml: missing"),
    "no manifest": ({"status": "failed", "without": ["manifest.json"]}, "manifest.json: missing"),
}
"""How `write_record` makes a record that must not enter a table, and what the reason then says."""
UNREADABLE = {
    "summary.json": [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"seed": ' + b"1" * 5000 + b"}"],
    "samples.parquet": [b"", b"PAR1", b"PAR1" * 50, b"not parquet at all"],
    "status": [b"", b"\xff", b"done\n"],
    "config.yaml": [b"", b"[1", b"a: b: c", b"- 1", b"algo: grpo", b"\x00", b"{algo: {name: 3}}"],
}
"""Contents that no reader can make sense of."""
HOSTILE = {
    "clear the screen": "\x1b[2J\x1b[H",
    "set the window's title": "\x1b]0;owned\x07",
    "one-byte control sequence": "\x9b31m",
    "return to the line's start": "lost\rwon",
    "backspaces": "lost\b\b\b\bwon",
    "text that runs backwards": "\u202egpj.exe",
    "nothing to see": "a\u200bb\x00",
    "a line separator": "a\u2028turn 9: solved",
    "a lone surrogate": "\ud800 and \udfff",
    "a tab": "a\tb",
}
"""Actions that would steer a terminal or deceive its reader."""


def write_record(
    directory: Path,
    *,
    algo: str = "grpo",
    task: str = "wordle",
    policy: str = "tiny",
    budget: str = "quick",
    seed: int = 0,
    experiment: str = "e0e0e0e0e0",
    status: Status = "complete",
    base: Sequence[Sequence[bool]] = ((False, False), (False, True)),
    final: Sequence[Sequence[bool]] = ((True, False), (True, True)),
    actions: Sequence[str] = ("<think></think><guess>crane</guess>",),
    started: str = "2026-11-23T10:00:00+00:00",
    without: Sequence[str] = (),
    lacking: Sequence[str] = (),
    **changes: Any,
) -> Record:
    """One record.

    Args:
        directory: of all records.
        base, final: outcomes [problems, samples] of the test evaluations.
        actions: the turns of every sample; only the last can solve the problem.
        without: files to leave out.
        lacking: keys to leave out of summary.json.
        changes: other values in summary.json.
    """
    record = Record(directory / f"{algo}-{task}-{policy}-s{seed}-{experiment}")
    record.folder.mkdir(parents=True)
    groups = {"algo": algo, "task": task, "policy": policy, "budget": budget}
    # JSON is YAML.
    config = {**{group: {"name": name} for group, name in groups.items()}, "seed": seed}
    record.write("config.yaml", json.dumps(config).encode())
    record.write_json("manifest.json", {"command": "run", "experiment": experiment, "started": started})
    record.write_rows("ledger.parquet", [{"update": 1.0, "rollout/wall_s": 1.0}])
    record.write_rows("curve.parquet", [{"solved": 0.5}])
    if status == "complete":
        rows = [*sample_rows("base", base, actions), *sample_rows("final", final, actions)]
        record.write_rows("samples.parquet", rows)
        about = {**groups, "seed": seed, "experiment": experiment}
        summary = {**about, **measured(np.array(base, dtype=float), np.array(final, dtype=float)), **changes}
        record.write_json("summary.json", {key: value for key, value in summary.items() if key not in lacking})
    record.write_status(status)
    for file in without:
        (record.folder / file).unlink()
    return record


def measured(base: np.ndarray[Any, Any], final: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What summary.json says beside the run's names."""
    return {
        "record_version": RECORD_VERSION,
        "task_version": "1",
        "stopped_by": "updates",
        "updates": 10,
        "n_test": final.shape[0],
        "test_samples": final.shape[1],
        "accuracy_base": base.mean(),
        "accuracy_final": final.mean(),
        "metrics_base": {"solved": base.mean(), "guesses": 6.5},
        "metrics_final": {"solved": final.mean(), "guesses": 4.5},
        "rollouts": 640,
        "tokens_generated": 70_000,
        "tokens_prompt": 20_000,
        "tokens_trained": 64_000,
        "flops": 3.21e12,
        "wall_s": 90.0,
        "evaluate_wall_s": 30.0,
        "phases": {"rollout": 40.0, "update": 50.0, "evaluate": 30.0},
        "rollouts_per_s": 16.0,
        "tokens_per_s": 1750.0,
        "peak_memory_bytes": 600 * 2**20,
        "energy_j": None,
    }


def sample_rows(stage: str, outcomes: Sequence[Sequence[bool]], actions: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows of samples.parquet for outcomes [problems, samples]."""
    rows = []
    for problem, samples in enumerate(outcomes):
        for sample, solved in enumerate(samples):
            turns, messages = [], [{"role": "user", "content": "6 guesses left."}]
            for number, action in enumerate(actions, 1):
                won = bool(solved) and number == len(actions)
                turns.append(
                    {
                        "action": action,
                        "rewards": {"format": -1.0, "solved": float(won)},
                        "feedback": "solved" if won else "letter 'c' is not in the word",
                        "spans": {"solved": [22, 27]},
                        "solved": won,
                        "tokens": 12,
                    }
                )
                messages.append({"role": "assistant", "content": action})
                if number < len(actions):
                    messages.append({"role": "user", "content": f"{6 - number} guesses left."})
            rows.append(
                {
                    "stage": stage,
                    "problem": f"wordle/word{problem}",
                    "sample": sample,
                    "solved": bool(solved),
                    "score": float(solved) - 0.05,
                    "turns": json.dumps(turns),
                    "messages": json.dumps(messages),
                    "metric/solved": float(solved),
                }
            )
    return rows
