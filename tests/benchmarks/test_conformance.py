"""Every planted fault is found under its own name, honest plugins pass, and so does everything of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import faulty_algorithms as algorithms
import faulty_tasks as tasks
import pytest

from benchmarks.checking.conformance import algorithm_violations, check_algorithm, check_task, task_violations
from benchmarks.checking.rules import ALGORITHM_RULES, TASK_RULES, NotConforming
from benchmarks.config.plugins import BUILT_IN, installed
from tasks.errors import BadInput

FAST = "task.max_action_tokens=24"


@pytest.mark.parametrize(
    ("algorithm", "rule", "says"),
    [
        (algorithms.PeeksAtVal, "splits", "val"),
        (algorithms.StartsATestProblem, "splits", "test"),
        (algorithms.IgnoresTheBudget, "budget", "after update 2"),
        (algorithms.SwallowsEverything, "budget", "after update 2"),
        (algorithms.Unseeded, "repeatable", "session.rng"),
        (algorithms.UnseededTorch, "repeatable", "session.rng"),
        (algorithms.WrongShape, "advantages", "shape (8, 1)"),
        (algorithms.NotANumber, "advantages", "not finite"),
        (algorithms.NanUpdate, "finite", "after update 1"),
        (algorithms.ForgetsItsCount, "resumes", "another end"),
        (algorithms.CountsAcrossRuns, "isolation", "CountsAcrossRuns.updates"),
        (algorithms.KeepsTheFirstPolicy, "isolation", "policy of the first"),
        (algorithms.RewardsItself, "isolation", "the task"),
        (algorithms.PlaysBehindTheSession, "costs", "session.play"),
        (algorithms.SamplesByHand, "costs", "session.charge"),
        (algorithms.TrainsUnbooked, "costs", "trained without booking"),
        (algorithms.EncodesAgain, "tokens", "encoded again"),
        (algorithms.RewritesRollouts, "tokens", "changed the tokens"),
        (algorithms.Crashes, "runs", "no credit today"),
        (algorithms.HalfTyped, "config", "momentum has no type"),
        (algorithms.Anything, "config", "schedule has the type Any"),
        (algorithms.Untyped, "config", "no dataclass"),
    ],
)
def test_a_planted_fault_of_an_algorithm_is_found(algorithm: type[Any], rule: str, says: str) -> None:
    violations = algorithm_violations(algorithm, FAST)
    assert {each.rule for each in violations} == {rule}, violations
    assert says in " ".join(each.problem for each in violations)


@pytest.mark.parametrize("algorithm", [algorithms.Honest, algorithms.Resumable])
def test_an_honest_algorithm_keeps_every_rule(algorithm: type[Any]) -> None:
    check_algorithm(algorithm, FAST)


def test_an_algorithm_whose_setting_has_no_default_is_named_with_the_key() -> None:
    with pytest.raises(BadInput, match=r"algo\.horizon: a value is needed"):
        check_algorithm(algorithms.Demanding)


@pytest.mark.parametrize(
    ("task", "rule", "says"),
    [
        (tasks.WrongOracle, "oracle", "does not solve"),
        (tasks.TestProblemsInTrain, "splits", "asks and answers the same"),
        (tasks.ShuffledSplits, "stable", "another order"),
        (tasks.SplitByHash, "stable", "another process"),
        (tasks.BeyondItsRange, "ranges", "right is 2"),
        (tasks.MoodyReferee, "deterministic", "two ways"),
        (tasks.TellsTheAnswer, "feedback", "holds the answer"),
        (tasks.ShowsFeedback, "feedback", "shows the feedback"),
        (tasks.PaysForGivingUp, "ending", "giving up"),
        (tasks.PaysForDawdling, "ending", "a turn later"),
        (tasks.PaysForLosing, "ending", "loses and scores"),
        (tasks.ChokesOnJunk, "junk", "ValueError"),
        (tasks.HangsOnJunk, "junk", "takes"),
        (tasks.BlankSolves, "junk", "solves"),
        (tasks.NeverEnds, "shape", "goes on"),
        (tasks.NamesNoComponent, "shape", "components"),
        (tasks.ShapelessTask, "config", "hardness has no type"),
    ],
)
def test_a_planted_fault_of_a_task_is_found(task: type[Any], rule: str, says: str) -> None:
    violations = task_violations(task)
    assert rule in {each.rule for each in violations}, violations
    assert says in " ".join(each.problem for each in violations if each.rule == rule)


def test_an_honest_task_keeps_every_rule() -> None:
    check_task(tasks.Echo)


def test_what_is_broken_is_listed_rule_by_rule() -> None:
    with pytest.raises(NotConforming) as caught:
        check_task(tasks.WrongOracle)
    assert str(caught.value).splitlines()[0] == "task WrongOracle breaks:"
    assert "oracle: echo/amber amber" in str(caught.value)


def ours(kind: Any) -> list[str]:
    return [name for name, claims in installed(kind).items() if claims[0].origin == BUILT_IN]


@pytest.mark.slow
@pytest.mark.parametrize("name", ours("algorithms"))
def test_our_own_algorithms_keep_every_rule(name: str) -> None:
    check_algorithm(name, FAST)


@pytest.mark.parametrize("name", [name for name in ours("tasks") if name != "gsm8k"])
def test_our_own_tasks_keep_every_rule(name: str) -> None:
    check_task(name)


def test_gsm8k_keeps_every_rule(tmp_path: Path) -> None:
    for file, first in (("train", 100), ("test", 500)):
        rows = [
            {
                "question": f"{n} and {n + 3}?",
                "answer": f"{n}+{n + 3}=<<{n}+{n + 3}={2 * n + 3}>>{2 * n + 3}\n#### {2 * n + 3}",
            }
            for n in range(first, first + 120)
        ]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    check_task("gsm8k", f"task.path={tmp_path}", "task.val=0.2")


def check(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "check", *words], capture_output=True, text=True, timeout=300, cwd=folder
    )


def test_the_command_says_of_every_rule_whether_it_holds(tmp_path: Path) -> None:
    source = Path(__file__).with_name("faulty_tasks.py").read_text()
    (tmp_path / "mine.py").write_text(source)
    good = check("task=mine.py:Echo", folder=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    assert [line.split()[:2] for line in good.stdout.splitlines()[1:]] == [["ok", rule] for rule in TASK_RULES]
    bad = check("task=mine.py:TellsTheAnswer", folder=tmp_path)
    assert bad.returncode == 1, bad.stderr
    assert "BROKEN  feedback" in bad.stdout
    assert "it would have been" in bad.stdout


@pytest.mark.slow
def test_an_algorithm_in_a_file_is_checked_on_the_task_that_is_named(tmp_path: Path) -> None:
    source = Path(__file__).with_name("faulty_algorithms.py").read_text()
    (tmp_path / "mine.py").write_text(source)
    bad = check("+algo=mine.py:PeeksAtVal", "task=gsm_synth", folder=tmp_path)
    assert bad.returncode == 1, bad.stderr
    assert "BROKEN  splits" in bad.stdout
    shown = [line.split()[1] for line in bad.stdout.splitlines() if line.startswith(("  ok", "  BROKEN"))]
    assert shown == [*TASK_RULES, *ALGORITHM_RULES]


@pytest.mark.parametrize("words", [[], ["+algo=nonsense"], ["task=wordel"], ["-m", "+algo=grpo"], ["seed=1"]])
def test_a_wrong_request_is_one_line_and_exit_code_2(words: list[str], tmp_path: Path) -> None:
    done = check(*words, folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
