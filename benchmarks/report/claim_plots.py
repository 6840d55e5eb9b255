"""The plot that decides a claim: every effect with its interval, against the threshold fixed beforehand."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.analysis.claims import Answer
from benchmarks.analysis.conclusions import Judgement
from benchmarks.report.style import Figure, base_axis, base_layout, plain

LOOKS = {
    "supported": ("$2", "circle"),
    "refuted": ("$1", "x"),
    "equivalent": ("$faint", "diamond"),
    "undecided": ("$faint", "circle-open"),
}


def claim_plot(answer: Answer) -> Figure:
    """One small plot for each unit and threshold; rows are numbered as the judgements are. Empty where nothing was."""
    groups: dict[tuple[str, str], list[tuple[int, Judgement]]] = {}
    for number, judgement in enumerate(answer.judgements, 1):
        if judgement.effect is not None:
            groups.setdefault((judgement.unit, judgement.claimed), []).append((number, judgement))
    rows = sum(len(found) + 2 for found in groups.values())
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {**base_layout(""), "showlegend": False, "shapes": [], "annotations": []}
    top = 0
    for place, ((unit, claimed), found) in enumerate(groups.items(), 1):
        mark = "" if place == 1 else str(place)
        side, threshold = claimed.split(" ")
        low, high = _range(found, float(threshold))
        height = [1 - (top + len(found) + 0.8) / rows, 1 - (top + 0.7) / rows]
        top += len(found) + 2
        labels = [f"{number} {plain(judgement.task)} " for number, judgement in found][::-1]
        layout[f"xaxis{mark}"] = {**base_axis(), "anchor": f"y{mark}", "range": [low, high], "zeroline": False}
        layout[f"yaxis{mark}"] = {**base_axis(), "anchor": f"x{mark}", "domain": height, "type": "category"}
        layout[f"yaxis{mark}"] |= {"categoryarray": labels, "range": [-0.6, len(labels) - 0.4], "automargin": True}
        where = {"xref": f"x{mark}", "yref": f"y{mark} domain", "y0": 0, "y1": 1, "layer": "below"}
        claimed_side = [float(threshold), high] if side == "above" else [low, float(threshold)]
        shade = {"type": "rect", "x0": claimed_side[0], "x1": claimed_side[1], "line": {"width": 0}}
        line = {"type": "line", "x0": float(threshold), "x1": float(threshold)}
        layout["shapes"] += [{**shade, **where, "fillcolor": "$2-band"}]
        layout["shapes"] += [{**line, **where, "line": {"color": "$ink", "dash": "dash", "width": 1}}]
        title = {
            "text": plain(f"{unit} (claimed: {claimed})"),
            "x": 0,
            "xref": "paper",
            "y": height[1],
            "yref": "paper",
        }
        style = {"xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"color": "$ink"}}
        layout["annotations"].append({**title, **style})
        for number, judgement in found:
            data.append(_row(f"{number} {plain(judgement.task)} ", judgement, mark, low, high))
    return {"data": data, "layout": layout, "axes": [], "height": 30 + 36 * rows}


def _row(label: str, judgement: Judgement, mark: str, low: float, high: float) -> dict[str, Any]:
    colour, symbol = LOOKS[judgement.conclusion]
    effect = float(judgement.effect or 0.0)
    ends = [min(max(end if end is not None else effect, low), high) for end in (judgement.low, judgement.high)]
    bar = {"type": "data", "symmetric": False, "array": [ends[1] - effect], "arrayminus": [effect - ends[0]]}
    return {
        **{"type": "scatter", "mode": "markers", "x": [effect], "y": [label], "name": judgement.conclusion},
        **{"xaxis": f"x{mark}", "yaxis": f"y{mark}", "error_x": {**bar, "color": colour, "thickness": 2}},
        "marker": {"color": colour, "symbol": symbol, "size": 11, "line": {"color": colour, "width": 2}},
        "hovertemplate": f"{label}%{{x:.3g}} {judgement.conclusion}<extra></extra>",
    }


def _range(found: list[tuple[int, Judgement]], threshold: float) -> tuple[float, float]:
    """What a small plot spans; an interval without an end reaches its edge."""
    ends = [end for _, f in found for end in (f.low, f.high, f.effect) if end is not None and math.isfinite(end)]
    low, high = min([*ends, threshold]), max([*ends, threshold])
    space = 0.12 * ((high - low) or 1.0)
    return low - space, high + space
