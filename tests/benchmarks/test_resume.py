"""A run that is broken off at any moment goes on with the same command to the same result."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_off import Killed, dies, outcome, run_on

from benchmarks.session import RunSession

ALGORITHMS = {
    "grpo": ("+algo=grpo", "budget.updates=3"),
    "vector_grpo with value heads": ("+algo=vector_grpo", "algo.baseline=heads", "budget.updates=3"),
    "feedback_grpo": ("+algo=feedback_grpo", "algo.mode=refine", "algo.shuffled=true", "budget.updates=3"),
    "fork_grpo": ("+algo=fork_grpo", "task=wordle_turn", "task.max_turns=2", "budget.updates=3"),
    "gepa": ("+algo=gepa", "algo.valset_size=4", "algo.minibatch_size=2", "budget.updates=6"),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_that_dies_in_an_update_goes_on_to_the_same_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ALGORITHMS[name]
    whole = outcome(run_on(tmp_path / "whole", *words))
    for at in (2, 2):
        with monkeypatch.context() as patched:
            patched.setattr(RunSession, "step", dies(at, RunSession.step))
            patched.setattr("benchmarks.run.end", lambda record, session, error: error)
            with pytest.raises(Killed):
                run_on(tmp_path / "broken", *words)
    assert outcome(run_on(tmp_path / "broken", *words)) == whole
