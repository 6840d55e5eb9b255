"""The presets in conf/ and the dataclasses that they depart from."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks.config.budget import BudgetConfig
from benchmarks.config.plugins import BUILT_IN, KINDS, installed
from benchmarks.config.presets import CONF, options, presets
from benchmarks.config.schema import GROUPS, check_config, compose_config
from benchmarks.config.settings import EvaluateConfig, WarmStartConfig
from policies.adapter import AdapterConfig
from policies.source import PolicyConfig
from tasks.errors import BadInput

PRESETS = [(group, name) for group in ("algo", *GROUPS) for name in options(group)]
SCHEMAS = {
    "policy": PolicyConfig,
    "budget": BudgetConfig,
    "evaluate": EvaluateConfig,
    "adapter": AdapterConfig,
    "warmstart": WarmStartConfig,
}


@pytest.mark.parametrize(("group", "name"), [preset for preset in PRESETS if preset != ("policy", "path")])
def test_every_preset_passes_its_check_and_is_called_as_it_is_chosen(group: str, name: str) -> None:
    words = [f"+algo={name}" if group == "algo" else "+algo=grpo", *([] if group == "algo" else [f"{group}={name}"])]
    config = getattr(check_config(compose_config(words)), group)
    assert config is None if name == "none" else config.name == name


def test_algorithms_and_tasks_have_no_yaml_of_ours_and_are_all_found() -> None:
    for group in ("task", "algo"):
        ours = {name for name, claims in installed(KINDS[group]).items() if claims[0].origin == BUILT_IN}
        assert presets(group) == []
        assert ours <= set(options(group))


@pytest.mark.parametrize(("group", "path"), [(g, path) for g in SCHEMAS for path in sorted((CONF / g).glob("*.yaml"))])
def test_a_preset_states_departures_from_its_dataclass_alone(group: str, path: Path) -> None:
    own = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(own, dict)
    own = own.get(group) or ({} if path.stem == "none" else own)
    defaults = {name: each.default for name, each in SCHEMAS[group].__dataclass_fields__.items()}
    assert [key for key, value in own.items() if key != "name" and value == defaults[str(key)]] == []


def test_shared_settings_reach_an_algorithm_that_does_not_set_them_itself() -> None:
    words = ["policy.learning_rate=5e-5", "batch.problems=3", "batch.group_size=5", "policy.micro_batch_size=7"]
    algo = check_config(compose_config(["+algo=fork_grpo", *words, "algo.group_size=2"])).algo
    assert (algo.learning_rate, algo.problems_per_update, algo.group_size, algo.micro_batch_size) == (5e-5, 3, 2, 7)


@pytest.mark.parametrize(("word", "expected"), [("no", False), ("off", False), ("false", False), ("yes", True)])
def test_force_means_what_it_says(word: str, expected: bool) -> None:
    assert check_config(compose_config(["+algo=base", f"force={word}"])).force is expected


def test_force_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(BadInput, match="force: Value 'maybe'"):
        compose_config(["+algo=base", "force=maybe"])
