"""Finding tasks and algorithms by name: entry points, our own among them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from tasks.errors import BadInput

Kind = Literal["algorithms", "tasks"]


@cache
def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Entry points of a kind by name."""
    return {point.name: point for point in sorted(entry_points(group=f"grpo_bench.{kind}"), key=lambda p: p.name)}


def load_class(kind: Kind, name: str) -> Any:
    """The class behind a name.

    Raises:
        BadInput: no such name (the nearest ones are named), or it cannot be imported.
    """
    known = installed(kind)
    if name not in known:
        raise BadInput(unknown(kind.removesuffix("s"), name, known))
    try:
        return known[name].load()
    except ImportError as error:
        raise BadInput(f"{kind.removesuffix('s')} {name} ({known[name].value}) cannot be imported: {error}") from error


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown {what} {name!r}{hint} There are: {', '.join(names)}"
