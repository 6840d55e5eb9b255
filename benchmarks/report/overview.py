"""What all tasks of one policy and budget show side by side: who gained how much, how surely, and on the way there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from benchmarks.analysis.experiments import Experiment
from benchmarks.report.axes import shared_axes
from benchmarks.report.figures import learning_curve
from benchmarks.report.gather import Results, Setting
from benchmarks.report.style import Figure, axis_title, base_axis, base_layout, look_of, plain

ACROSS = 3
"""Small plots in a row, and"""
GAP = 0.06
"""what lies between two, as a share of the whole: room for what stands along an axis."""


def overview(policy: str, budget: str, results: Results) -> dict[str, Figure]:
    """The plots of one policy and budget, by name; those that have nothing to show are left out."""
    tasks = [each for each in results.settings if each.names[1:] == (policy, budget) and each.plotted]
    made = {"gains": gains(tasks, results), "progress": progress(tasks, results)}
    return {name: figure for name, figure in made.items() if figure["data"]}


def gains(tasks: Sequence[Setting], results: Results) -> Figure:
    """Each algorithm's gain over the untouched policy with its 95 % interval, one small plot a task."""
    found: dict[str, list[float]] = {}
    shown = {id(setting): [e for e in setting.plotted if e.row["gain"] is not None] for setting in tasks}
    for experiment in (e for each in shown.values() for e in each):
        found.setdefault(experiment.row["algo"], []).append(experiment.row["gain"])
    # The same order in all, so that a row can be followed from task to task.
    algorithms = sorted(found, key=lambda algo: fmean(found[algo]))
    labels = [f"{plain(algo)} " for algo in algorithms]
    ends = [100 * e.row[key] for es in shown.values() for e in es for key in ("gain_ci_low", "gain_ci_high")]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    space = 0.06 * ((high - low) or 1.0)
    data: list[dict[str, Any]] = []
    layout = {**base_layout(""), "showlegend": False}
    for setting, mark, column, x_axis, y_axis in _small_plots(tasks, layout):
        x_axis |= {"range": [low - space, high + space], "zerolinecolor": "$faint", "zerolinewidth": 1.5}
        x_axis |= {"title": axis_title("points gained")}
        y_axis |= {"type": "category", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
        y_axis |= {"tickvals": labels, "showticklabels": column == 0}
        data += [_gain(experiment, results, mark) for experiment in shown[id(setting)]]
    note = (
        "Filled marks: the best of its task, and what cannot be told apart from it (the interval of the paired "
        "difference, simultaneous for all pairs of the task, holds 0). Hollow marks: behind the best. Seeds: "
        + "; ".join(f"{plain(setting.names[0])} {_seeds(setting)}" for setting in tasks)
        + "."
    )
    height = 90 + (60 + 26 * len(labels)) * -(-len(tasks) // ACROSS)
    return {
        "data": data,
        "layout": layout,
        "axes": [],
        "height": height,
        "multiples": True,
        "small": 22 * len(labels),
        "note": note,
    }


def _gain(experiment: Experiment, results: Results, mark: str) -> dict[str, Any]:
    row, look = experiment.row, look_of(experiment, results)
    gain, low, high = (100 * row[key] for key in ("gain", "gain_ci_low", "gain_ci_high"))
    bar = {"type": "data", "symmetric": False, "array": [high - gain], "arrayminus": [gain - low]}
    hollow = "-open" if experiment.standing == "behind" else ""
    name = plain(experiment.label)
    seeds = len(experiment.complete)
    told = f"{name}: {gain:+.1f} [{low:+.1f}, {high:+.1f}] points, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    return {
        **{"type": "scatter", "mode": "markers", "x": [gain], "y": [f"{plain(row['algo'])} "], "name": name},
        **{"xaxis": f"x{mark}", "yaxis": f"y{mark}", "error_x": {**bar, "color": look["color"], "thickness": 2}},
        "marker": {
            "color": look["color"],
            "symbol": look["symbol"] + hollow,
            "size": 10,
            "line": {"color": look["color"], "width": 2 if hollow else 0},
        },
        "hovertemplate": f"{told}<extra></extra>",
    }


def _seeds(setting: Setting) -> str:
    counts = [len(experiment.complete) for experiment in setting.plotted]
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def progress(tasks: Sequence[Setting], results: Results) -> Figure:
    """Share of val problems solved over the cost so far, mean over seeds, one small plot a task."""
    axes = shared_axes(curve for setting in tasks for e in setting.plotted for curve in e.curves().values())
    data: list[dict[str, Any]] = []
    layout = {**base_layout(""), "legend": {"orientation": "h", "y": -0.24, "yanchor": "top"}}
    shown: set[str] = set()
    for setting, mark, column, x_axis, y_axis in _small_plots(tasks, layout):
        x_axis |= {"nticks": 4}
        y_axis |= {"tickformat": ".0%"} | ({"title": axis_title("val problems solved")} if column == 0 else {})
        for experiment in setting.plotted:
            # Bands of eight algorithms would hide each other here; the setting's own plot has them.
            for trace in learning_curve(experiment, "solved", axes, results)[-1:]:
                algo = plain(experiment.row["algo"])
                about = {"name": algo, "legendgroup": f"group {algo}", "showlegend": algo not in shown}
                data.append({**trace, **about, "xaxis": f"x{mark}", "yaxis": f"y{mark}"})
                shown.add(algo)
    height = 140 + 260 * -(-len(tasks) // ACROSS)
    return {"data": data, "layout": layout, "axes": axes, "height": height, "multiples": True}


def _small_plots(
    tasks: Sequence[Setting], layout: dict[str, Any]
) -> Iterator[tuple[Setting, str, int, dict[str, Any], dict[str, Any]]]:
    """Put axes and a title for each task into the layout.

    Yields:
        The task's setting, plotly's number of its axes, its column, and both axes.
    """
    across, rows = min(ACROSS, len(tasks)), -(-len(tasks) // ACROSS)
    width = (1 - (across - 1) * GAP) / max(across, 1)
    layout["annotations"] = []
    for place, setting in enumerate(tasks):
        mark = "" if place == 0 else str(place + 1)
        row, column = divmod(place, ACROSS)
        ends = [column * (width + GAP), column * (width + GAP) + width]
        up = [1 - (row + 0.74) / rows, 1 - (row + 0.06) / rows] if rows > 1 else [0.0, 0.94]
        x_axis = layout[f"xaxis{mark}"] = {**base_axis(), "domain": ends, "anchor": f"y{mark}"}
        y_axis = layout[f"yaxis{mark}"] = {**base_axis(), "domain": up, "anchor": f"x{mark}"}
        title = {
            "text": f"<b>{plain(setting.names[0])}</b>",
            "x": ends[0],
            "y": up[1],
            "xref": "paper",
            "yref": "paper",
        }
        look = {"xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"color": "$ink"}}
        layout["annotations"].append({**title, **look})
        yield setting, mark, column, x_axis, y_axis
