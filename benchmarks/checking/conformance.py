"""Does a plugin keep the benchmark's rules? Behind `python -m benchmarks check`, and for pytest in its own repository:

    from benchmarks.checking.conformance import check_algorithm

    def test_it_keeps_the_rules() -> None:
        check_algorithm(MyAlgorithm)

What cannot be seen from inside one process is not checked: an order of a set that depends on PYTHONHASHSEED (in
algorithms; tasks are started in a second process), data that an algorithm brings along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.checking.findings import ALGORITHM_RULES, TASK_RULES, Finding, NotConforming, config_findings
from benchmarks.checking.task_checks import play_findings
from benchmarks.config.plugins import load
from benchmarks.config.presets import store_class
from benchmarks.config.schema import as_dataclass, check_config, chosen_plugin, compose_config
from tasks.errors import BadInput, require

SMALL = ("budget=smoke", "policy.device=cpu")
FEW_TURNS = "task.max_turns=3"
"""For algorithms, where no task is named and it is wordle."""


def check_algorithm(algorithm: str | type[Any], *words: str) -> None:
    """Hold an algorithm to the rules; about half a minute on two CPU cores.

    Args:
        algorithm: its class, its name, or FILE.py:CLASS.
        words: Hydra overrides, as in `run` (say, `task=gsm_synth`).

    Raises:
        NotConforming: it breaks a rule; all findings are listed.
        BadInput: no such name, or a wrong override.
    """
    findings = algorithm_findings(algorithm, *words)
    if findings:
        raise NotConforming(f"algorithm {_name(algorithm)}", findings)


def check_task(task: str | type[Any], *words: str) -> None:
    """Hold a task to the rules; some seconds.

    Args:
        task: its class (at the top level of a module), its name, or FILE.py:CLASS.
        words: Hydra overrides of its settings (say, `task.path=DIR`).

    Raises:
        NotConforming: it breaks a rule; all findings are listed.
        BadInput: no such name, or a wrong override.
    """
    findings = task_findings(task, *words)
    if findings:
        raise NotConforming(f"task {_name(task)}", findings)


def algorithm_findings(algorithm: str | type[Any], *words: str) -> list[Finding]:
    """The rules that an algorithm breaks. See `check_algorithm`."""
    handed: dict[str, type[Any]] = {}
    if isinstance(algorithm, str):
        choice = algorithm
    else:
        findings = config_findings("algorithms", algorithm)
        if findings:
            return findings
        handed["algo"], choice = algorithm, store_class("algo", algorithm)
    few_turns = () if any(_group(word) == "task" for word in words) else (FEW_TURNS,)
    config = check_config(compose_config([f"+algo={choice}", *SMALL, *few_turns, *words]), handed)
    findings = config_findings("algorithms", config.algorithm_class)
    if findings:
        return findings
    from benchmarks.checking.algorithm_checks import run_findings  # brings torch along: only once all else is in order

    return run_findings(config)


def task_findings(task: str | type[Any], *words: str) -> list[Finding]:
    """The rules that a task breaks. See `check_task`."""
    if isinstance(task, str):
        config = compose_config([f"task={task}", *words])
        found = load(chosen_plugin(config, "task"))
        findings = config_findings("tasks", found)
    else:
        found, findings = task, config_findings("tasks", task)
        if not findings:
            config = compose_config([f"task={store_class('task', task)}", *words])
    return findings or play_findings(found, as_dataclass(config.task))


def check_words(words: Sequence[str], say: Callable[[str], object]) -> int:
    """Check what the words name, and say what was found, rule by rule.

    Returns:
        Exit code: 0, or 1 where a rule is broken.

    Raises:
        BadInput: nothing to check is named, or a plugin cannot be loaded.
    """
    for word in words:
        require(not word.startswith("-"), f"unknown option {word}; check takes +algo=NAME, task=NAME and KEY=VALUE")
    chosen = {_group(word): word.partition("=")[2] for word in words if _group(word) in ("algo", "task")}
    if not chosen:
        raise BadInput("what is to be checked? Add +algo=NAME or task=NAME; `list` shows the names")
    broken = False
    if "task" in chosen:
        rest = [word for word in words if _group(word) not in ("algo", "task") and word.startswith("task.")]
        broken |= report(f"task {chosen['task']}", TASK_RULES, task_findings(chosen["task"], *rest), say)
    if "algo" in chosen:
        rest = [word for word in words if _group(word) != "algo"]
        broken |= report(f"algorithm {chosen['algo']}", ALGORITHM_RULES, algorithm_findings(chosen["algo"], *rest), say)
    return int(broken)


def report(what: str, rules: dict[str, str], findings: Sequence[Finding], say: Callable[[str], object]) -> bool:
    """Say which rules hold. Returns whether one is broken."""
    say(what)
    for rule, about in rules.items():
        problems = [finding.problem for finding in findings if finding.rule == rule]
        say(f"  {'BROKEN' if problems else 'ok':8}{rule:15}{about}")
        for problem in problems:
            say(f"          {problem}")
    return bool(findings)


def _group(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _name(plugin: str | type[Any]) -> str:
    return plugin if isinstance(plugin, str) else plugin.__name__
