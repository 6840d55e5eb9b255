"""What cost can be counted in, on the page and in its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

AXES = {
    "flops": "model FLOPs",
    "rollouts": "rollouts",
    "tokens": "tokens generated",
    "seconds": "seconds",
    "joules": "joules",
    "dollars": "dollars",
    "updates": "updates",
}
"""What a learning curve can be drawn over: `spent/NAME` in curve.parquet, and how an axis is labelled."""


def shared_axes(curves: Iterable[Sequence[Mapping[str, Any]]]) -> list[str]:
    """The costs that every learning curve was measured over; none where there is no curve."""
    points = [point for curve in curves for point in curve]
    return [name for name in AXES if points and all(point.get(f"spent/{name}") is not None for point in points)]
