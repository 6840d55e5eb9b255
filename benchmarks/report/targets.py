"""Plots of what the halfway target cost: bars per algorithm, and performance profiles over tasks and seeds."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from benchmarks.report.gather import Results, Setting
from benchmarks.report.style import Figure, base_axis, base_layout, look_of, named_trace, plain
from benchmarks.wording import one_line

NOTHING: Figure = {"data": [], "layout": {}, "axes": []}


def targets(setting: Setting, results: Results) -> Figure:
    """Bars: the median over the seeds; dots: each seed that got there."""
    reached = setting.reached
    if reached is None:
        return NOTHING
    data: list[dict[str, Any]] = []
    labels = []
    for experiment in setting.plotted[::-1]:
        costs = reached.costs[experiment.label]
        paid = {axis: [cost for cost in by_seed.values() if math.isfinite(cost)] for axis, by_seed in costs.items()}
        middles = {axis: median(by_seed.values()) for axis, by_seed in costs.items()}
        count = len(paid[reached.axes[0]])
        label = f"{plain(experiment.label)}, {count} of {len(experiment.complete)} "
        labels.append(label)
        look = look_of(experiment, results)
        common = {key: value for key, value in named_trace(experiment).items() if key in ("name", "legendgroup")}
        bar = {**common, "type": "bar", "orientation": "h", "y": [label], "marker": {"color": look["color"]}}
        bar["by_axis"] = {axis: {"x": [cost if math.isfinite(cost) else None]} for axis, cost in middles.items()}
        dots = {**common, "type": "scatter", "mode": "markers", "y": [label] * count}
        dots["marker"] = {"color": "$paper", "size": 8, "symbol": look["symbol"]}
        dots["marker"]["line"] = {"color": "$ink", "width": 1.5}
        dots["by_axis"] = {axis: {"x": numbers} for axis, numbers in paid.items()}
        data += [bar, dots]
    layout = {**base_layout(""), "xaxis": {**base_axis(), "rangemode": "tozero"}, "barmode": "overlay"}
    # Every name, also of those without a bar, from best to worst.
    order = {"type": "category", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
    layout |= {"showlegend": False, "yaxis": {**base_axis(), "gridcolor": "rgba(0,0,0,0)", **order}}
    note = (
        f"Target: {100 * reached.target:.1f} % of the val problems, halfway from the untouched policy "
        f"({100 * reached.start:.1f} %) to the best final mean ({100 * reached.best:.1f} %). Beside each name stands "
        "how many of its seeds got there; there is no bar where half of them or more did not."
    )
    about = {"axis_title": "{axis} to the target", "note": note}
    return {"data": data, "layout": layout, "axes": reached.axes, "height": 150 + 34 * len(labels), **about}


def profile(setting: Setting, results: Results) -> Figure:
    """For each algorithm, on how many workloads it needs at most so many times the cheapest one's cost.

    A workload is a task and a seed, at this setting's policy and budget; each task has its own target.
    """
    alike = [each for each in results.settings if each.names[1:] == setting.names[1:]]
    group = [(each, each.reached) for each in alike if each.reached]
    labels = [{experiment.row["algo"]: experiment.label for experiment in each.plotted} for each, _ in group]
    shared = [e for e in setting.plotted if group and all(e.row["algo"] in found for found in labels)]
    axes = [axis for axis in (group[0][1].axes if group else ()) if all(axis in reached.axes for _, reached in group)]
    if len(shared) < 2 or not axes:
        return NOTHING
    import numpy as np
    import pandas as pd

    from benchmarks.analysis.efficiency import performance_profile

    shares = {}
    for axis in axes:
        columns: dict[str, dict[tuple[str, int], float]] = {experiment.label: {} for experiment in shared}
        for (each, reached), found in zip(group, labels, strict=True):
            for experiment in shared:
                paid = reached.costs[found[experiment.row["algo"]]][axis]
                columns[experiment.label] |= {(each.names[0], seed): cost for seed, cost in paid.items()}
        workloads = pd.DataFrame(columns).dropna()  # those seeds that all have
        with np.errstate(invalid="ignore"):
            ratios = workloads.div(workloads.min(axis=1), axis=0).to_numpy()
        taus = sorted({1.0, *map(float, ratios[np.isfinite(ratios)])})
        taus.append(taus[-1] * 1.1)
        shares[axis] = (taus, performance_profile(workloads, taus))
    if workloads.empty:
        return NOTHING
    data = []
    for experiment in shared:
        look = look_of(experiment, results)
        line = {"color": look["color"], "dash": look["dash"], "width": 2, "shape": "hv"}
        by_axis = {axis: {"x": taus, "y": list(table[experiment.label])} for axis, (taus, table) in shares.items()}
        data.append({**named_trace(experiment), "mode": "lines", "line": line, "by_axis": by_axis})
    layout = {**base_layout("share of workloads", percent=True), "xaxis": base_axis()}
    layout["yaxis"]["range"] = [-0.02, 1.02]
    left_out = [experiment.label for experiment in setting.plotted if experiment not in shared]
    note = (
        f"{len(workloads)} workloads: {', '.join(one_line(each.names[0]) for each, _ in group)}, with the seeds that "
        "all have. At 1 stands how often an algorithm was the cheapest to the target, at the right how often it got "
        "there at all. So few workloads prove no order: the paired tests do."
        + (f" Not on every task, so left out: {one_line(', '.join(left_out))}." if left_out else "")
    )
    about = {"axis_title": "times the fewest {axis}", "note": note}
    return {"data": data, "layout": layout, "axes": axes, **about}
