"""Does a plugin keep the benchmark's rules? Behind `python -m benchmarks check`, and for pytest in its own repository:

    from benchmarks.checking.conformance import check_algorithm

    def test_it_keeps_the_rules() -> None:
        check_algorithm(MyAlgorithm)

What cannot be seen from inside one process is not checked: an order of a set that depends on PYTHONHASHSEED (in
algorithms; tasks are started in a second process), data that an algorithm brings with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.checking.rules import (
    ALGORITHM_RULES,
    POLICY_RULES,
    TASK_RULES,
    NotConforming,
    RuleViolation,
    config_violations,
)
from benchmarks.checking.task_checks import play_violations
from benchmarks.config.plugins import load
from benchmarks.config.presets import store_class
from benchmarks.config.schema import as_dataclass, check_config, chosen_plugin, compose_config
from tasks.errors import require

SMALL = ("budget=smoke", "policy.device=cpu")
FEW_TURNS = "task.max_turns=3"
"""For algorithms, where no task is named and it is wordle."""


def check_algorithm(algorithm: str | type[Any], *words: str) -> None:
    """Hold an algorithm to the rules; about half a minute on two CPU cores.

    Args:
        algorithm: its class, its name, or FILE.py:CLASS.
        words: Hydra overrides, as in `run` (say, `task=gsm_synth`).

    Raises:
        NotConforming: it breaks a rule; all violations are listed.
        BadInput: no such name, or a wrong override.
    """
    _refuse(f"algorithm {_name(algorithm)}", algorithm_violations(algorithm, *words))


def check_task(task: str | type[Any], *words: str) -> None:
    """Hold a task to the rules; some seconds.

    Args:
        task: its class (at the top level of a module), its name, or FILE.py:CLASS.
        words: Hydra overrides of its settings (say, `task.path=DIR`).

    Raises:
        NotConforming: it breaks a rule; all violations are listed.
        BadInput: no such name, or a wrong override.
    """
    _refuse(f"task {_name(task)}", task_violations(task, *words))


def algorithm_violations(algorithm: str | type[Any], *words: str) -> list[RuleViolation]:
    """The rules that an algorithm breaks. See `check_algorithm`."""
    handed: dict[str, type[Any]] = {}
    if isinstance(algorithm, str):
        choice = algorithm
    else:
        if violations := config_violations("algorithms", algorithm):
            return violations
        handed["algo"], choice = algorithm, store_class("algo", algorithm)
    few_turns = () if any(_group(word) == "task" for word in words) else (FEW_TURNS,)
    config = check_config(compose_config([f"+algo={choice}", *SMALL, *few_turns, *words]), handed)
    if violations := config_violations("algorithms", config.algorithm_class):
        return violations
    from benchmarks.checking.algorithm_checks import run_violations  # imports torch: only once all else is in order

    return run_violations(config)


def task_violations(task: str | type[Any], *words: str) -> list[RuleViolation]:
    """The rules that a task breaks. See `check_task`."""
    if isinstance(task, str):
        config = compose_config([f"task={task}", *words])
        found = load(chosen_plugin(config, "task"))
        violations = config_violations("tasks", found)
    else:
        found, violations = task, config_violations("tasks", task)
        if not violations:
            config = compose_config([f"task={store_class('task', task)}", *words])
    return violations or play_violations(found, as_dataclass(config.task))


def check_words(words: Sequence[str], say: Callable[[str], object]) -> int:
    """Check what the words name, and say what was found, rule by rule.

    Returns:
        Exit code: 0, or 1 where a rule is broken.

    Raises:
        BadInput: nothing to check is named, or a plugin cannot be loaded.
    """
    for word in words:
        require(not word.startswith("-"), f"unknown option {word}; `check --help` says what it takes")
    chosen = {_group(word): word.partition("=")[2] for word in words if _group(word) in ("algo", "task", "policy")}
    asked = "what is to be checked? Add +algo=NAME, task=NAME or policy=NAME; `list` shows the names"
    require(bool(chosen), asked)
    broken = False
    if "task" in chosen:
        rest = [word for word in words if word.startswith("task.")]
        broken |= _report(f"task {chosen['task']}", TASK_RULES, task_violations(chosen["task"], *rest), say)
    if "algo" in chosen:
        rest = [word for word in words if _group(word) != "algo"]
        found = algorithm_violations(chosen["algo"], *rest)
        broken |= _report(f"algorithm {chosen['algo']}", ALGORITHM_RULES, found, say)
    if "policy" in chosen and "algo" not in chosen:
        config = check_config(compose_config(["+algo=grpo", *words]))
        from benchmarks.checking.policy_checks import policy_violations

        broken |= _report(f"policy {chosen['policy']}", POLICY_RULES, policy_violations(config), say)
    return int(broken)


def _report(
    what: str, rules: Mapping[str, str], violations: Sequence[RuleViolation], say: Callable[[str], object]
) -> bool:
    say(what)
    for rule, about in rules.items():
        problems = [each.problem for each in violations if each.rule == rule]
        say(f"  {'BROKEN' if problems else 'ok':8}{rule:15}{about}")
        for problem in problems:
            say(f"          {problem}")
    return bool(violations)


def _refuse(what: str, violations: Sequence[RuleViolation]) -> None:
    if violations:
        raise NotConforming(what, violations)


def _group(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _name(plugin: str | type[Any]) -> str:
    return plugin if isinstance(plugin, str) else plugin.__name__
