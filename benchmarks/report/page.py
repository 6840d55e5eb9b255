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
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from benchmarks.analysis.claims import Answer, measured, to_decide
from benchmarks.records.record import Record
from benchmarks.report.answer import short_answer
from benchmarks.report.axes import AXES
from benchmarks.report.claim_plots import claim_plot
from benchmarks.report.figures import figures
from benchmarks.report.gather import Results, Setting, gather
from benchmarks.report.leaderboard import leaderboard, matrix
from benchmarks.report.overview import overview
from benchmarks.report.samples import UNTOUCHED, samples
from benchmarks.report.style import palette
from benchmarks.report.training import credit, family_tree
from benchmarks.running.manifest import git_state
from benchmarks.wording import one_line, scientific, visible
from tasks.errors import BadInput

ASSETS = files("benchmarks.report") / "web"
SCRIPTS = tuple(
    f"{name}.js" for name in ("elements", "answer", "board", "plots", "matrix", "claims", "samples", "training", "page")
)


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
    scripts = {"app": "\n".join(map(_asset, SCRIPTS)), "plotly": _plotly()}
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in scripts.values())
    shown = [setting for setting in results.settings if setting.plotted]
    packs = [_pack(setting, directory) for setting in shown]
    answers = [
        asdict(short_answer(setting)) | {"turns": pack["turns"]} for setting, pack in zip(shown, packs, strict=True)
    ]
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
        packs=list(map(_packed, packs)),
        answers=answers,
        scientific=scientific,
        one_line=one_line,
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


def _payload(results: Results) -> dict[str, Any]:
    return {
        **leaderboard(results),
        "settings": [
            {"names": setting.names, "figures": figures(setting, results), "wins": matrix(setting)}
            for setting in results.settings
            if setting.plotted
        ],
        "overviews": [
            {"policy": policy, "budget": budget, "figures": overview(policy, budget, results)}
            for policy, budget in results.claims
        ],
        "claims": [
            {"policy": policy, "budget": budget, "answers": [_claim(answer) for answer in answers]}
            for (policy, budget), answers in results.claims.items()
        ],
        "axes": AXES,
        "palettes": {theme: palette(theme) for theme in ("light", "dark")},
        "untouched": UNTOUCHED,
    }


def _claim(answer: Answer) -> dict[str, Any]:
    texts = {name: one_line(getattr(answer, name)) for name in ("claim", "sentence", "source", "conclusion", "scope")}
    judgements = [
        {
            "conclusion": found.conclusion,
            "decides": found.decides,
            "task": one_line(found.task),
            "test": one_line(found.test),
            "measured": one_line(measured(found)),
            "note": one_line("; ".join(filter(None, (found.note, to_decide(found.missing))))),
        }
        for found in answer.judgements
    ]
    return {**texts, "judgements": judgements, "figure": claim_plot(answer)}


def _pack(setting: Setting, directory: Path) -> dict[str, Any]:
    """What is unpacked when a setting is looked at: samples, training rollouts and families, of the first seeds."""
    pack = samples(setting, directory)
    first = {visible(e.label): Record(directory / e.complete[0].name) for e in setting.plotted}
    learnt = {label: found for label, record in first.items() if (found := credit(record))}
    trees = {label: tree for label, record in first.items() if (tree := family_tree(record))}
    return {**pack, "credit": learnt, "families": trees}


def _packed(value: Any) -> str:
    """JSON, compressed; the browser unpacks a setting's samples when they are looked at."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), compresslevel=6, mtime=0)).decode()


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    # Without importing plotly, which takes half a second for what is a file.
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
