"""What there is to choose from, and where each comes from."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from benchmarks.config.plugins import BUILT_IN, KINDS, Plugin, installed
from benchmarks.config.presets import CONF, named, options, plugin_preset
from benchmarks.config.schema import CHOICES
from tasks.errors import BadInput
from tasks.files import read_file

LARGEST_SOURCE = 2**20
"""Bytes of a Python file that is looked into."""
BASES = {"algo": ("Algorithm", "PolicyGradient"), "task": ("Task",)}


def listing(folder: Path) -> str:
    """Names by group, each with where it comes from; a broken plugin with its reason.

    Plugins of other packages are imported to see whether they can be used, ours are not: that would load torch.
    Files in `folder` are read and never run.
    """
    lines = []
    for group in (*CHOICES, "launcher"):
        lines.append(f"{group}:")
        rows = [(name, _about(group, name)) for name in options(group)] + list(_in_files(group, folder))
        lines += [f"  {name:24}{about}".rstrip() for name, about in rows]
    return "\n".join(lines)


def _about(group: str, name: str) -> str:
    if group not in KINDS or name not in installed(KINDS[group]):
        return _comment(CONF / group / f"{name}.yaml") if group not in BASES else "broken: no plugin of this name"
    try:
        plugin = named(group, name)
        if plugin.origin == BUILT_IN:
            return _ours(plugin)
        plugin_preset(plugin)
    except BadInput as error:
        return f"broken: {error}"
    return f"{plugin.origin} ({plugin.target})"


def _ours(plugin: Plugin) -> str:
    module = plugin.target.partition(":")[0]
    if importlib.util.find_spec(module) is None:
        return f"broken: there is no module {module}"
    return f"{BUILT_IN} ({plugin.target})"


def _comment(path: Path) -> str:
    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _in_files(group: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Classes in the Python files of a folder that derive from an algorithm's or a task's class, by name."""
    if group not in BASES:
        return
    ours = {plugin.target.partition(":")[2] for plugins in installed(KINDS[group]).values() for plugin in plugins}
    for path in sorted(folder.glob("*.py")):
        try:
            tree = ast.parse(read_file(path, LARGEST_SOURCE))
        # Whose file this is, and whether a plugin, cannot be known; the latter two: it is nested too deep.
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
            continue
        known = {*BASES[group], *ours}
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and known & {_last_name(base) for base in node.bases}:
                known.add(node.name)
                yield f"{path.name}:{node.name}", "file"


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
