"""`python -m benchmarks probe`: which algorithms, and what is printed and kept of a probe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.record import open_record
from tasks.errors import BadInput, require

if TYPE_CHECKING:
    from rich.console import Console

    from benchmarks.checking.probe import Probe
    from benchmarks.checking.probe_statistics import WithError

FORMATS = ("text", "json")
PROBES = Path("results/probes")
"""Where --save puts them: a folder each, with `probe.json`."""


def run_probe(words: Sequence[str], batches: int, held_out: int, format: str, save: bool, console: Console) -> None:
    """Probe what the words name and print what was found.

    Raises:
        BadInput: no algorithm, one that cannot be probed, or a wrong override.
    """
    require(format in FORMATS, f"--format {format}: use {', '.join(FORMATS)}")
    configs = probe_configs(words)
    from benchmarks.checking.probe import probe  # imports torch: only once the words are in order

    def say(line: str) -> None:
        if format == "text":
            console.print(line, style="dim", highlight=False, markup=False)

    found = probe(configs, batches, held_out, say)
    if format == "json":
        console.print(json.dumps(found.as_json()), highlight=False, markup=False, soft_wrap=True)
    else:
        render(found, console)
    if save:
        say(f"kept in {keep(found, PROBES)}")


def probe_configs(words: Sequence[str]) -> dict[str, RunConfig]:
    """One configuration for each algorithm, by the word that names it: `+algo=A,B:KEY=VALUE:KEY=VALUE,...`.

    A setting after a colon is the algorithm's alone; every other word is for all of them, as in `run`.

    Raises:
        BadInput: no algorithm, the same twice, an option that is none, or whatever `run` would refuse.
    """
    for word in words:
        require(not word.startswith("-"), f"unknown option {word}; `probe --help` shows what there is")
    named = [word.partition("=")[2] for word in words if word.startswith("+algo=")]
    require(len(named) == 1 and named[0] != "", "which algorithms? Add +algo=NAME,NAME,...; `list` shows the names")
    shared = [word for word in words if not word.startswith("+algo=")]
    found: dict[str, RunConfig] = {}
    for choice in named[0].split(","):
        require(choice not in found, f"{choice} is named twice")
        parts = choice.split(":")
        settings = [part for part in parts if "=" in part]
        plugin = ":".join(part for part in parts if "=" not in part)  # FILE.py:CLASS has a colon of its own
        own = [f"algo.{setting}" for setting in settings]
        try:
            found[choice] = check_config(compose_config([f"+algo={plugin}", *shared, *own]))
        except BadInput as error:
            raise BadInput(f"{choice}: {error}" if own else str(error)) from None
    return found


def keep(found: Probe, folder: Path) -> Path:
    """Write `probe.json` into a folder that is named after what was probed; the same probe replaces itself.

    Raises:
        BadInput: the folder cannot be written.
    """
    conditions = [found.policy_state, found.task_version, found.settings, found.batches, found.held_out_batches]
    digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:10]
    record = open_record(folder, f"{found.task}-{found.policy}-s{found.seed}-{digest}")
    record.write_json("probe.json", found.as_json())
    return record.folder / "probe.json"


def render(found: Probe, console: Console) -> None:
    """Print a probe as text."""
    from benchmarks.checking.credit_rms import ELSEWHERE

    size = f"{found.problems_per_batch} problems x {found.group_size} rollouts"
    halves = "undefined" if found.held_out_halves is None else f"{found.held_out_halves:.2f}"
    for line in (
        f"{found.task}, {found.policy} at its starting weights ({found.policy_state}), seed {found.seed}; "
        f"{found.batches} batches of {size}, {found.wall_s:.0f} s",
        f"held-out gradient of P(solved) = {found.held_out_solved:.3f}: {found.held_out_batches} batches of other "
        f"train problems, {found.held_out_rollouts:,} rollouts; cosine of its halves {halves}",
        "± is one standard error, by jackknife over batches" + ("; gradients sketched" if found.sketched else ""),
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    names = list(found.algorithms)
    cosine = [["", "one batch", f"minus {names[0]}", "mean gradient", "no signal"]]
    for name, each in found.algorithms.items():
        minus = "" if each.cosine_minus_first is None else shown(each.cosine_minus_first, signed=True)
        cosine.append([name, shown(each.cosine), minus, shown(each.cosine_of_mean), shown(each.groups_without_signal)])
    pairs = [["", "one batch", "mean gradient"]]
    pairs += [[f"{p.first}  {p.second}", shown(p.cosine), shown(p.cosine_of_mean)] for p in found.pairs]
    rms: dict[str, list[str]] = {}
    for place, each in enumerate(found.algorithms.values()):
        figures = {"all action tokens": each.credit_rms}
        for span, figure in each.credit_rms_by_span.items():
            figures[span if span == ELSEWHERE else f"on {span}"] = figure
        figures |= {f"by {component}": figure for component, figure in each.credit_rms_by_component.items()}
        for row, figure in figures.items():
            rms.setdefault(row, [""] * len(names))[place] = shown(figure)
    parts = [["", *names], *alike(rms)]
    for title, rows in (
        ("cosine with the held-out gradient of P(solved), and share of groups without signal", cosine),
        ("cosine between algorithms, on the same batch", pairs),
        ("rms of credit: on the tokens that a component judges, and by what its weight changes", parts),
    ):
        if len(rows) > 1:
            console.print(f"\n{title}\n{aligned(rows)}", highlight=False, markup=False, soft_wrap=True)


def alike(rms: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Rows of a table by their titles; components that judge the same tokens share one."""
    titles: dict[tuple[str, ...], list[str]] = {}
    for title, cells in rms.items():
        kind = title if title.startswith("by ") else ""
        titles.setdefault((kind, *cells), []).append(title)
    return [[", ".join(own).replace(", on ", ", "), *cells] for (_, *cells), own in titles.items()]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )


def shown(figure: WithError, *, signed: bool = False) -> str:
    """A figure with its error, to three digits."""
    if figure.value is None:
        return "undefined"
    value = f"{figure.value:+.3f}" if signed else f"{figure.value:.3f}"
    return value if figure.error is None else f"{value} ± {figure.error:.3f}"
