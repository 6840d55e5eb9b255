"""gsm_fields and gsm_turns: several questions in one problem."""

from __future__ import annotations

import pytest

from tasks.api import SPLITS, FeedbackLevel, RewardMode, Task
from tasks.errors import BadInput
from tasks.gsm_fields import GsmFields, GsmFieldsConfig
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.gsm_turns import GsmTurns, GsmTurnsConfig
from tasks.wordle import Wordle, WordleConfig

SIZES = (1, 2, 4, 8, 12)


def tasks() -> list[Task]:
    fields: list[Task] = [GsmFields(GsmFieldsConfig(fields=size, count=200)) for size in SIZES]
    return fields + [GsmTurns(GsmTurnsConfig(turns=n, delay=d, count=200)) for n in SIZES for d in (False, True)]


@pytest.mark.parametrize("task", tasks(), ids=lambda task: f"{task.name}-{len(task.components)}-{task.max_turns}")
def test_the_oracle_solves_every_problem_with_the_greatest_score(task: Task) -> None:
    for split in SPLITS:
        for problem in task.problems(split):
            episode = task.start(problem)
            verdicts = [episode.step(action) for action in task.oracle(problem)]
            assert episode.done
            assert [verdict.solved for verdict in verdicts] == [False] * (len(verdicts) - 1) + [True]
            assert sum(task.score(verdict) for verdict in verdicts) == pytest.approx(1.0)
            assert task.metrics(verdicts)["share_right"] == 1.0


def test_no_question_of_one_split_is_asked_in_another() -> None:
    task = GsmFields(GsmFieldsConfig())
    asked = {split: {q.text for p in task.problems(split) for q in p.questions} for split in SPLITS}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["val"]
    assert not asked["val"] & asked["test"]


def test_each_field_is_judged_by_its_own_line_alone() -> None:
    task = GsmFields(GsmFieldsConfig(fields=3))
    problem = task.problems("train")[0]
    lines = task.oracle(problem)[0].split("\n")
    answer = int(problem.questions[1].gold)
    action = "\n".join([lines[0], f"2. 1+1=3 #### {answer + 1}", lines[2]])
    verdict = task.start(problem).step(action)
    assert dict(verdict.rewards) == {"field_1": 1.0, "field_2": 0.0, "field_3": 1.0}
    assert not verdict.solved
    assert verdict.feedback == "2: the sum 1+1=3 is wrong"
    assert [action[slice(*verdict.spans[f"field_{place}"])] for place in (1, 2, 3)] == action.split("\n")


@pytest.mark.parametrize("lost", ["", "2) 1+1=2 #### 2", "2. 1+1=2", "2. #### two", "2. 1+1=2 #### 2 #### 2"])
def test_a_line_that_cannot_be_read_earns_nothing_and_is_named(lost: str) -> None:
    task = GsmFields(GsmFieldsConfig(fields=2))
    problem = task.problems("train")[0]
    verdict = task.start(problem).step(task.oracle(problem)[0].split("\n")[0] + "\n" + lost)
    assert dict(verdict.rewards) == {"field_1": 1.0, "field_2": 0.0}
    assert verdict.feedback == "2: no line '2. ... #### answer'"
    assert "field_2" not in verdict.spans


def test_of_two_lines_with_one_number_the_first_counts() -> None:
    task = GsmFields(GsmFieldsConfig(fields=1))
    problem = task.problems("train")[0]
    right = task.oracle(problem)[0]
    assert task.start(problem).step(f"{right}\n1. #### 999").solved
    assert not task.start(problem).step(f"1. #### 999\n{right}").solved


def test_delay_gives_the_same_total_at_the_last_turn() -> None:
    problem = GsmTurns(GsmTurnsConfig(turns=3)).problems("train")[0]
    rewards = {}
    for delay in (False, True):
        task = GsmTurns(GsmTurnsConfig(turns=3, delay=delay))
        episode = task.start(problem)
        first, _, third = task.oracle(problem)
        rewards[delay] = [episode.step(action).rewards["correct"] for action in (first, "#### 9999", third)]
    assert rewards == {False: [1.0, 0.0, 1.0], True: [0.0, 0.0, 2.0]}


def test_what_a_turn_asks_does_not_depend_on_earlier_answers() -> None:
    task = GsmTurns(GsmTurnsConfig(turns=3))
    problem = task.problems("train")[0]
    one, other = task.start(problem), task.start(problem)
    for action in task.oracle(problem)[:2]:
        one.step(action)
        other.step("no")
        assert one.messages[-1] == other.messages[-1]
        assert one.knowledge() == other.knowledge()


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (GsmFieldsConfig, {"fields": 0}, "task.fields=0 must be from 1 to 12"),
        (GsmTurnsConfig, {"turns": 13}, "task.turns=13 must be from 1 to 12"),
        (GsmFieldsConfig, {"levels": [5]}, "must be some of 1, 2, 3, 4"),
        (GsmFieldsConfig, {"count": 3}, "task.count=3 must be 20 or more"),
        (GsmTurnsConfig, {"test": 0.001}, "must be 0 or at least 0.01"),
    ],
)
def test_sizes_that_make_no_problems_are_refused(config: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        config(**values)


def test_reward_modes_change_weights_and_nothing_else() -> None:
    for task, config, outcome in ((Wordle, WordleConfig, "solved"), (GsmSynth, GsmSynthConfig, "correct")):
        shaped, only, equal = (
            task(config(reward=mode)) for mode in (RewardMode.shaped, RewardMode.outcome, RewardMode.equal)
        )
        names = [component.name for component in shaped.components]
        assert [component.name for component in only.components] == names
        assert {c.name: c.weight for c in only.components} == {name: float(name == outcome) for name in names}
        assert len({c.weight * (c.high - c.low) for c in equal.components}) == 1
        assert len({each.fingerprint() for each in (shaped, only, equal)}) == 3


def test_the_feedback_of_fields_follows_the_level() -> None:
    said = {}
    for level in FeedbackLevel:
        task = GsmFields(GsmFieldsConfig(fields=1, levels=[1], feedback=level))
        problem = task.problems("train")[0]
        said[level.value] = task.start(problem).step("1. 2+2=5 #### 5").feedback
    assert said["none"] == ""
    assert said["outcome"] == "not solved"
    assert said["diagnostic"] == "1: the sum 2+2=5 is wrong"
    assert said["hint"] == "1: the sum 2+2=5 is wrong: it is 4"
    assert said["solution"].startswith(said["hint"] + "\n1: the answer is ")
