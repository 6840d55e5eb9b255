"""The page's plots and its leaderboard as files for a paper: SVG and PNG, a Markdown and a LaTeX table.

The pictures are drawn by plotly's own script in a headless Chromium (package kaleido), from the figures that the page
draws, in the light theme's colours. Nothing is asked for on any network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.analysis.table import markdown, shown_cells
from benchmarks.report.axes import AXES
from benchmarks.report.claim_plots import claim_plot
from benchmarks.report.figures import figures
from benchmarks.report.gather import Results, gather
from benchmarks.report.overview import overview
from benchmarks.report.style import Figure, drawn
from tasks.errors import BadInput, require

WIDTH, HEIGHT = 900, 480
"""Of a picture, in pixels."""
FORMATS = {"svg": 1, "png": 2}
"""And how many times that each format has."""


def pictures(directory: Path, out: Path) -> str:
    """Write the pictures and tables of a results folder.

    Returns:
        What was written, in a line.

    Raises:
        BadInput: no such results folder, a folder that cannot be written, or no kaleido or Chromium to draw with.
    """
    try:
        import kaleido
        from choreographer.browsers.chromium import ChromeNotFoundError
    except ImportError:
        raise BadInput("--figures needs the package kaleido: pip install 'grpo-bench[figures]'") from None
    results = gather(directory)
    made = [(name, _finished(figure)) for name, figure in named_figures(results).items()]
    require(bool(made), f"{directory}: no complete run to draw")
    try:
        out.mkdir(parents=True, exist_ok=True)
        tables = {"leaderboard.md": markdown(_rows(results)), "leaderboard.tex": latex(results)}
        for name, text in tables.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--figures {out}: cannot write there ({error.strerror}); give a writable folder") from None
    jobs = [
        {
            "fig": figure,
            "path": str(out / f"{name}.{form}"),
            "opts": {
                "format": form,
                "width": WIDTH,
                "height": figure["layout"]["height"],
                "scale": scale,
            },
        }
        for name, figure in made
        for form, scale in FORMATS.items()
    ]
    try:
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False})
    except ChromeNotFoundError:
        raise BadInput("--figures: no Chromium or Chrome to draw with; apt-get install chromium") from None
    return f"{out}: {len(made)} pictures as {' and '.join(FORMATS)}, {' and '.join(tables)}"


def named_figures(results: Results) -> dict[str, Figure]:
    """Every plot of the page, by the name of its file without the ending."""
    found: dict[str, Figure] = {}
    for setting in results.settings:
        for name, figure in figures(setting, results).items():
            found[_free(found, [*setting.names, name])] = figure
    for (policy, budget), answers in results.claims.items():
        for name, figure in overview(policy, budget, results).items():
            found[_free(found, [policy, budget, name])] = figure
        for answer in answers:
            if (figure := claim_plot(answer))["data"]:
                found[_free(found, [policy, budget, "claim", answer.claim])] = figure
    return found


def _free(taken: dict[str, Figure], parts: list[str]) -> str:
    """A file's name from names that may hold anything; numbered where two become one."""
    name = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part)[:60] for part in parts).lstrip(".")
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _finished(figure: Figure) -> dict[str, Any]:
    axis = next((axis for axis in AXES if axis in figure["axes"]), "")
    made = drawn(figure, axis=axis, log=False, theme="light")
    made["layout"] |= {"paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff", "height": figure.get("height", HEIGHT)}
    return made


def _rows(results: Results) -> list[dict[str, Any]]:
    return [experiment.row for setting in results.settings for experiment in setting.experiments]


def latex(results: Results) -> str:
    """The leaderboard for LaTeX with booktabs: the best in bold, a dagger where one is not told from it."""
    import pandas as pd

    standings = [experiment.standing for setting in results.settings for experiment in setting.experiments]
    table = pd.DataFrame(shown_cells(_rows(results)))
    accuracy = "accuracy [95 %]"
    marks = {"best": "font-weight: bold;"}

    def style(column: pd.Series[str]) -> list[str]:
        return [marks.get(standing, "") if column.name == accuracy else "" for standing in standings]

    table[accuracy] = [
        f"{text} †" if standing == "tied" else text for text, standing in zip(table[accuracy], standings, strict=True)
    ]
    styled = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1).apply(style)
    text: str = styled.to_latex(hrules=True, convert_css=True)
    # LaTeX has no dagger of its own in text.
    return text.replace("†", r"$^\dagger$").replace("–", "--")
