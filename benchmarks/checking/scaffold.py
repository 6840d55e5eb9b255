"""`new algo NAME`: the project of a new algorithm, made to run, to pass its tests and to be changed."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from benchmarks.config.plugins import installed
from tasks.errors import BadInput, require
from tasks.files import located

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

MODULE = '''"""{name}: REINFORCE with a leave-one-out baseline. Say here what yours is, its source, and its formula.

Source: arXiv 2402.14740 (RLOO).

    A_i = R_i - mean over the other rollouts of the group of R,    R_i = sum over turns and components of w_k r_{{i,k}}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.policy_gradient import PolicyGradient, PolicyGradientConfig
from tasks.errors import require

if TYPE_CHECKING:
    import torch
    from algorithms.batch import RolloutBatch


@dataclass(kw_only=True)
class {class_name}Config(PolicyGradientConfig):
    """Every setting has a type and a default; `algo.KEY=VALUE` sets it."""

    name: str = "{name}"
    baseline: float = 1.0
    """How much of the baseline is taken off; 0 is plain REINFORCE."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.baseline <= 1, f"algo.baseline={{self.baseline:g}} must be from 0 to 1")


class {class_name}(PolicyGradient):
    """REINFORCE, leave one out."""

    Config = {class_name}Config
    config: {class_name}Config

    def credit(self, batch: RolloutBatch) -> torch.Tensor:
        """Advantages float32 [rollouts]; [rollouts, tokens] would do as well."""
        scores = (batch.rewards * batch.weights).sum(1).view(-1, batch.group_size)
        others = (scores.sum(1, keepdim=True) - scores) / (batch.group_size - 1)
        return (scores - self.config.baseline * others).flatten()
'''

TEST = '''"""{name} keeps the benchmark's rules, and its credit is what its formula says."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from benchmarks.checking.conformance import check_algorithm

from {name} import {class_name}, {class_name}Config


def test_it_keeps_the_rules() -> None:
    check_algorithm({class_name})


def test_each_rollout_is_compared_with_the_others_of_its_group() -> None:
    rewards = torch.tensor([[1.0], [0.0], [0.5], [0.5]])
    batch = SimpleNamespace(rewards=rewards, weights=torch.tensor([2.0]), group_size=2)
    assert {class_name}({class_name}Config()).credit(batch).tolist() == [2.0, -2.0, 0.0, 0.0]
'''

PROJECT = """[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{package}"
version = "0.1.0"
description = "{class_name} for grpo-bench"
requires-python = ">=3.11"
dependencies = ["grpo-bench"]

[project.entry-points."grpo_bench.algorithms"]
{name} = "{name}:{class_name}"

[tool.hatch.build.targets.wheel]
only-include = ["{name}.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
"""


def new_algorithm(name: str, folder: Path) -> list[Path]:
    """Write `folder/name/`: the algorithm, its test and its pyproject.toml.

    Returns:
        The files written.

    Raises:
        BadInput: a name that cannot be a module's or is taken, a folder that is there already or cannot be written.
    """
    require(NAME.fullmatch(name) is not None, f"{name!r}: a name is small letters, digits and _, a letter first")
    require(not keyword.iskeyword(name) and name not in sys.builtin_module_names, f"{name!r} is a word of Python's own")
    require(name not in installed("algorithms"), f"there is an algorithm {name} already; `list` shows the names")
    home = located(str(folder), "--dir") / name
    require(not home.exists(), f"{home} is there already; nothing was written")
    require(importlib.util.find_spec(name) is None, f"there is a Python module {name} already; take another name")
    words = {
        "name": name,
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "package": f"grpo-bench-{name.replace('_', '-').strip('-')}",
    }
    files = {f"{name}.py": MODULE, f"tests/test_{name}.py": TEST, "pyproject.toml": PROJECT}
    try:
        (home / "tests").mkdir(parents=True)
        for file, template in files.items():
            (home / file).write_text(template.format(**words), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{home}: cannot write there ({error.strerror}); give a writable folder: --dir DIR") from None
    return [home / file for file in files]
