"""What a session says is left of its budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.schema import check_config, compose_config
from benchmarks.running.session import RunSession


def test_a_session_says_what_is_left_of_the_limits_that_are_set() -> None:
    config = check_config(compose_config(["+algo=grpo", "budget=quick", "budget.rollouts=10"]))
    unused: Any = None
    session = RunSession(config, policy=unused, task=unused, record=unused, progress=unused, scratch=Path())
    assert session.remaining() == {"flops": 2e12, "rollouts": 10}
    session.charge("rollout", rollouts=4, flops=5e11)
    session.charge("evaluate", rollouts=100)
    assert session.remaining() == pytest.approx({"flops": 1.5e12, "rollouts": 6})
