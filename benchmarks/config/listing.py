"""What there is to choose from, and where each comes from."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from benchmarks.config.plugins import BUILT_IN, KINDS, Plugin, find, installed, unknown
from benchmarks.config.presets import CONF, options, plugin_node, refuse_namesake
from benchmarks.config.schema import CHOICES
from tasks.errors import BadInput, require
from tasks.files import read_file

LISTED = (*CHOICES, "launcher")
LARGEST_SOURCE = 2**20
"""Bytes of a Python file that is looked into."""
BASES = {"algo": ("Algorithm", "PolicyGradient"), "task": ("Task",)}


def listing(folder: Path, group: str | None = None) -> str:
    """Names by group, each with what it is; a plugin of others with where it comes from, a broken one with its reason.

    Plugins of other packages are imported to see whether they can be used, ours are not: that would load torch.
    Files in `folder` are read and never run.

    Raises:
        BadInput: there is no such group.
    """
    require(group is None or group in LISTED, unknown("group", str(group), LISTED))
    lines = []
    for each in LISTED if group is None else (group,):
        lines.append(f"{each}:")
        rows = [(name, _about(each, name)) for name in options(each)] + list(_in_files(each, folder))
        lines += [f"  {name:24}{about}".rstrip() for name, about in rows]
    return "\n".join(lines)


def _about(group: str, name: str) -> str:
    if group not in KINDS or name not in installed(KINDS[group]):
        return _comment(CONF / group / f"{name}.yaml")
    try:
        refuse_namesake(group, name)
        plugin = find(KINDS[group], name)
        if plugin.origin == BUILT_IN:
            return _sentence(plugin)
        plugin_node(plugin)
    except BadInput as error:
        return f"broken: {error}"
    return f"{plugin.origin} ({plugin.target})"


def _sentence(plugin: Plugin) -> str:
    """The first line of a module of ours, which is not imported."""
    module = plugin.target.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return f"broken: there is no module {module}"
    text = ast.get_docstring(ast.parse(read_file(Path(spec.origin), LARGEST_SOURCE))) or ""
    return text.partition("\n")[0]


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
