"""YAML of strangers: scalars, lists and mappings, and nothing that unfolds to more than what is written."""

from __future__ import annotations

from typing import Any

LARGEST_YAML = 64 * 2**10
"""Bytes of a file."""
MOST_BRACKETS = 1000
"""The time to read nested brackets grows with their square."""


def plain_yaml(text: str) -> Any:
    """The values of a YAML text; interpolations (`${...}`) stay as they are.

    Raises:
        ValueError: it has aliases, by which a few lines stand for gigabytes, or too many brackets.
        Exception: whatever YAML raises where it is none.
    """
    import yaml

    if text.count("[") + text.count("{") > MOST_BRACKETS:
        raise ValueError(f"it has more than {MOST_BRACKETS} brackets")
    # An alias needs an anchor; to look closely takes as long as to read.
    if "&" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise ValueError("it has aliases (*NAME)")
    # Not by OmegaConf, which takes ten times as long.
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
