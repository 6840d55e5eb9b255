"""Presets: the YAML files in conf/, and for plugins what their own Config and their own YAML say.

A plugin's preset states every field of its Config. Policy-gradient algorithms refer to the same shared settings as
ours, wherever they keep PolicyGradientConfig's default: batch sizes and the policy's learning rate are equal for all.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from algorithms.policy_gradient import PolicyGradientConfig
from benchmarks.config.plugins import (
    BUILT_IN,
    KINDS,
    Plugin,
    find,
    from_file,
    installed,
    is_file_choice,
    load,
    source_file,
    unknown,
)
from policies.source import PolicyConfig
from tasks.errors import BadInput, require

CONF = Path(__file__).resolve().parents[2] / "conf"
SHARED = {
    "learning_rate": "${policy.learning_rate}",
    "problems_per_update": "${batch.problems}",
    "group_size": "${batch.group_size}",
    "micro_batch_size": "${policy.micro_batch_size}",
    "gradient_checkpointing": "${batch.gradient_checkpointing}",
}
"""What the presets of our policy-gradient algorithms refer to."""


def presets(group: str) -> list[str]:
    """Names of our presets of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def plain_values(group: str, name: str) -> dict[str, Any]:
    """What one of our presets sets itself, without references to other groups; nothing where there is none."""
    if name not in presets(group):
        return {}
    values = _own_yaml(CONF / group / f"{name}.yaml")
    plain = (str, int, float, bool, type(None))
    return {
        str(key): value
        for key, value in values.items()
        if isinstance(value, plain) and not (isinstance(value, str) and value.startswith("${"))
    }


def options(group: str) -> list[str]:
    """Names that a group can be set to: our presets, and what is installed."""
    plugins = installed(KINDS[group]) if group in KINDS else {}
    return sorted({*presets(group), *plugins})


def hydra_choice(group: str, choice: str) -> str:
    """The name under which Hydra finds a choice; a plugin's preset is handed to Hydra first.

    Raises:
        BadInput: no such name or file, or the plugin is broken or not the only one of its name.
    """
    stored = f"{choice}.yaml" in ConfigStore.instance().repo.get(group, {})
    if group in KINDS and is_file_choice(choice):
        plugin = from_file(KINDS[group], choice)
        content = hashlib.sha256(Path(plugin.target.rpartition(":")[0]).read_bytes()).hexdigest()[:8]
        return store(group, plugin, f"{plugin.name}.{content}")
    if group in KINDS and choice in installed(KINDS[group]):
        plugin = named(group, choice)
        return choice if plugin.origin == BUILT_IN and choice in presets(group) else store(group, plugin, choice)
    if choice not in presets(group) and not stored:
        raise BadInput(unknown({"algo": "algorithm"}.get(group, group), choice, options(group)))
    return choice


def named(group: str, name: str) -> Plugin:
    """The installed plugin of a name.

    Raises:
        BadInput: see `benchmarks.config.plugins.find`; or one of our presets has that name too.
    """
    plugin = find(KINDS[group], name)
    ours = name in presets(group) and plugin.origin != BUILT_IN
    require(not ours, f"{plugin} has the name of our preset conf/{group}/{name}.yaml; rename or uninstall it")
    return plugin


def store(group: str, plugin: Plugin, option: str) -> str:
    """Hand a plugin's preset to Hydra under this name, and remember in it which file it came from."""
    node: dict[str, Any] = {group: plugin_preset(plugin)}
    if plugin.is_file:
        node["files"] = {group: plugin.target}
    ConfigStore.instance().store(group=group, name=option, node=node, package="_global_")
    return option


def store_class(group: str, found: Any) -> str:
    """Hand the preset of a class that has no name of its own to Hydra; returns the name that it got."""
    option = f"class.{found.__name__}"
    node = class_preset(found) | {"name": found.__name__}
    ConfigStore.instance().store(group=group, name=option, node=node, package=group)
    return option


def plugin_preset(plugin: Plugin) -> dict[str, Any]:
    """Every setting of a plugin with its default; `???` where there is none.

    Raises:
        BadInput: the plugin is broken, or its YAML is no mapping.
    """
    found = load(plugin)
    values = policy_values(plugin, found) if plugin.kind == "policies" else class_preset(found)
    if not plugin.is_file and (source := source_file(found)):
        values |= _own_yaml(source.with_name(f"{plugin.name}.yaml"))
    return values | {"name": plugin.name}


def class_preset(found: Any) -> dict[str, Any]:
    """The defaults of a class's Config, with references to the shared settings."""
    schema = found.Config
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.structured(schema), enum_to_str=True)  # type: ignore
    if issubclass(schema, PolicyGradientConfig):
        own, base = ({field.name: field.default for field in fields(each)} for each in (schema, PolicyGradientConfig))
        values |= {key: reference for key, reference in SHARED.items() if own[key] == base[key] != MISSING}
    return values


def policy_values(plugin: Plugin, found: Any) -> dict[str, Any]:
    """What a policy's function returns, as plain values."""
    try:
        config = found()
    except Exception as error:  # a stranger's function may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"{plugin} cannot be used: {reason}") from error
    require(isinstance(config, PolicyConfig), f"{plugin} cannot be used: it returned no policies.source.PolicyConfig")
    return asdict(config)


def _own_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML and OmegaConf raise a dozen kinds
        raise BadInput(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    require(isinstance(values, dict), f"{path}: must hold KEY: VALUE lines")
    return values  # type: ignore[return-value]
