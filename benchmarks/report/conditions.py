"""The conditions beside each number: where it was measured, with what, and the command that reproduces it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.records.reading import Run
from benchmarks.wording import one_line

CONDITIONS = (
    "device",
    "dtype",
    "processes",
    "threads",
    "python",
    "packages",
    "git_commit",
    "git_dirty",
    "policy_source",
)


def conditions(runs: Sequence[Run]) -> tuple[dict[str, str], str]:
    """Where the numbers of some runs come from, and what reproduces them.

    Returns:
        The conditions by name (what differs between the runs is listed with every value), and commands, a line each.
    """
    manifests = [run.manifest for run in runs]
    found = {}
    for name in CONDITIONS:
        values = dict.fromkeys(_words(manifest.get(name)) for manifest in manifests)
        found[name] = " | ".join(value for value in values if value)
    tests = {
        f"{run.summary['n_test']} problems × {run.summary['test_samples']} samples" for run in runs if run.problems
    }
    found["test"] = " | ".join(sorted(tests))
    found["task_version"] = " | ".join(sorted({_words(run.summary["task_version"]) for run in runs if run.problems}))
    found["stopped_by"] = " | ".join(sorted({_words(run.summary["stopped_by"]) for run in runs if run.problems}))
    commands = dict.fromkeys(_words(manifest.get("command")) for manifest in manifests)
    return {name: value for name, value in found.items() if value}, "\n".join(commands)


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(str(name))} {one_line(str(version))}" for name, version in value.items())
    return "" if value is None else one_line(str(value))[:400]
