"""How a plot looks, and what it leaves open: the page and the pictures draw the same figures in the same colours.

A figure is plotly's data and layout as plain values. It leaves three things open, which `drawn` (and the page's script,
in the same way) fills in: the cost axis (a trace's `by_axis` holds, per axis in the figure's `axes`, what it has
there), its scale, and the theme's colours (`$0`, `$1`, ... are the algorithms', `$0-band` the same, see-through;
`$ink`, `$faint`, `$grid`, `$paper` the theme's). `note`, where there is one, stands below the plot: a text, or one per
axis; `height` is in pixels; `multiples` are small plots, which a narrow page puts under each other.
"""

from __future__ import annotations

import html
import json
from typing import Any

from benchmarks.analysis.experiments import Experiment
from benchmarks.report.axes import AXES
from benchmarks.report.gather import Results
from benchmarks.wording import one_line

LIGHT = (
    *("#0072b2", "#c24e00", "#007a5a", "#a93f79", "#8a6100", "#008b9e", "#6a4fb3", "#4d4d4d"),
    *("#cc1f3b", "#5f8000"),
)
DARK = (
    *("#56b4e9", "#ff9f4a", "#33c79a", "#ec9fcb", "#f0c94a", "#5fe0e6", "#b9a3f5", "#c8c8c8"),
    *("#ff7d85", "#b5d94c"),
)
"""After Okabe and Ito (2008), which colour-blind people can tell apart, and two more; darkened and lightened until
every one stands out from its background by 3:1. The markers, and on curves the dashes, tell apart what looks alike."""
THEMES: dict[str, dict[str, str]] = {
    "light": {"$ink": "#1b1f24", "$faint": "#57606a", "$grid": "#dde1e6", "$paper": "#ffffff"},
    "dark": {"$ink": "#e6e8eb", "$faint": "#a3abb5", "$grid": "#343b44", "$paper": "#14181d"},
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "cross", "triangle-up", "triangle-down", "star", "x")
Figure = dict[str, Any]


def palette(theme: str) -> dict[str, str]:
    """What each placeholder stands for."""
    colours = LIGHT if theme == "light" else DARK
    named = {f"${number}": colour for number, colour in enumerate(colours)}
    return {**THEMES[theme], **{f"{name}-band": _see_through(colour) for name, colour in named.items()}, **named}


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.2)"


def plain(text: str) -> str:
    """A name in a place where plotly would take `<b>` for markup."""
    return html.escape(one_line(text), quote=False)


def named_trace(experiment: Experiment) -> dict[str, Any]:
    """What every trace of an experiment has."""
    name = plain(experiment.label)
    # plotly looks groups up in a plain object, where `__proto__`, as a name, would find what is no group.
    return {
        "type": "scatter",
        "name": name,
        "legendgroup": f"group {name}",
        "hovertemplate": f"{name}: %{{y}}<extra></extra>",
    }


def look_of(experiment: Experiment, results: Results) -> dict[str, str]:
    """Colour, dash and marker of an experiment's algorithm, the same in every plot."""
    place = results.algorithms.index(experiment.row["algo"])
    return {
        "color": f"${place % len(LIGHT)}",
        "dash": DASHES[place % len(DASHES)],
        "symbol": MARKERS[place % len(MARKERS)],
    }


def base_axis() -> dict[str, Any]:
    """What every axis has."""
    return {"gridcolor": "$grid", "zerolinecolor": "$grid", "linecolor": "$faint", "automargin": True}


def axis_title(text: str) -> dict[str, Any]:
    """An axis's title, no larger than what stands along the axis, and close to it."""
    return {"text": text, "font": {"size": 13}, "standoff": 8}


def base_layout(y: str, percent: bool = False) -> dict[str, Any]:
    """What every layout has; `y` labels the vertical axis."""
    return {
        "font": {"color": "$ink", "family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 50, "r": 12, "t": 24, "b": 48},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        "hovermode": "closest",
        "hoverlabel": {"namelength": 60},
        "yaxis": {**base_axis(), "title": axis_title(y), **({"tickformat": ".0%"} if percent else {})},
    }


def drawn(figure: Figure, *, axis: str, log: bool, theme: str) -> dict[str, Any]:
    """The figure as plotly takes it: {data, layout}.

    Raises:
        ValueError: a figure over costs, and no such cost was measured.
    """
    if figure["axes"] and axis not in figure["axes"]:
        raise ValueError(f"axis {axis!r}: there are {', '.join(figure['axes'])}")
    text = json.dumps({"data": figure["data"], "layout": figure["layout"]})
    # A placeholder is a whole string in its quotes: nothing else is mistaken for one.
    for name, colour in palette(theme).items():
        text = text.replace(f'"{name}"', f'"{colour}"')
    made: dict[str, Any] = json.loads(text)
    if not figure["axes"]:
        return made
    for trace in made["data"]:
        trace |= trace.pop("by_axis", {}).get(axis, {})
    title = figure.get("axis_title", "{axis}").replace("{axis}", AXES[axis])
    scale = {"type": "log" if log else "linear", "title": axis_title(title), "exponentformat": "power"}
    for name, value in made["layout"].items():
        if name.startswith("xaxis"):
            value |= scale
    return made
