"""From the command line to a checked configuration: Hydra composes, dataclasses check."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.config.plugins import KINDS, Plugin, find, from_file, identity, installed, load, unknown
from benchmarks.config.presets import CONF, SOURCE, options, plugin_node, refuse_namesake, register
from benchmarks.config.settings import Settings
from benchmarks.records.redaction import redacted
from policies.source import Source, find_source
from tasks.errors import BadInput, require

if TYPE_CHECKING:
    import torch
    from hydra._internal.hydra import Hydra

CONFIG = "config"
"""conf/config.yaml."""
GROUPS = ("task", "policy", "adapter", "warmstart", "budget", "evaluate")
CHOICES = ("algo", *GROUPS, "gpu", "experiment")
"""What is chosen by name on the command line; `gpu` and `experiment` set keys of the others."""
NAMED = ("algo", "task", "policy", "budget")
"""Groups whose names stand in a record, three of them in its folder's name."""
VALUE = re.compile(r"(seed|force|tracking|(?!hydra\.)[a-z]\w*(\.\w+)+)=")
"""A word that sets one value and does not choose among presets."""
OPTIONAL = ("adapter.", "warmstart.")
"""How keys of groups begin that may be none."""
RUN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(kw_only=True)
class RunConfig(Settings):
    """One run, checked: every group as an instance of its dataclass."""

    algorithm_class: type[Any]
    task_class: type[Any]
    resolved: dict[str, Any]
    """What decides the outcome, as plain values: what goes into the record."""

    @cached_property
    def source(self) -> Source:
        """Where the policy's weights come from.

        Raises:
            BadInput: see `policies.source.find_source`.
        """
        return find_source(self.policy)

    @cached_property
    def device(self) -> torch.device:
        """Where the policy computes.

        Raises:
            BadInput: see `policies.devices.choose_device`.
        """
        from policies.devices import choose_device

        return choose_device(self.policy.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the policy's weights are held in.

        Raises:
            BadInput: see `policies.devices.choose_dtype`.
        """
        from policies.devices import choose_dtype

        return choose_dtype(self.policy.dtype, self.device, trained=self.adapter is None)

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


def compose_config(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """Let Hydra compose the configuration.

    Args:
        overrides: words as Hydra reads them.
        config_dir: a folder with further presets, in which a group is a folder.

    Raises:
        BadInput: an unknown preset or key, a broken plugin, a wrong type, or a word that is no override.
    """
    with hydra_of(overrides, config_dir) as (_, words):
        return compose(CONFIG, overrides=words)


def compose_all(runs: Sequence[Sequence[str]], config_dir: Path | None = None) -> Iterator[DictConfig]:
    """What `compose_config` makes of each; presets are composed once for all runs that share them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser, composed = OverridesParser.create(), dict[tuple[str, ...], DictConfig]()
    for words in runs:
        # A plugin's dataclass is all that `+algo=` brings, unless a preset of the user's has that name.
        algo = [] if config_dir else [word for word in words if word.removeprefix("+algo=") in installed("algorithms")]
        values = [word for word in words if VALUE.match(word)]
        rest = tuple(word for word in words if word not in (*algo, *values))
        try:
            if rest not in composed:
                composed[rest] = compose_config(rest, config_dir)
            config = copy.deepcopy(composed[rest])
            for word in algo:
                require(OmegaConf.is_missing(config, "algo"), "an experiment has settings of the algorithm")
                config.algo = plugin_node(find("algorithms", word.removeprefix("+algo=")))
            for override in parser.parse_overrides(values):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except Exception:  # Hydra, with all words at hand, composes it or says what is wrong.
            config = compose_config(words, config_dir)
        yield config


@contextmanager
def hydra_of(overrides: Sequence[str], config_dir: Path | None = None) -> Iterator[tuple[Hydra, list[str]]]:
    """Hydra, to compose conf/config.yaml with, and the words to do it with; its errors become one line.

    Raises:
        BadInput: see `compose_config`.
    """
    from hydra.core.global_hydra import GlobalHydra

    register()
    words = [*overrides]
    if config_dir is not None:
        require(config_dir.is_dir(), f"--config-dir {config_dir}: there is no such folder")
        words.append(f"hydra.searchpath=[{SOURCE}://,'file://{config_dir.resolve()}']")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            yield hydra, words
    except BadInput:
        raise
    # Hydra and OmegaConf have errors of their own, and let others through (a number where a name should be).
    except Exception as error:
        raise BadInput(_in_one_line(error, overrides)) from None


def _in_one_line(error: BaseException, overrides: Sequence[str]) -> str:
    message = str(error)
    match = re.search(r"Could not find '(\w+)/([^']+)'", message)
    if match and match[1] in (*CHOICES, "launcher"):
        return unknown({"algo": "algorithm"}.get(match[1], match[1]), match[2], options(match[1]))
    if match := re.search(r"Ambiguous value for argument '([^']+)'", message):
        return f"{match[1]}: several values are a sweep; add -m"
    if "Config group override must be" in message:
        words = [word for word in overrides if re.search(r"=(null|-?\d+|\[\])$", word)]
        return f"{' '.join(words) or ' '.join(overrides)}: this group needs a preset's name"
    if "NoneType" in message and (word := next((word for word in overrides if word.startswith(OPTIONAL)), None)):
        return f"{word}: choose {word.partition('.')[0]}=NAME first; `list` shows the names"
    if re.search(r"Could not override 'algo['@]", message):
        name = next(word for word in overrides if word.startswith("algo"))
        return f"write +{name}: the algorithm has no default, so Hydra wants the plus sign"
    if match := re.search(r"Could not override '([^']+)'", message):
        return f"unknown key {match[1]!r}{_hint(match[1], overrides)}"
    if match := re.search(r"Error parsing override '([^']*)'", message):
        return f"cannot read {match[1]!r}; write KEY=VALUE"
    while error.__cause__ is not None:  # What Hydra met says more than its own words.
        error = error.__cause__
    return _of_omegaconf(error) if isinstance(error, OmegaConfBaseException) else " ".join(str(error).split())[:300]


def _of_omegaconf(error: OmegaConfBaseException) -> str:
    """What OmegaConf says, with the key in front."""
    first, key = str(error).splitlines()[0], str(error.full_key or error.key or "")
    if re.search(r"Key '.*' not in", first):
        group = key.rpartition(".")[0]
        schema = error.object_type
        known = ", ".join(getattr(schema, "__dataclass_fields__", {}))
        first = f"there is no such key; {group or 'the configuration'} has {known}"
    elif "missing mandatory" in first.lower():
        first = "a value is needed"
    return f"{key}: {first}"[:500]


def _strange(config: DictConfig) -> Iterator[str]:
    """Keys that no dataclass knows, which `+KEY=VALUE` may append; the nearest that it knows with them."""
    known = {each.name for each in fields(schema)} if is_dataclass(schema := OmegaConf.get_type(config)) else None
    for key in config:
        if known is not None and key not in known:
            yield f"{config._get_full_key(key)}: there is no such key; there are {', '.join(sorted(known))}"
        elif isinstance(child := config._get_node(key), DictConfig) and not child._is_none():
            yield from _strange(child)


def _hint(key: str, overrides: Sequence[str]) -> str:
    """The key that may have been meant: the nearest, one that ends so, or one whose initials these are (`lr`)."""
    known = _known_keys([word for word in overrides if word.partition("=")[0].lstrip("+") in CHOICES])
    leaf, leaves = key.rpartition(".")[2], {each: each.rpartition(".")[2] for each in known}
    near = [each for each, own in leaves.items() if leaf in (own, "".join(part[:1] for part in own.split("_")))]
    near = near or difflib.get_close_matches(key, [*known, *CHOICES], n=1, cutoff=0.6)
    near = near or [
        each for own in difflib.get_close_matches(leaf, leaves.values(), n=1) for each in known if leaves[each] == own
    ]
    return f"; did you mean {near[0]}?" if near else "; `run +algo=NAME --cfg job` lists the keys"


def _known_keys(overrides: Sequence[str]) -> list[str]:
    """All settings, those of the algorithm first."""
    try:
        config = compose_config(overrides)
    except BadInput:
        return []  # The groups are what is wrong.

    def leaves(node: DictConfig) -> Iterator[str]:
        for name in node:
            child = node._get_node(name)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                yield from leaves(child)
            else:
                yield node._get_full_key(name)

    return sorted(leaves(config), key=lambda key: not key.startswith("algo."))


def check_config(config: DictConfig, handed: Mapping[str, type[Any]] = MappingProxyType({})) -> RunConfig:
    """Make dataclasses of a configuration, which check their values. Nothing heavy is loaded but the plugins' modules.

    Args:
        config: as Hydra composed it.
        handed: classes for `algo` or `task` that are used as they are instead of being found by name.

    Raises:
        BadInput: no algorithm, a wrong type, a missing value or one out of range; the key is named.
    """
    if OmegaConf.is_missing(config, "algo"):
        raise BadInput(f"which algorithm? Add +algo=NAME. There are: {', '.join(options('algo'))}")
    for group in ("algo", "task", "policy", "budget", "evaluate", "batch", "results"):
        try:
            there = isinstance(OmegaConf.select(config, group, throw_on_missing=False), DictConfig)
        except OmegaConfBaseException as error:
            raise BadInput(_of_omegaconf(error)) from None
        require(there, f"{group} must be a group of settings: leave out the word that deletes or replaces it")
    for strange in _strange(config):
        raise BadInput(strange)
    settings = as_dataclass(config)
    plugins = {group: chosen_plugin(config, group) for group in ("algo", "task") if group not in handed}
    classes = {**handed, **{group: load(plugin) for group, plugin in plugins.items()}}
    groups = {name: found for name in ("algo", *GROUPS) if (found := getattr(settings, name)) is not None}
    for name in NAMED:
        _check_name(name, groups[name].name)
    for name in ("algo", "task"):
        fits = isinstance(groups[name], classes[name].Config)
        require(fits, f"{name}.name={groups[name].name} names another {name} than was chosen: leave it out")
    refuse_namesake("policy", settings.policy.name)
    # Without adapter and warm start a run is what it was before there were such options, and keeps its name.
    resolved = {name: asdict(group) for name, group in groups.items()} | {"seed": settings.seed}
    foreign = {group: identity(plugin, classes[group]) for group, plugin in plugins.items()}
    if any(foreign.values()):
        resolved["plugins"] = {group: about for group, about in foreign.items() if about}
    return RunConfig(
        **vars(settings),
        algorithm_class=classes["algo"],
        task_class=classes["task"],
        resolved=redacted(json.loads(json.dumps(resolved, default=str))),
    )


def as_dataclass(config: DictConfig) -> Any:
    """A typed configuration as an instance of its dataclass, references replaced by what they refer to.

    Raises:
        BadInput: a wrong type, a missing value, or a value out of range.
    """
    try:
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise BadInput(_of_omegaconf(error)) from None


def _check_name(group: str, name: str) -> None:
    message = (
        f"{group}.name={name[:100]!r} must be letters, digits, _ . or -, at most 80: a folder's name is made of it"
    )
    require(RUN_NAME.fullmatch(name) is not None, message)


def chosen_plugin(config: DictConfig, group: str) -> Plugin:
    """The algorithm or the task that a composed configuration names.

    Raises:
        BadInput: see `benchmarks.config.plugins.find`.
    """
    try:
        file, name = OmegaConf.select(config, f"files.{group}"), str(config[group].name)
    except OmegaConfBaseException as error:
        raise BadInput(f"{group}.name: {str(error).splitlines()[0]}") from None
    return find(KINDS[group], name) if file is None else from_file(KINDS[group], file)
