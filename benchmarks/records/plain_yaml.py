"""YAML of strangers: scalars, lists and mappings, and nothing that unfolds to more than what is written."""

from __future__ import annotations

from typing import Any

LARGEST_YAML = 64 * 2**10
"""Bytes of a file."""
MOST_BRACKETS = 1000
"""The time to read nested brackets grows with their square."""
DEEPEST = 50
"""Lists and mappings within each other: the loader, which is written in C, has no stack for very many."""


def plain_yaml(text: str) -> Any:
    """The values of a YAML text; interpolations (`${...}`) stay as they are.

    Raises:
        ValueError: it has aliases, by which a few lines stand for gigabytes, too many brackets, or is nested too deep.
        Exception: whatever YAML raises where it is none.
    """
    import yaml

    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise ValueError(f"it has more than {MOST_BRACKETS} brackets")
    # Not by OmegaConf, nor by the loader in Python: both take ten times as long.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases (*NAME)")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST}")
    return yaml.load(text, loader)
