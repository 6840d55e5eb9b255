"""A slice of fuzz.py: everything that reads a stranger's bytes, on its seeds and a few inputs near to them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from targets import TARGETS, Target

FAST = {name: target for name, target in TARGETS.items() if not target.slow}


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with pieces cut out, and tokens or any bytes put in."""
    pieces = st.sampled_from([token.encode() for token in target.tokens] or [b"\0"]) | st.binary(max_size=8)
    ends = st.tuples(
        st.sampled_from(target.seeds), st.integers(0, 60), st.integers(0, 60), st.lists(pieces, max_size=6)
    )
    return ends.map(lambda drawn: drawn[0][: drawn[1]] + b"".join(drawn[3]) + drawn[0][drawn[2] :])


def test_there_are_a_million_inputs_and_more() -> None:
    assert sum(target.inputs for target in TARGETS.values()) >= 1_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_raise_no_error_but_the_one_meant_for_them(name: str) -> None:
    for data in TARGETS[name].seeds:
        TARGETS[name].parse(data)


@pytest.mark.parametrize("name", FAST)
def test_inputs_near_the_seeds_raise_no_error_but_the_one_meant_for_them(name: str) -> None:
    target = FAST[name]

    @seed(1)
    @settings(max_examples=60, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(inputs(target))
    def hold(data: bytes) -> None:
        target.parse(data)

    hold()
