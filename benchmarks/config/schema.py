"""From the command line to checked configuration: Hydra composes, dataclasses check."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
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

from benchmarks.config.plugins import KINDS, Plugin, find, from_file, identity, load
from benchmarks.config.presets import CONF, hydra_choice, options
from benchmarks.records.record import RUNS
from benchmarks.records.redaction import redacted
from benchmarks.records.store import Store, is_url
from benchmarks.running.budget import BudgetConfig
from benchmarks.running.evaluation import EvaluateConfig
from benchmarks.running.tracking import check_tracking
from benchmarks.running.warmstart import NoWarmStartConfig, WarmStartConfig
from policies.adapter import AdapterConfig, NoAdapterConfig
from policies.source import PolicyConfig
from tasks.errors import BadInput, require
from tasks.files import located

GROUPS = ("task", "policy", "adapter", "warmstart", "budget", "evaluate")
ADAPTERS = {"none": NoAdapterConfig, "lora": AdapterConfig, "qlora": AdapterConfig}
WARM_STARTS = {"none": NoWarmStartConfig, "sft": WarmStartConfig}
"""What the presets of these two groups are checked against, by name."""
CHOICES = ("algo", *GROUPS, "gpu")
"""What is chosen by name on the command line; `gpu` sets keys of the others."""
NAMED = ("algo", "task", "policy", "budget")
"""Groups whose names stand in a record, three of them in its folder's name."""
SCRATCH = Path("results/scratch")
"""Where runs are made whose records go to a store, unless results.scratch says otherwise."""
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(kw_only=True)
class BatchConfig:
    """Rollouts of one update; algorithms refer to it."""

    problems: int = 8
    group_size: int = 8
    gradient_checkpointing: bool = False

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
    adapter: AdapterConfig | None
    """None: all weights are trained."""
    warmstart: WarmStartConfig | None
    """None: the weights are the policy's own."""
    budget: BudgetConfig
    evaluate: Any
    seed: int
    results: Path
    """The folder in which runs are made: where records go, or where they are made that go to a store."""
    store: str | None
    """URL of the store that records go to; None: they stay in the folder."""
    save_every_s: float
    """Least seconds between two saved states."""
    keep_policy: bool
    """Whether the improved policy stays in the record."""
    tracking: str
    """The tracker that gets a copy of the curves; `none`."""
    force: bool
    resolved: dict[str, Any]
    """The same as plain values, as it goes into the record."""

    @property
    def where(self) -> str:
        """Where records go, as `--runs` takes it."""
        return self.store or str(self.results)

    def experiment(self, task_fingerprint: str) -> str:
        """Hash of everything but the seed that decides the outcome."""
        return self._hash({key: value for key, value in self.resolved.items() if key != "seed"}, task_fingerprint)

    def run_name(self, task_fingerprint: str) -> str:
        """Name of the record's folder."""
        names = (self.algo.name, self.task.name, self.policy.name, f"s{self.seed}")
        return "-".join((*names, self._hash(self.resolved, task_fingerprint)))

    @staticmethod
    def _hash(values: Any, task_fingerprint: str) -> str:
        # What is to be done on a machine that is too small is no part of what a run is.
        budget = {key: value for key, value in values["budget"].items() if key != "on_oom"}
        text = json.dumps({**values, "budget": budget}, sort_keys=True) + task_fingerprint
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
    # Hydra and OmegaConf have errors of their own, and let others through (a number where a name should be).
    except Exception as error:
        raise BadInput(_in_one_line(str(error), words)) from None


