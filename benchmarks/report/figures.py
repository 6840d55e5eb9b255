"""What the report plots of one setting, as figures in the sense of `benchmarks.report.style`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.analysis.claim_tests import EQUAL_COST
from benchmarks.analysis.experiments import Experiment
from benchmarks.report.axes import AXES, shared_axes
from benchmarks.report.gather import FRONT_DRAWS, Results, Setting
from benchmarks.report.style import Figure, axis_title, base_axis, base_layout, look_of, named_trace, plain
from benchmarks.report.targets import profile, targets
from benchmarks.wording import one_line

PHASES = ("rollout", "score", "update", "reflect", "other", "evaluate", "warmstart")


def figures(setting: Setting, results: Results) -> dict[str, Figure]:
    """The plots of one setting, by name; those that have nothing to show are left out."""
    made = {
        "curves": curves(setting, results),
        "pareto": pareto(setting, results),
        "targets": targets(setting, results),
        "profile": profile(setting, results),
        "components": components(setting, results),
        "phases": phases(setting),
    }
    return {name: figure for name, figure in made.items() if figure["data"]}


def curves(setting: Setting, results: Results) -> Figure:
    """Share of val problems solved over the cost so far; the band spans the seeds."""
    axes = shared_axes(_all_curves(setting))
    data = [trace for experiment in setting.plotted for trace in learning_curve(experiment, "solved", axes, results)]
    layout = {**base_layout("accuracy on val problems", percent=True), "xaxis": base_axis()}
    return {"data": data, "layout": layout, "axes": axes}


def _all_curves(setting: Setting) -> list[list[dict[str, float]]]:
    return [curve for experiment in setting.plotted for curve in experiment.curves().values()]


def components(setting: Setting, results: Results) -> Figure:
    """Every reward component over the cost so far, one small plot each."""
    axes = shared_axes(_all_curves(setting))
    points = [point for curve in _all_curves(setting) for point in curve]
    names = [name for name in (points[0] if points else ()) if name.startswith("reward/")]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {**base_layout(""), "legend": {"orientation": "h", "y": 0, "yanchor": "top"}}
    for number, name in enumerate(names, 1):
        mark = "" if number == 1 else str(number)
        row, column = divmod(number - 1, 3)
        rows = (len(names) + 2) // 3
        across = [column / 3 + 0.02, (column + 1) / 3 - 0.03]
        up = [1 - (row + 0.74) / rows, 1 - (row + 0.08) / rows]
        layout[f"xaxis{mark}"] = {**base_axis(), "domain": across, "anchor": f"y{mark}"}
        layout[f"yaxis{mark}"] = {**base_axis(), "domain": up, "anchor": f"x{mark}", "tickformat": ".2f"}
        title = {"text": plain(name.removeprefix("reward/")), "x": across[0], "y": up[1], "xref": "paper"}
        look = {"yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"color": "$ink"}}
        layout.setdefault("annotations", []).append({**title, **look})
        for experiment in setting.plotted:
            for trace in learning_curve(experiment, name, axes, results):
                shown = trace.get("showlegend", True) and number == 1
                data.append({**trace, "xaxis": f"x{mark}", "yaxis": f"y{mark}", "showlegend": shown})
    return {
        "data": data,
        "layout": layout,
        "axes": axes,
        "height": 130 + 230 * ((len(names) + 2) // 3),
        "multiples": True,
    }


def pareto(setting: Setting, results: Results) -> Figure:
    """Test accuracy over what a run spent in all: bars are the 95 % interval, and the range over the seeds."""
    axes = [name for name in AXES if setting.plotted and all(e.totals(name) for e in setting.plotted)]
    data = []
    for experiment in setting.plotted:
        spent = {name: experiment.totals(name) or [] for name in axes}
        mean = {name: sum(values) / len(values) for name, values in spent.items()}
        row, look = experiment.row, look_of(experiment, results)
        accuracy = row["accuracy_final"]
        data.append(
            {
                **named_trace(experiment),
                "mode": "markers",
                "marker": {"color": look["color"], "symbol": look["symbol"], "size": 11},
                "y": [accuracy],
                "error_y": {
                    **{"type": "data", "symmetric": False, "array": [row["accuracy_ci_high"] - accuracy]},
                    **{"arrayminus": [accuracy - row["accuracy_ci_low"]], "color": look["color"], "thickness": 1.5},
                },
                "by_axis": {
                    name: {
                        "x": [mean[name]],
                        "error_x": {
                            **{"type": "data", "symmetric": False, "color": look["color"], "thickness": 1.5},
                            **{"array": [max(spent[name]) - mean[name]], "arrayminus": [mean[name] - min(spent[name])]},
                        },
                    }
                    for name in axes
                },
            }
        )
    fronts = {name: _front([(trace["by_axis"][name]["x"][0], trace["y"][0]) for trace in data]) for name in axes}
    if len(data) > 1:
        front = {"type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip", "by_axis": fronts}
        data.insert(0, {**front, "line": {"color": "$faint", "dash": "dot", "width": 1.5, "shape": "hv"}})
    return {
        "data": data if axes else [],
        "layout": {**base_layout("accuracy on test problems", percent=True), "xaxis": base_axis()},
        "axes": axes,
        "note": {name: _spread(setting, name) + _chances(setting, name) for name in axes if len(setting.plotted) > 1},
    }


def _spread(setting: Setting, axis: str) -> str:
    """What to do where all points stand above each other."""
    means = [sum(found) / len(found) for e in setting.plotted if (found := e.totals(axis)) and sum(found)]
    alike = len(means) > 1 and max(means) <= EQUAL_COST * min(means)
    return "All that trained spent nearly the same here: another cost axis, above, tells them apart. " if alike else ""


def _chances(setting: Setting, axis: str) -> str:
    chances = sorted(zip(setting.front[axis], setting.plotted, strict=True), key=lambda pair: -pair[0])
    named = ", ".join(f"{one_line(experiment.label)} {100 * chance:.0f} %" for chance, experiment in chances)
    return f"Chance of being on the front, from {FRONT_DRAWS:,} joint draws of problems and seeds: {named}."


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
        experiment.label: [
            run.summary["phases"] for run in experiment.complete if isinstance(run.summary["phases"], dict)
        ]
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
    layout = {**base_layout(""), "barmode": "stack"}
    layout["legend"] |= {"traceorder": "normal"}  # As the bars are, not from the last to the first.
    layout["xaxis"] = {**base_axis(), "title": axis_title("seconds of a run")}
    layout["yaxis"] = {**base_axis(), "automargin": True, "gridcolor": "rgba(0,0,0,0)"}
    return {"data": data, "layout": layout, "axes": [], "height": 150 + 34 * len(labels)}


def _mean(values: Sequence[float]) -> float:
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else 0.0


def learning_curve(experiment: Experiment, metric: str, axes: Sequence[str], results: Results) -> list[dict[str, Any]]:
    """The mean over the seeds, and a band from the lowest to the highest where there are several."""
    # A run that stopped early has fewer points; past the shortest, the mean would be over other seeds.
    steps = list(zip(*experiment.curves().values(), strict=False))
    steps = [points for points in steps if all(point.get(metric) is not None for point in points)]
    if not steps or not axes:
        return []
    costs = {name: [_mean([point[f"spent/{name}"] for point in points]) for points in steps] for name in axes}
    values = [[point[metric] for point in points] for points in steps]
    look = look_of(experiment, results)
    line = {
        **named_trace(experiment),
        "mode": "lines+markers",
        "line": {"color": look["color"], "dash": look["dash"], "width": 2},
        "marker": {"color": look["color"], "symbol": look["symbol"], "size": 7},
        "by_axis": {name: {"x": numbers} for name, numbers in costs.items()},
        "y": [_mean(found) for found in values],
    }
    band = {
        **{"type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip", "showlegend": False},
        **{"legendgroup": line["legendgroup"], "line": {"width": 0}, "fillcolor": f"{look['color']}-band"},
        "by_axis": {name: {"x": numbers + numbers[::-1]} for name, numbers in costs.items()},
        "y": [max(found) for found in values] + [min(found) for found in values][::-1],
    }
    return [band, line] if len(values[0]) > 1 else [line]
