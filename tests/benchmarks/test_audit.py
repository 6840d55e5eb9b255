"""Players that cannot do a task are found where they score all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import faulty_tasks
import pytest

from benchmarks.checking.audit import PLAYERS, audit, faults
from benchmarks.config.plugins import BUILT_IN, installed, load


class NamedAnywhere(faulty_tasks.Echo):
    class episode(faulty_tasks.EchoEpisode):
        def right(self, action: str) -> bool:
            return self.answer in action


class PromptSolves(faulty_tasks.Echo):
    class episode(faulty_tasks.EchoEpisode):
        def right(self, action: str) -> bool:
            return action.startswith(("Backwards", "Not so")) or super().right(action)


class OneAnswerForAll(faulty_tasks.Echo):
    class episode(faulty_tasks.EchoEpisode):
        def right(self, action: str) -> bool:
            return " " in action and "." not in action and ":" not in action and "\n" not in action


@pytest.mark.parametrize(
    ("task", "player", "says"),
    [
        (NamedAnywhere, "names many", "solves 100%"),
        (PromptSolves, "copies", "solves 100%"),
        (OneAnswerForAll, "guesses", "solves 100%"),
        (faulty_tasks.BlankSolves, "quits", "solves 100%"),
        (faulty_tasks.PaysForLosing, "refuses", "scores 1.200, and the oracle 1.000"),
        (faulty_tasks.WrongOracle, "oracle", "the oracle solves 0%"),
    ],
)
def test_a_planted_fault_is_found_with_the_player_who_profits(
    task: type[faulty_tasks.Echo], player: str, says: str
) -> None:
    found = faults(audit(task(faulty_tasks.EchoConfig()), 20))
    assert any(player in problem and says in problem for problem in found), found


def test_an_honest_task_has_no_fault() -> None:
    found = audit(faulty_tasks.Echo(faulty_tasks.EchoConfig()), 20)
    assert faults(found) == []
    assert list(found) == list(PLAYERS)
    assert (found["oracle"].solved, found["oracle"].turns, found["quits"].turns) == (1, 1, 2)


@pytest.mark.parametrize(
    "name",
    [name for name, claims in installed("tasks").items() if claims[0].origin == BUILT_IN and name != "gsm8k"],
)
def test_our_own_tasks_have_no_fault(name: str) -> None:
    task = load(installed("tasks")[name][0])
    assert faults(audit(task(task.Config()), 50)) == []


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "audit", *words], capture_output=True, text=True, timeout=300
    )


def test_the_command_has_a_line_a_player_and_exit_code_1_for_a_fault() -> None:
    source = Path(faulty_tasks.__file__)
    good, bad = command(f"task={source}:Echo"), command(f"task={source}:BlankSolves")
    assert good.returncode == 0, good.stderr
    assert len(good.stdout.splitlines()) == 1 + len(PLAYERS)
    assert bad.returncode == 1
    assert "BROKEN  quits (nothing at all) solves 100%" in bad.stdout


@pytest.mark.parametrize("words", [[], ["task=wordel"], ["+algo=grpo"], ["task=wordle", "--deep"]])
def test_a_wrong_request_is_one_line_and_exit_code_2(words: list[str]) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
