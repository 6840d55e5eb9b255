"""What can be chosen by name: YAML files in conf/, and for algorithms, tasks and policies what is installed or a file.

A plugin is a group's option for Hydra as a YAML file is: `plugins://` stands in its search path, and answers with the
plugin's dataclass. A package may lay NAME.yaml beside its module, with departures from it.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmarks.config.plugins import KINDS, Kind, Plugin, find, from_file, installed, is_file_choice, load, source_file
from benchmarks.config.settings import Settings
from policies.source import PolicyConfig
from tasks.errors import BadInput, require

CONF = Path(__file__).resolve().parents[2] / "conf"
SOURCE = "plugins"
SHARED = "shared"
"""Key of a field's metadata: the setting that it follows in a run, unless it is set itself or a subclass changes it."""


def presets(group: str) -> list[str]:
    """Names of our YAML files of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def options(group: str) -> list[str]:
    """Names that a group can be set to: our presets, and what is installed."""
    plugins = installed(KINDS[group]) if group in KINDS else {}
    return sorted({*presets(group), *plugins})


def chosen(group: str, choice: str) -> Plugin:
    """The plugin that a choice names, by its name or as FILE.py:CLASS.

    Raises:
        BadInput: see `benchmarks.config.plugins.find` and `from_file`.
    """
    return from_file(KINDS[group], choice) if is_file_choice(choice) else find(KINDS[group], choice)


def refuse_namesake(group: str, name: str) -> None:
    """Refuse a plugin that conf/ hides.

    Raises:
        BadInput: one of our presets has its name.
    """
    if name in presets(group):
        for plugin in installed(KINDS[group]).get(name, ()):
            raise BadInput(f"{plugin} has the name of our preset conf/{group}/{name}.yaml; rename or uninstall it")


def plugin_node(plugin: Plugin) -> DictConfig:
    """A plugin's settings with their defaults.

    Raises:
        BadInput: the plugin is broken, or its YAML does not fit.
    """
    found = load(plugin)
    node = _policy_node(plugin, found) if plugin.kind == "policies" else class_node(found)
    if not plugin.is_file and (source := source_file(found)):
        node = _with_yaml(node, source.with_name(f"{plugin.name}.yaml"), plugin)
    node.name = plugin.name
    return node


def class_node(found: Any) -> DictConfig:
    """The defaults of a class's Config, with references where its fields follow shared settings."""
    node: DictConfig = OmegaConf.structured(found.Config)
    for each in fields(found.Config):
        if SHARED in each.metadata:
            node[each.name] = f"${{{each.metadata[SHARED]}}}"
    return node


@cache
def own_defaults(kind: Kind, name: str) -> dict[str, Any]:
    """An installed plugin's defaults, of settings that follow no other one; empty where it cannot be loaded."""
    try:
        schema = load(find(kind, name)).Config
    except BadInput:
        return {}
    own = (each for each in fields(schema) if SHARED not in each.metadata and each.name != "name")
    return {each.name: each.default for each in own if each.default is not MISSING}


def store_class(group: str, found: Any) -> str:
    """Make a class that has no name of its own an option of a group; returns the name that it got."""
    option = f"class.{found.__name__}"
    node = class_node(found)
    node.name = found.__name__
    ConfigStore.instance().store(group=group, name=option, node=node)
    return option


def _policy_node(plugin: Plugin, found: Any) -> DictConfig:
    try:
        config = found()
    except Exception as error:  # a stranger's function may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"{plugin} cannot be used: {reason}") from error
    require(isinstance(config, PolicyConfig), f"{plugin} cannot be used: it returned no policies.source.PolicyConfig")
    node: DictConfig = OmegaConf.structured(config)
    return node


def _with_yaml(node: DictConfig, path: Path, plugin: Plugin) -> DictConfig:
    if not path.is_file():
        return node
    try:
        return OmegaConf.merge(node, OmegaConf.load(path))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        group = next(group for group, kind in KINDS.items() if kind == plugin.kind)
        raise BadInput(f"{path}: {group}.{error.full_key}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # YAML raises a dozen kinds
        raise BadInput(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None


class PluginSource(ConfigSource):
    """Algorithms, tasks and policies that are installed, or files, as options of Hydra's groups."""

    @staticmethod
    def scheme() -> str:
        """What stands before :// in Hydra's search path."""
        return SOURCE

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether plugins are options of this group."""
        return config_path.rstrip("/") in KINDS

    def is_config(self, config_path: str) -> bool:
        """Whether GROUP/CHOICE is a plugin's, broken or not."""
        group, _, choice = config_path.removesuffix(".yaml").partition("/")
        return group in KINDS and (is_file_choice(choice) or choice in installed(KINDS[group]))

    def load_config(self, config_path: str) -> ConfigResult:
        """The plugin's settings.

        Raises:
            BadInput: it is broken, or not the only one of its name.
        """
        group, _, choice = config_path.removesuffix(".yaml").partition("/")
        plugin = chosen(group, choice)
        config, package = plugin_node(plugin), group
        if plugin.is_file:
            config = OmegaConf.create({group: config, "files": {group: plugin.target}})
            package = "_global_"
        return ConfigResult(SOURCE, f"{SOURCE}://", config, {"package": package})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names of the plugins of a group."""
        group = config_path.rstrip("/")
        return sorted(installed(KINDS[group])) if group in KINDS and results_filter != ObjectType.GROUP else []


@cache
def register() -> None:
    """Tell Hydra of the plugins and of the root of the configuration."""
    Plugins.instance().register(PluginSource)
    ConfigStore.instance().store(name="settings", node=Settings)
