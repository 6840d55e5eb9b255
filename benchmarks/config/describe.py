"""What a preset is and what its settings mean, from docstrings: for `list GROUP NAME` and the tables of docs/."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from benchmarks.config.plugins import KINDS, find, is_file_choice, load, unknown
from benchmarks.config.presets import CONF, chosen, class_node, options
from benchmarks.config.schema import compose_config
from tasks.errors import BadInput


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a group."""

    key: str
    value: str
    """As YAML has it; of one that follows another setting, that one's key."""
    about: str


def describe(group: str, name: str) -> str:
    """A preset: what it is, its settings with their values and meanings, where it is published.

    Raises:
        BadInput: no such group or preset, or a broken plugin.
    """
    if name not in options(group) and not (group in KINDS and is_file_choice(name)):
        raise BadInput(unknown(f"{group} preset", name, options(group)))
    if group in ("gpu", "launcher", "experiment"):
        return (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").rstrip()
    node = compose_config([f"+algo={name}" if group == "algo" else f"{group}={name}"])[group]
    lines = [f"{group}={name}"]
    if group in ("algo", "task"):
        found = load(chosen(group, name))
        about = inspect.getdoc(sys.modules[found.__module__]) or inspect.getdoc(found) or ""
        lines += [about.partition("\n\n")[0], *re.findall(r"^Source: .*$", about, re.MULTILINE)]
    rows = [] if node is None else list(settings(node))
    lines += ["", *(f"  {group}.{row.key}={row.value}\n      {row.about}".rstrip() for row in rows)]
    return "\n".join(lines)


def settings(node: DictConfig, prefix: str = "") -> Iterator[Setting]:
    """The settings of a group, those of its parts with dotted keys."""
    schema: Any = OmegaConf.get_type(node) or dict
    abouts = docstrings(schema)
    for name in map(str, node):
        child, key = node._get_node(name), f"{prefix}{name}"
        if isinstance(child, DictConfig):
            yield from settings(child, f"{key}.")
        elif key != "name":
            yield Setting(key, _text(node, name), abouts.get(name, ""))


def _text(node: DictConfig, name: str) -> str:
    raw: Any = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload, index]
    if isinstance(raw, str):
        return raw.removeprefix("${").removesuffix("}") or '""'
    if isinstance(raw, list | ListConfig):
        return f"[{', '.join(map(str, raw))}]"
    return {True: "true", False: "false", None: "null"}[raw] if raw is None or isinstance(raw, bool) else str(raw)


@cache
def docstrings(schema: type[Any]) -> dict[str, str]:
    """What stands under each field of a dataclass and of those that it derives from, on one line each."""
    found: dict[str, str] = {}
    for each in reversed(schema.__mro__[:-1]):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        body: Sequence[ast.stmt] = getattr(node, "body", ())
        for field, after in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(field.target, ast.Name):
                text = ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else ""
                found[field.target.id] = " ".join(str(text).split())
    return found


def markdown(algorithm: str) -> str:
    """The table of an algorithm's settings, as its page in docs/ holds it."""
    rows = settings(class_node(load(find("algorithms", algorithm))))
    lines = [f"| `{row.key}` | `{row.value}` | {row.about} |" for row in rows]
    return "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *lines])
