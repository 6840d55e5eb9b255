"""The conditions beside each number: where it was measured, with what, and the command that reproduces it."""

from __future__ import annotations

import json
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


def conditions(runs: Sequence[Run]) -> dict[str, str]:
    """Where the numbers of some runs come from; what differs between them is listed with every value."""
    manifests = [json.loads(run.manifest) for run in runs]
    found = {}
    for name in CONDITIONS:
        values = dict.fromkeys(_words(manifest.get(name)) for manifest in manifests)
        found[name] = " | ".join(value for value in values if value)
    tests = {f"{run.about['n_test']} problems × {run.about['test_samples']} samples" for run in runs if run.final}
    found["test"] = " | ".join(sorted(tests))
    found["task_version"] = " | ".join(sorted({_words(run.about["task_version"]) for run in runs if run.final}))
    found["stopped_by"] = " | ".join(sorted({_words(run.about["stopped_by"]) for run in runs if run.final}))
    return {name: value for name, value in found.items() if value}


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{one_line(str(name))} {one_line(str(version))}" for name, version in value.items())
    return "" if value is None else one_line(str(value))[:400]


def commands(runs: Sequence[Run]) -> str:
    """What reproduces the runs, a line each."""
    return "\n".join(dict.fromkeys(_words(json.loads(run.manifest).get("command")) for run in runs))
