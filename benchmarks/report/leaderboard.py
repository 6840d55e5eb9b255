"""The leaderboard and the matrix as plain values: per cell what it is sorted by, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.table import SETTING
from benchmarks.report.conditions import conditions
from benchmarks.report.gather import Results, Setting
from benchmarks.wording import COSTS, one_line, percent

HEADS = {
    "rollouts": "rollouts",
    "tokens_generated": "tokens generated",
    "tokens_trained": "tokens trained",
    "flops": "FLOPs",
    "wall_s": "time",
    "peak_memory_bytes": "memory",
    "energy_j": "energy",
    "dollars": "price",
    "mfu": "MFU",
    "rollouts_per_s": "rollouts/s",
    "tokens_per_s": "tokens/s",
}
"""Costs and throughput in the leaderboard, in this order: those that a record has. Less is better, but for these:"""
MORE_IS_BETTER = ("mfu", "rollouts_per_s", "tokens_per_s")


def leaderboard(results: Results) -> dict[str, Any]:
    """Columns, rows, and the conditions that rows refer to by their place."""
    kept: list[dict[str, str]] = []
    places: dict[str, int] = {}

    def place(found: dict[str, str]) -> int:
        """Conditions are shared by most experiments: each is written once."""
        key = json.dumps(found)
        if key not in places:
            places[key] = len(kept)
            kept.append(found)
        return places[key]

    rows = [e.row for setting in results.settings for e in setting.experiments]
    costs = [key for key in HEADS if any(row.get(key) is not None for row in rows)]
    columns = [
        *({"key": key, "head": key, "better": ""} for key in (*SETTING, "algorithm", "seeds")),
        *({"key": key, "head": f"{key} [95 %]", "better": "up"} for key in ("accuracy", "gain")),
        {"key": "base", "head": "before", "better": ""},
        *({"key": k, "head": HEADS[k], "better": "up" if k in MORE_IS_BETTER else "down"} for k in costs),
        {"key": "status", "head": "status", "better": ""},
    ]
    made = [_row(setting, e, costs, place) for setting in results.settings for e in setting.experiments]
    return {"columns": columns, "rows": made, "conditions": kept}


def _row(setting: Setting, experiment: Experiment, costs: list[str], place: Any) -> dict[str, Any]:
    """One row: per column the value that it is sorted by, and what a person reads."""
    row = experiment.row
    accuracy, low, high = (row[f"accuracy_{key}"] for key in ("final", "ci_low", "ci_high"))
    gain, least, most = (row[key] for key in ("gain", "gain_ci_low", "gain_ci_high"))
    cells: list[list[Any]] = [
        *([name, one_line(name)] for name in (*setting.names, experiment.label)),
        [len(row["seeds"]), ", ".join(map(str, row["seeds"][:8])) + (" …" if len(row["seeds"]) > 8 else "")],
        [accuracy, "–" if accuracy is None else f"{percent(accuracy)} [{100 * low:.1f}, {100 * high:.1f}]"],
        [gain, "–" if gain is None else f"{100 * gain:+.1f} [{100 * least:+.1f}, {100 * most:+.1f}]"],
        [row["accuracy_base"], "–" if accuracy is None else percent(row["accuracy_base"])],
    ]
    for key in costs:
        value = row.get(key)
        cells.append([value, "–" if value is None else COSTS.get(key, "{:.3g}".format)(value)])
    found, commands = conditions(experiment.complete or experiment.unfinished)
    return {
        "cells": [*cells, [row["status"], row["status"]]],
        "standing": experiment.standing,
        "metrics": {
            one_line(name): f"{value:.3f}" for name, value in row["metrics_final"].items() if value is not None
        },
        "experiment": row["experiment"],
        "conditions": place(found),
        "command": commands,
    }


def matrix(setting: Setting) -> dict[str, Any]:
    """Every pair of the plotted experiments: row minus column."""
    return {
        "labels": [one_line(experiment.label) for experiment in setting.plotted],
        "cells": [
            [
                None
                if found is None
                else {
                    "effect": round(100 * found.effect, 1),
                    "interval": f"{100 * found.low:+.1f}, {100 * found.high:+.1f}",
                    "decided": found.decided,
                    "seeds": found.seeds,
                }
                for found in row
            ]
            for row in setting.wins
        ],
    }
