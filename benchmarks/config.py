"""From the command line to checked configuration: Hydra composes, dataclasses check."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.budget import BudgetConfig
from benchmarks.evaluation import EvaluateConfig
from benchmarks.plugins import KINDS, Plugin, find, from_file, identity, load
from benchmarks.presets import CONF, hydra_choice, options
from benchmarks.tracking import check_tracking
from policies.source import PolicyConfig
from tasks.errors import BadInput, require

GROUPS = ("task", "policy", "budget", "evaluate")


@dataclass(kw_only=True)
class BatchConfig:
    """Rollouts of one update; algorithms refer to it."""

    problems: int = 8
    group_size: int = 8

    def __post_init__(self) -> None:
        require(self.problems >= 1, f"batch.problems={self.problems} must be at least 1")
        require(self.group_size >= 2, f"batch.group_size={self.group_size} must be at least 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run, checked: every group as an instance of its dataclass."""

    algorithm_class: type[Any]
    task_class: type[Any]
    algo: Any
    task: Any
    policy: Any
    budget: BudgetConfig
    evaluate: Any
    seed: int
    results: Path
    tracking: str
    """The tracker that gets a copy of the curves; `none`."""
    force: bool
    resolved: dict[str, Any]
    """The same as plain values, as it goes into the record."""

    def experiment(self, task_fingerprint: str) -> str:
        """Hash of everything but the seed that decides the outcome."""
        return self._hash({key: value for key, value in self.resolved.items() if key != "seed"}, task_fingerprint)

    def run_name(self, task_fingerprint: str) -> str:
        """Name of the record's folder."""
        names = (self.algo.name, self.task.name, self.policy.name, f"s{self.seed}")
        return "-".join((*names, self._hash(self.resolved, task_fingerprint)))

    @staticmethod
    def _hash(values: Any, task_fingerprint: str) -> str:
        text = json.dumps(values, sort_keys=True) + task_fingerprint
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Let Hydra compose the configuration.

    Raises:
        BadInput: an unknown preset or key, or a word that is no override.
    """
    words = [hydra_word(word) for word in overrides]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=words)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(_in_one_line(str(error), words)) from None


def hydra_word(word: str) -> str:
    """An override as Hydra can read it: names are checked before Hydra would list its search path, plugins made known.

    Raises:
        BadInput: no such preset or plugin (the nearest is named), a broken one, or `algo=` without its plus sign.
    """
    key, found, value = word.partition("=")
    group = key.lstrip("+")
    if group not in ("algo", *GROUPS) or not found:
        return word
    if group == "algo" and not key.startswith("+"):
        raise BadInput(f"write +algo={value}: the algorithm has no default, so Hydra wants the plus sign")
    return f"{key}={','.join(hydra_choice(group, choice) for choice in value.split(','))}"


def _in_one_line(message: str, overrides: Sequence[str]) -> str:
    match = re.search(r"Could not override '([^']+)'", message)
    if match:
        key = match.group(1)
        near = difflib.get_close_matches(key, _known_keys(overrides), n=1, cutoff=0.6)
        return f"unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else "; --help shows how to list keys")
    match = re.search(r"Error parsing override '([^']*)'", message)
    if match:
        return f"cannot read {match.group(1)!r}; write KEY=VALUE"
    return " ".join(message.split())[:300]


def _known_keys(overrides: Sequence[str]) -> list[str]:
    groups = [word for word in overrides if word.partition("=")[0].lstrip("+") in ("algo", *GROUPS)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=groups)
    keys: list[str] = []

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            child, key = node._get_node(name), prefix + str(name)
            keys.append(key)
            if isinstance(child, DictConfig):
                walk(child, f"{key}.")

    walk(config, "")
    return keys


def check_config(config: DictConfig, handed: Mapping[str, type[Any]] = MappingProxyType({})) -> RunConfig:
    """Check every group against its dataclass. Nothing heavy is loaded but the algorithm's module.

    Args:
        config: as Hydra composed it.
        handed: classes for `algo` or `task` that are used as they are instead of being found by name.

    Raises:
        BadInput: no algorithm, an unknown key, a wrong type or a value out of range; the key is named.
    """
    if "algo" not in config or config.algo is None:
        raise BadInput(f"which algorithm? Add +algo=NAME. There are: {', '.join(options('algo'))}")
    config = resolve(config)
    budget = check_group(BudgetConfig, config, "budget")
    check_group(BatchConfig, config, "batch")
    seed = config.seed
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise BadInput(f"seed={seed} must be a whole number from 0 to {2**31 - 1}")
    plugins = {group: chosen_plugin(config, group) for group in ("algo", "task") if group not in handed}
    classes = {**handed, **{group: load(plugin) for group, plugin in plugins.items()}}
    task = check_group(classes["task"].Config, config, "task")
    evaluate = check_group(EvaluateConfig, config, "evaluate")
    policy = check_group(PolicyConfig, config, "policy")
    algo = check_group(classes["algo"].Config, config, "algo")
    groups = {"algo": algo, "task": task, "policy": policy, "budget": budget, "evaluate": evaluate}
    resolved = {name: asdict(group) for name, group in groups.items()} | {"seed": seed}
    foreign = {group: identity(plugin, classes[group]) for group, plugin in plugins.items()}
    if any(foreign.values()):
        resolved["plugins"] = {group: about for group, about in foreign.items() if about}
    return RunConfig(
        algorithm_class=classes["algo"],
        task_class=classes["task"],
        algo=algo,
        task=task,
        policy=policy,
        budget=budget,
        evaluate=evaluate,
        seed=seed,
        results=Path(str(config.results.dir)).expanduser(),
        tracking=check_tracking(config.tracking),
        force=bool(config.force),
        resolved=json.loads(json.dumps(resolved, default=str)),
    )


def chosen_plugin(config: DictConfig, group: str) -> Plugin:
    """The algorithm or the task that a composed configuration names.

    Raises:
        BadInput: see `benchmarks.plugins.find`.
    """
    file = OmegaConf.select(config, f"files.{group}")
    return from_file(KINDS[group], file) if file else find(KINDS[group], str(config[group].name))


def resolve(config: DictConfig) -> DictConfig:
    """A copy with all references replaced by what they refer to."""
    copy = config.copy()
    try:
        OmegaConf.resolve(copy)
    except OmegaConfBaseException as error:
        raise BadInput(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    return copy


def check_group(schema: type[Any], config: DictConfig, group: str) -> Any:
    """One group as an instance of its dataclass.

    Raises:
        BadInput: an unknown key, a wrong type, a missing value, or a value out of range.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config[group])
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        key = getattr(error, "full_key", None) or getattr(error, "key", None)
        name = f"{group}.{key}" if key and not str(key).startswith(group) else str(key or group)
        known = ", ".join(schema.__dataclass_fields__)
        if "not in" in first and "Key" in first:
            first = f"there is no such key; {group} has {known}"
        elif "missing mandatory" in first.lower():
            first = "a value is needed"
        raise BadInput(f"{name}: {first}") from None
