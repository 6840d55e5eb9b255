"""The presets in conf/ and the dataclasses that check them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from benchmarks.config.plugins import BUILT_IN, KINDS, installed, load_class
from benchmarks.config.presets import presets
from benchmarks.config.schema import ADAPTERS, GROUPS, WARM_STARTS, check_config, compose_config
from benchmarks.running.budget import BudgetConfig
from benchmarks.running.evaluation import EvaluateConfig
from policies.source import PolicyConfig

PRESETS = [(group, name) for group in ("algo", *GROUPS) for name in presets(group)]


@pytest.mark.parametrize(("group", "name"), PRESETS)
def test_every_preset_states_every_setting_so_that_each_can_be_overridden(group: str, name: str) -> None:
    config = compose_config([f"+algo={name}" if group == "algo" else "+algo=grpo", *_choose(group, name)])
    schema = {
        "budget": BudgetConfig,
        "evaluate": EvaluateConfig,
        "policy": PolicyConfig,
        "adapter": ADAPTERS.get(name),
        "warmstart": WARM_STARTS.get(name),
    }.get(group) or load_class("tasks" if group == "task" else "algorithms", name).Config
    assert set(config[group]) == {field.name for field in fields(schema)}
    assert config[group].name == name


@pytest.mark.parametrize(("group", "name"), [preset for preset in PRESETS if preset != ("policy", "path")])
def test_every_preset_passes_its_check(group: str, name: str) -> None:
    words = [f"+algo={name}" if group == "algo" else "+algo=grpo", *_choose(group, name)]
    assert check_config(compose_config(words))


def test_every_installed_task_and_algorithm_of_ours_has_a_preset() -> None:
    for group in ("task", "algo"):
        plugins = installed(KINDS[group])
        ours = {name for name, claims in plugins.items() if BUILT_IN in {plugin.origin for plugin in claims}}
        assert set(presets(group)) == ours


def _choose(group: str, name: str) -> list[str]:
    return [] if group == "algo" else [f"{group}={name}"]
