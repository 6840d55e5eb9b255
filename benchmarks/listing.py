"""What there is to choose from."""

from __future__ import annotations

from pathlib import Path

from benchmarks.config import CONF, GROUPS
from benchmarks.plugins import installed


def listing() -> str:
    """Names by group, each with the first comment or the place it comes from."""
    lines = []
    for group in ("algo", *GROUPS):
        lines.append(f"{group}:")
        presets = sorted((CONF / group).glob("*.yaml"))
        lines += [f"  {path.stem:24}{_about(group, path)}".rstrip() for path in presets]
    return "\n".join(lines)


def _about(group: str, path: Path) -> str:
    kinds = {"algo": "algorithms", "task": "tasks"}
    if group in kinds:
        point = installed(kinds[group]).get(path.stem)
        return point.value if point else "no installed plugin of this name"
    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return next((comment for comment in comments if not comment.startswith("@")), "")
