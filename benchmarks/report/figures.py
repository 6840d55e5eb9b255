"""What the report plots, as plotly figures in plain values: the page and the pictures draw from the same ones.

A figure leaves three things open, which `drawn` (and the page's script, in the same way) fills in: the cost axis (a
trace's `costs` holds one list of numbers per axis), its scale, and the theme's colours (`$0`, `$1`, ... are the
algorithms', `$0-band` the same, see-through; `$ink`, `$faint` and `$grid` the theme's).
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.gather import AXES, Experiment, Results, Setting
from benchmarks.wording import one_line

LIGHT = ("#0072b2", "#c24e00", "#007a5a", "#a93f79", "#8a6100", "#3b7ea1", "#6a4fb3", "#4d4d4d")
DARK = ("#56b4e9", "#ff9f4a", "#33c79a", "#ec9fcb", "#f0c94a", "#9ad0ee", "#b9a3f5", "#c8c8c8")
"""After Okabe and Ito (2008), which colour-blind people can tell apart; darkened and lightened until every one stands
out from its background by 3:1. Beyond eight algorithms the dashes and the markers tell them apart."""
THEMES: dict[str, dict[str, str]] = {
    "light": {"$ink": "#1b1f24", "$faint": "#57606a", "$grid": "#dde1e6", "$paper": "#ffffff"},
    "dark": {"$ink": "#e6e8eb", "$faint": "#a3abb5", "$grid": "#343b44", "$paper": "#14181d"},
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "cross", "triangle-up", "triangle-down", "star", "x")
PHASES = ("rollout", "score", "update", "reflect", "other", "evaluate")
Figure = dict[str, Any]


def palette(theme: str) -> dict[str, str]:
    """What each placeholder stands for."""
    colours = LIGHT if theme == "light" else DARK
    named = {f"${number}": colour for number, colour in enumerate(colours)}
    return {**THEMES[theme], **{f"{name}-band": _see_through(colour) for name, colour in named.items()}, **named}


def _see_through(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.2)"


def figures(setting: Setting, results: Results) -> dict[str, Figure]:
    """The plots of one setting, by name; those that have nothing to show are left out."""
    made = {
        "curves": curves(setting, results),
        "pareto": pareto(setting, results),
        "components": components(setting, results),
        "phases": phases(setting),
    }
    return {name: figure for name, figure in made.items() if figure["data"]}


def plain(text: str) -> str:
    """A name in a place where plotly would take `<b>` for markup."""
    return html.escape(one_line(text), quote=False)


def axes_of(experiments: Sequence[Experiment]) -> list[str]:
    """The costs that every learning curve was measured over."""
    points = [point for experiment in experiments for curve in experiment.curves() for point in curve]
    return [name for name in AXES if points and all(point.get(f"spent/{name}") is not None for point in points)]


def curves(setting: Setting, results: Results) -> Figure:
    """Share of val problems solved over the cost so far; the band spans the seeds."""
    axes = axes_of(setting.plotted)
    data = [trace for experiment in setting.plotted for trace in _curve(experiment, "solved", axes, results)]
    layout = {**_layout("accuracy on val problems", percent=True), "xaxis": _axis()}
    return {"data": data, "layout": layout, "axes": axes}


def components(setting: Setting, results: Results) -> Figure:
    """Every reward component over the cost so far, one small plot each."""
    axes = axes_of(setting.plotted)
    points = [point for experiment in setting.plotted for curve in experiment.curves() for point in curve]
    names = [name for name in (points[0] if points else ()) if name.startswith("reward/")]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {**_layout(""), "legend": {"orientation": "h", "y": 0, "yanchor": "top"}}
    for number, name in enumerate(names, 1):
        mark = "" if number == 1 else str(number)
        row, column = divmod(number - 1, 3)
        rows = (len(names) + 2) // 3
        across = [column / 3 + 0.02, (column + 1) / 3 - 0.03]
        up = [1 - (row + 0.74) / rows, 1 - (row + 0.08) / rows]
        layout[f"xaxis{mark}"] = {**_axis(), "domain": across, "anchor": f"y{mark}"}
        layout[f"yaxis{mark}"] = {**_axis(), "domain": up, "anchor": f"x{mark}", "tickformat": ".2f"}
        title = {"text": plain(name.removeprefix("reward/")), "x": across[0], "y": up[1], "xref": "paper"}
        look = {"yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"color": "$ink"}}
        layout.setdefault("annotations", []).append({**title, **look})
        for experiment in setting.plotted:
            for trace in _curve(experiment, name, axes, results):
                shown = trace.get("showlegend", True) and number == 1
                data.append({**trace, "xaxis": f"x{mark}", "yaxis": f"y{mark}", "showlegend": shown})
    return {"data": data, "layout": layout, "axes": axes, "rows": (len(names) + 2) // 3}


def pareto(setting: Setting, results: Results) -> Figure:
    """Test accuracy over what a run spent in all: bars are the 95 % interval, and the range over the seeds."""
    axes = [name for name in AXES if setting.plotted and all(e.totals(name) for e in setting.plotted)]
    data = []
    for experiment in setting.plotted:
        spent = {name: experiment.totals(name) or [] for name in axes}
        mean = {name: sum(values) / len(values) for name, values in spent.items()}
        row, look = experiment.row, _look(experiment, results)
        accuracy = row["accuracy_final"]
        data.append(
            {
                **_named(experiment),
                "mode": "markers",
                "marker": {"color": look["color"], "symbol": look["symbol"], "size": 11},
                "costs": {name: [mean[name]] for name in axes},
                "y": [accuracy],
                "error_y": {
                    **{"type": "data", "symmetric": False, "array": [row["accuracy_ci_high"] - accuracy]},
                    **{"arrayminus": [accuracy - row["accuracy_ci_low"]], "color": look["color"], "thickness": 1.5},
                },
                "error_x": {"type": "data", "symmetric": False, "color": look["color"], "thickness": 1.5},
                "error_costs": {
                    name: {"array": [max(spent[name]) - mean[name]], "arrayminus": [mean[name] - min(spent[name])]}
                    for name in axes
                },
            }
        )
    fronts = {name: _front([(trace["costs"][name][0], trace["y"][0]) for trace in data]) for name in axes}
    if len(data) > 1:
        front = {"type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip", "front": fronts}
        data.insert(0, {**front, "line": {"color": "$faint", "dash": "dot", "width": 1.5, "shape": "hv"}})
    return {
        "data": data if axes else [],
        "layout": {**_layout("accuracy on test problems", percent=True), "xaxis": _axis()},
        "axes": axes,
    }


def _front(points: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    """The points that no other beats in both, from cheap to dear."""
    best: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or accuracy > best[-1][1]:
            best.append((cost, accuracy))
    return {"x": [cost for cost, _ in best], "y": [accuracy for _, accuracy in best]}


def phases(setting: Setting) -> Figure:
    """Where the wall time of a run went, averaged over the seeds."""
    # The blank keeps the label off the axis, and a name such as `__proto__` from being a property of plotly's objects.
    labels = [f"{plain(experiment.label)} " for experiment in setting.plotted][::-1]
    spent = {
        experiment.label: [run.about["phases"] for run in experiment.complete if isinstance(run.about["phases"], dict)]
        for experiment in setting.plotted
    }
    data = []
    for number, phase in enumerate(PHASES):
        means = [_mean([found.get(phase, 0.0) for found in spent[e.label]]) for e in setting.plotted][::-1]
        if any(means):
            pattern = {"shape": "/", "solidity": 0.25} if phase == "evaluate" else {}
            name = "evaluate (not charged)" if phase == "evaluate" else phase
            marker = {"color": f"${number}", "pattern": pattern}
            bars = {"type": "bar", "orientation": "h", "y": labels, "x": means, "name": name, "marker": marker}
            data.append({**bars, "hovertemplate": "%{y}: %{x:.1f} s %{fullData.name}<extra></extra>"})
    layout = {**_layout(""), "barmode": "stack"}
    layout["xaxis"] = {**_axis(), "title": {"text": "seconds of a run"}}
    layout["yaxis"] = {**_axis(), "automargin": True, "gridcolor": "rgba(0,0,0,0)"}
    return {"data": data, "layout": layout, "axes": [], "bars": len(labels)}


def _mean(values: Sequence[float]) -> float:
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else 0.0


def _curve(experiment: Experiment, metric: str, axes: Sequence[str], results: Results) -> list[dict[str, Any]]:
    """The mean over the seeds, and a band from the lowest to the highest where there are several."""
    # A run that stopped early has fewer points; past the shortest, the mean would be over other seeds.
    steps = list(zip(*experiment.curves(), strict=False))
    steps = [points for points in steps if all(point.get(metric) is not None for point in points)]
    if not steps or not axes:
        return []
    costs = {name: [_mean([point[f"spent/{name}"] for point in points]) for points in steps] for name in axes}
    values = [[point[metric] for point in points] for points in steps]
    look = _look(experiment, results)
    line = {
        **_named(experiment),
        "mode": "lines+markers",
        "line": {"color": look["color"], "dash": look["dash"], "width": 2},
        "marker": {"color": look["color"], "symbol": look["symbol"], "size": 7},
        "costs": costs,
        "y": [_mean(found) for found in values],
    }
    band = {
        **{"type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip", "showlegend": False},
        **{"legendgroup": line["legendgroup"], "line": {"width": 0}, "fillcolor": f"{look['color']}-band"},
        "costs": {name: numbers + numbers[::-1] for name, numbers in costs.items()},
        "y": [max(found) for found in values] + [min(found) for found in values][::-1],
    }
    return [band, line] if len(values[0]) > 1 else [line]


def _named(experiment: Experiment) -> dict[str, Any]:
    name = plain(experiment.label)
    # plotly looks groups up in a plain object, where `__proto__`, as a name, would find what is no group.
    return {
        "type": "scatter",
        "name": name,
        "legendgroup": f"group {name}",
        "hovertemplate": f"{name}: %{{y}}<extra></extra>",
    }


def _look(experiment: Experiment, results: Results) -> dict[str, str]:
    place = results.algorithms.index(experiment.row["algo"])
    return {
        "color": f"${place % len(LIGHT)}",
        "dash": DASHES[place % len(DASHES)],
        "symbol": MARKERS[place % len(MARKERS)],
    }


def _axis() -> dict[str, Any]:
    return {"gridcolor": "$grid", "zerolinecolor": "$grid", "linecolor": "$faint", "automargin": True}


def _layout(y: str, percent: bool = False) -> dict[str, Any]:
    return {
        "font": {"color": "$ink", "family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 50, "r": 12, "t": 24, "b": 48},
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top"},
        "hovermode": "closest",
        "hoverlabel": {"namelength": 60},
        "yaxis": {**_axis(), "title": {"text": y}, **({"tickformat": ".0%"} if percent else {})},
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
        if "costs" in trace:
            trace["x"] = trace.pop("costs")[axis]
        if "error_costs" in trace:
            trace["error_x"] |= trace.pop("error_costs")[axis]
        if "front" in trace:
            trace |= trace.pop("front")[axis]
    for name, value in made["layout"].items():
        if name.startswith("xaxis"):
            value |= _scale(axis, log)
    return made


def _scale(axis: str, log: bool) -> Mapping[str, Any]:
    return {"type": "log" if log else "linear", "title": {"text": AXES[axis]}, "exponentformat": "power"}
