"""The rules for tasks: what a task states and lists, and then its episodes."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.checking.episode_checks import check_episodes, check_junk, check_oracle
from benchmarks.checking.rules import Violations
from benchmarks.config.plugins import import_file
from tasks.api import SPLITS, FeedbackLevel, Task
from tasks.errors import BadInput


def play_violations(found: type[Any], config: Any) -> Violations:
    """Play a task and say which rules it breaks."""
    if "feedback" in {field.name for field in fields(config)}:
        config = replace(config, feedback=FeedbackLevel.diagnostic)
    violations, task = Violations(), found(config)
    for rule, first_check in (("shape", check_shape), ("splits", check_splits)):
        with guarded(rule, violations):
            first_check(task, violations)
    if violations:  # the other checks rely on these
        return violations
    with guarded("stable", violations):
        check_stable(found, config, task, violations)
    with guarded("oracle", violations):
        check_oracle(task, violations)
    check_junk(task, violations)
    with guarded("junk", violations):
        check_episodes(task, violations)
    return violations


@contextmanager
def guarded(rule: str, violations: Violations) -> Iterator[None]:
    """What a stranger's task raises violates a rule, and does not end the check."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        violations.add(rule, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def check_shape(task: Task, violations: Violations) -> None:
    """Look at what a task states of itself."""
    for name in ("max_turns", "max_action_tokens"):
        value = getattr(task, name, None)
        if not isinstance(value, int) or value < 1:
            violations.add("shape", f"{name} is {value!r}; it must be a whole number, 1 or more")
    if not isinstance(getattr(task, "instructions", None), str):
        violations.add("shape", "instructions must be a text")
    names = [component.name for component in getattr(task, "components", ())]
    if not names or len(set(names)) < len(names):
        violations.add("shape", f"components are {names}; there must be one at least, and each name once")
    for component in getattr(task, "components", ()):
        if not -math.inf < component.low <= component.high < math.inf:
            violations.add("shape", f"component {component.name} has the range {component.low} to {component.high}")


def check_splits(task: Task, violations: Violations) -> None:
    """No id twice, no problem under another split, no problem that is the same as one of another split."""
    ids: dict[str, str] = {}
    contents: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        problems = task.problems(split)
        if not problems:
            violations.add("splits", f"there are no {split} problems")
        for problem in problems:
            if problem.split != split:
                violations.add("splits", f"{problem.id} is listed under {split} and says {problem.split}")
            if problem.id in ids:
                violations.add("splits", f"the id {problem.id} is there twice ({ids[problem.id]}, {split})")
            ids[problem.id] = split
            content = repr((task.start(problem).messages, task.oracle(problem)))
            other, where = contents.setdefault(content, (problem.id, split))
            if where != split:
                violations.add("splits", f"{problem.id} ({split}) asks and answers the same as {other} ({where})")


def check_stable(found: type[Any], config: Any, task: Task, violations: Violations) -> None:
    """Make the task again, in this process and in one with another PYTHONHASHSEED."""
    if listed(found(config)) != listed(task):
        violations.add("stable", "made twice, it has other problems or another order")
        return
    try:
        made = pickle.dumps((found, config))
    except (pickle.PicklingError, AttributeError) as error:
        raise BadInput(f"{found.__name__}: define the task at the top level of a module: {error}") from None
    module = sys.modules[found.__module__]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
    }
    code = f"from benchmarks.checking.task_checks import main; main({module.__name__!r}, {module.__file__!r})"
    done = subprocess.run([sys.executable, "-c", code], input=made, capture_output=True, env=environment)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        violations.add("stable", f"in a second process it cannot be made: {reason}")
    elif done.stdout.decode().strip() != listed(task):
        violations.add("stable", "another process has other problems or another order: does it use a set, or hash()?")


def main(module: str, file: str) -> None:
    """In the second process: make the task that is pickled on stdin and print the hash of what it lists."""
    if module.startswith("grpo_bench_file_"):
        import_file(Path(file))
    found, config = pickle.load(sys.stdin.buffer)
    print(listed(found(config)))


def listed(task: Task) -> str:
    """Hash of everything that a task asks, in its order."""
    digest = hashlib.sha256(task.fingerprint().encode())
    for split in SPLITS:
        for problem in task.problems(split):
            digest.update(
                f"{problem.id} {task.start(problem).messages} {task.oracle(problem)}".encode(errors="replace")
            )
    return digest.hexdigest()