def hydra_word(word: str) -> str:
    """An override as Hydra can read it: names are checked before Hydra would list its search path, plugins made known.

    Raises:
        BadInput: no such preset or plugin (the nearest is named), a broken one, or `algo=` without its plus sign.
    """
    key, found, value = word.partition("=")
    group = key.lstrip("+")
    if group not in CHOICES or not found:
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
    groups = [word for word in overrides if word.partition("=")[0].lstrip("+") in CHOICES]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=groups)
    except (HydraException, OmegaConfBaseException):
        return []  # The groups are what is wrong.
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
    config = resolve(config)
    if config.get("algo") is None:
        raise BadInput(f"which algorithm? Add +algo=NAME. There are: {', '.join(options('algo'))}")
    for group in ("algo", *GROUPS, "batch", "results"):
        there = isinstance(config.get(group), DictConfig)
        require(there, f"{group} must be a group of settings: leave out the word that deletes or replaces it")
    budget = check_group(BudgetConfig, config, "budget")
    check_group(BatchConfig, config, "batch")
    seed = config.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise BadInput(f"seed={seed} must be a whole number from 0 to {2**31 - 1}")
    keep_policy = config.results.get("keep_policy", True)
    require(isinstance(keep_policy, bool), f"results.keep_policy={keep_policy} must be true or false")
    save_every_s = _seconds(config.results, "save_every_s")
    results, store = _place(config.results)
    plugins = {group: chosen_plugin(config, group) for group in ("algo", "task") if group not in handed}
    classes = {**handed, **{group: load(plugin) for group, plugin in plugins.items()}}
    task = check_group(classes["task"].Config, config, "task")
    evaluate = check_group(EvaluateConfig, config, "evaluate")
    policy = check_group(PolicyConfig, config, "policy")
    options_by_name = (("adapter", ADAPTERS), ("warmstart", WARM_STARTS))
    chosen = {group: check_group(schemas[config[group].name], config, group) for group, schemas in options_by_name}
    algo = check_group(classes["algo"].Config, config, "algo")
    groups = {"algo": algo, "task": task, "policy": policy, "budget": budget, "evaluate": evaluate}
    # Without them a run is what it was before there were such options, and keeps its name.
    groups |= {group: found for group, found in chosen.items() if found.name != "none"}
    for name in NAMED:
        _check_name(name, groups[name].name)
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
        adapter=groups.get("adapter"),
        warmstart=groups.get("warmstart"),
        budget=budget,
        evaluate=evaluate,
        seed=seed,
        results=results,
        store=store,
        save_every_s=save_every_s,
        keep_policy=keep_policy,
        tracking=check_tracking(config.get("tracking", "none")),
        force=bool(config.get("force", False)),
        resolved=redacted(json.loads(json.dumps(resolved, default=str))),
    )


def _seconds(settings: DictConfig, key: str) -> float:
    value = settings.get(key, 0)
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise BadInput(f"results.{key}={value} must be a number of seconds, 0 or above")
    return float(value)


def _place(settings: DictConfig) -> tuple[Path, str | None]:
    """The folder in which runs are made, and the URL of the store that their records go to, if they go to one.

    Raises:
        BadInput: see `Store`; or a path that cannot be used.
    """
    text = str(settings.get("dir", RUNS))
    if not is_url(text):
        return located(text, "results.dir"), None
    store = Store(text)
    return located(str(settings.get("scratch", SCRATCH)), "results.scratch") / store.folder_name, store.url


def _check_name(group: str, name: str) -> None:
    told = f"{group}.name={name[:100]!r} must be letters, digits, _ . or -, at most 80: a folder's name is made of it"
    require(RUN_NAME.fullmatch(name) is not None, told)


def chosen_plugin(config: DictConfig, group: str) -> Plugin:
    """The algorithm or the task that a composed configuration names.

    Raises:
        BadInput: see `benchmarks.config.plugins.find`.
    """
    try:
        file, name = OmegaConf.select(config, f"files.{group}"), str(config[group].name)
    except OmegaConfBaseException as error:
        raise BadInput(f"{group}.name: {str(error).splitlines()[0]}") from None
    if file is None:
        return find(KINDS[group], name)
    require(isinstance(file, str), f"files.{group} must be FILE.py:CLASS")
    return from_file(KINDS[group], file)


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
