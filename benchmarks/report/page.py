"""Everything in one file: template, style, scripts, data and plotly, under a policy that lets nothing else run or load.

Data cannot break out of its element: `<`, `>` and `&` in the JSON are escapes, and the samples are base64. Scripts run
by the hash of their text, so that nothing a model wrote could, even if it became an element.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import tempfile
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from benchmarks.manifest import git_state
from benchmarks.report.figures import figures, palette
from benchmarks.report.gather import AXES, Experiment, Results, Setting, commands, conditions, gather
from benchmarks.report.samples import UNTOUCHED, samples
from benchmarks.table import SETTING
from benchmarks.wording import COSTS, one_line, percent
from tasks.errors import BadInput

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
ASSETS = files("benchmarks.report")


def report(directory: Path, out: Path) -> str:
    """Write the page.

    Returns:
        What was written, in a line.

    Raises:
        BadInput: there is no such results folder, or `out` cannot be written.
    """
    results = gather(directory)
    text = render(results, directory)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(out)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot write there ({error.strerror}); give a writable file") from None
    kept = f"{results.found} records, {len(results.set_aside)} set aside"
    return f"{out}: {kept}, {len(text.encode()) / 2**20:.1f} MiB"


def render(results: Results, directory: Path, refresh_s: int = 0) -> str:
    """The page as text; with `refresh_s`, the browser asks for it again after so many seconds."""
    environment = Environment(autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True)
    scripts = {"app": _asset("page.js"), "plotly": _plotly()}
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in scripts.values())
    shown = [setting for setting in results.settings if setting.plotted]
    packs = [_packed(samples(setting, directory)) for setting in shown]
    commit, dirty = git_state()
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(_asset("page.html.jinja")).render(
        policy=policy,
        refresh_s=refresh_s,
        style=Markup(_asset("page.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        data=Markup(escaped_json(_payload(results) | {"remember": refresh_s > 0})),
        packs=packs,
        results=results,
        set_aside=[(one_line(name), one_line(reason)) for name, reason in results.set_aside],
        runs=sum(len(experiment.complete) for setting in results.settings for experiment in setting.experiments),
        experiments=sum(len(setting.experiments) for setting in results.settings),
        made=f"{made}, grpo-bench {version('grpo-bench')}"
        + (f", commit {commit[:10]}{' with changes' if dirty else ''}" if commit else ""),
    )


def escaped_json(value: Any) -> str:
    """JSON that cannot end the element it stands in, nor open another.

    Raises:
        ValueError: NaN or an infinity.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _packed(value: Any) -> str:
    """JSON, compressed; the browser unpacks a setting's samples when they are looked at."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), compresslevel=6, mtime=0)).decode()


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    # Without importing plotly, which takes half a second for what is a file.
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _payload(results: Results) -> dict[str, Any]:
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
    shown = [setting for setting in results.settings if setting.plotted]
    columns = [
        *({"key": key, "head": key, "better": ""} for key in (*SETTING, "algorithm", "seeds")),
        *({"key": key, "head": f"{key} [95 %]", "better": "up"} for key in ("accuracy", "gain")),
        {"key": "base", "head": "before", "better": ""},
        *({"key": k, "head": HEADS[k], "better": "up" if k in MORE_IS_BETTER else "down"} for k in costs),
        {"key": "status", "head": "status", "better": ""},
    ]
    return {
        "columns": columns,
        "rows": [_row(setting, e, costs, place) for setting in results.settings for e in setting.experiments],
        "conditions": kept,
        "settings": [
            {"names": setting.names, "figures": figures(setting, results), "wins": _wins(setting)} for setting in shown
        ],
        "axes": AXES,
        "palettes": {theme: palette(theme) for theme in ("light", "dark")},
        "untouched": UNTOUCHED,
    }


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
    return {
        "cells": [*cells, [row["status"], row["status"]]],
        "standing": experiment.standing,
        "metrics": {
            one_line(name): f"{value:.3f}" for name, value in row["metrics_final"].items() if value is not None
        },
        "experiment": row["experiment"],
        "conditions": place(conditions(experiment.complete or experiment.runs)),
        "command": commands(experiment.complete or experiment.runs),
    }


def _wins(setting: Setting) -> dict[str, Any]:
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
                    "seeds": len(found.seeds),
                    "left_out": list(found.left_out),
                }
                for found in row
            ]
            for row in setting.wins
        ],
    }
