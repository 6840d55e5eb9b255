"""Records of imagined experiments, for comparisons and claims: what was solved, how it was learnt, what it cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from record_factory import write_record

from benchmarks.records.reading import flat
from benchmarks.records.record import Record

AXES = ("rollouts", "tokens", "flops", "seconds", "device_seconds")


def write_experiment(
    directory: Path,
    algo: str,
    level: float,
    *,
    task: str = "wordle",
    seeds: int = 4,
    problems: int = 60,
    base: float = 0.2,
    luck: float = 0.005,
    settings: Mapping[str, Any] | None = None,
    costs: Mapping[str, float] | None = None,
    pace: float = 1.0,
    rewards: Mapping[str, float] | None = None,
    points: int = 9,
    tstar: tuple[float, float] | None = None,
    **names: Any,
) -> list[Record]:
    """One record a seed of an algorithm that ends near an accuracy.

    Args:
        directory: of all records.
        algo, task, names: as `record_factory.write_record` takes them.
        level: expected final accuracy on test and val.
        base: expected accuracy before.
        luck: standard deviation of the level over seeds.
        settings: configuration by dotted key.
        costs: what a run spends, by axis; 3000 rollouts and 2e12 FLOPs, say.
        pace: how early it learns: after the share x of its budget it has gained x^(1 / pace) of its gain.
        rewards: final mean of reward components, each of which begins at -1, by name.
        points: evaluations on the curve.
        tstar: expected accuracy at the best temperature, before and after; None: not measured.
    """
    total = {"rollouts": 3000.0, "tokens": 1e5, "flops": 2e12, "seconds": 50.0, "device_seconds": 40.0} | dict(
        costs or {}
    )
    config = {
        "algo.learning_rate": 1e-4,
        "task.max_turns": 6,
        "task.test": 0.25,
        "task.val": 0.15,
        "evaluate.val_problems": 64,
    } | dict(settings or {})
    label = json.dumps([algo, task, sorted(config.items()), names.get("budget"), names.get("policy")], default=str)
    experiment = hashlib.sha256(label.encode()).hexdigest()[:10]
    written = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, int(experiment, 16) % 10**6])
        # Problems are as hard for every algorithm and seed: the same thresholds decide what is solved.
        ease = np.random.default_rng(0).permutation(problems) / problems
        end = level + rng.normal(0, luck)
        outcomes = [(ease[:, None] + rng.normal(0, 0.05, (problems, 2)) < solved).tolist() for solved in (base, end)]
        levels = [level + rng.normal(0, luck) for level in tstar or ()]
        best = tuple(ease[:, None] + rng.normal(0, 0.05, (problems, 2)) < solved for solved in levels) or None
        about = {"experiment": experiment, "seed": seed, "base": outcomes[0], "final": outcomes[1], "updates": 50}
        spent = {"rollouts": total["rollouts"], "tokens_generated": total["tokens"], "flops": total["flops"]}
        spent |= {"wall_s": total["seconds"], "cpu_s": total["device_seconds"]}
        record = write_record(directory, algo=algo, task=task, tstar=best, **about, **spent, **names)
        rows = [{**row, "metric/share_right": float(row["solved"])} for row in record.read_rows("outcomes.parquet")]
        record.write_rows("outcomes.parquet", rows)
        curve = []
        for share in np.linspace(0, 1, points):
            row = {f"spent/{axis}": total[axis] * share for axis in AXES} | {"spent/updates": 50 * share}
            gained = share ** (1 / pace)
            row["solved"] = base + (end - base) * gained + (rng.normal(0, 0.002) if share else 0.0)
            row["share_right"] = row["solved"]
            for name, final in (rewards or {"solved": 0.0}).items():
                row[f"reward/{name}"] = -1 + (final + 1 + rng.normal(0, 0.005)) * gained
            curve.append({key: float(value) for key, value in row.items()})
        record.write_rows("curve.parquet", curve)
        groups = json.loads((record.folder / "config.json").read_text())
        keys = flat(groups) | dict(config.items())
        record.write_json("config.json", _nested(keys))
        record.write_status("complete")
        written.append(record)
    return written


def _nested(keys: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in keys.items():
        *groups, name = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree
