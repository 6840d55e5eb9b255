"""What the page concludes: the answer, the matrix, the cost to a target and the claims, on imagined experiments."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from claim_records import write_experiment
from record_factory import write_record

from benchmarks.analysis.claims import answer, load_claims
from benchmarks.analysis.comparison import compare
from benchmarks.analysis.efficiency import cost_to_target, curve_frame, performance_profile
from benchmarks.analysis.experiments import read_experiments
from benchmarks.report.answer import short_answer
from benchmarks.report.claim_plots import claim_plot
from benchmarks.report.figures import figures
from benchmarks.report.gather import gather
from benchmarks.report.style import drawn


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two tasks; `strong` is far ahead of `weak` on both, `near` is hardly behind it, `late` learns at the very end."""
    folder = tmp_path_factory.mktemp("records")
    for task in ("wordle", "gsm_synth"):
        write_experiment(folder, "strong", 0.62, task=task)
        write_experiment(folder, "near", 0.615, task=task, luck=0.04)
        write_experiment(folder, "late", 0.45, task=task, pace=0.25)
        write_experiment(folder, "weak", 0.22, task=task)
    return folder


@pytest.fixture(scope="module")
def results(records):
    return gather(records)


def test_the_matrix_has_the_simultaneous_intervals_of_compare(records, results):
    experiments, _ = read_experiments(records)
    for setting in results.settings:
        chosen = [e for e in experiments if e.first.summary["task"] == setting.names[0]]
        found = compare(chosen, experiments)
        place = {experiment.label: number for number, experiment in enumerate(setting.plotted)}
        assert len(found.pairs) == 6
        assert setting.detectable == pytest.approx(found.detectable)
        for pair in found.pairs:
            cell = setting.wins[place[pair.first]][place[pair.second]]
            turned = -1 if place[pair.first] > place[pair.second] else 1
            assert cell.effect == pytest.approx(pair.difference)
            assert (cell.low, cell.high) == pytest.approx((pair.low, pair.high))
            assert cell.decided == (pair.standing in ("first", "second")) == (pair.low > 0 or pair.high < 0)
            assert turned * cell.effect >= 0
            mirrored = setting.wins[place[pair.second]][place[pair.first]]
            assert (mirrored.effect, mirrored.low, mirrored.high) == (-cell.effect, -cell.high, -cell.low)


def test_the_answer_names_who_cannot_be_told_from_the_best(results):
    for setting in results.settings:
        found = short_answer(setting)
        leader, other = setting.plotted[0].label, setting.plotted[1].label
        assert {leader, other} == {"strong", "near"}
        assert found.sure == "open"
        assert found.headline == f"No clear winner: {leader} is ahead, but cannot be told apart from {other}"
        assert any(
            line.startswith("Better than ") and "weak (by +" in line and "late (by +" in line for line in found.lines
        )
        assert any(line.startswith("That is no proof of equality") for line in found.lines)
        assert [e.standing for e in setting.plotted] == ["best", "tied", "behind", "behind"]


def test_the_answer_is_clear_where_the_best_is_told_from_every_other(tmp_path):
    write_experiment(tmp_path, "strong", 0.6)
    write_experiment(tmp_path, "weak", 0.3)
    found = short_answer(gather(tmp_path).settings[0])
    assert (found.sure, found.headline) == ("clear", "strong: better than each of the 1 others")
    assert found.flops == pytest.approx(2e12)


def test_an_answer_of_one_seed_or_of_one_algorithm_says_so(tmp_path):
    write_record(tmp_path, base=((False, False),) * 6, final=((False, True),) * 6)
    found = short_answer(gather(tmp_path).settings[0])
    assert (found.sure, found.headline) == ("alone", "Only grpo was run")
    assert "One seed: this says nothing about training again." in found.lines


def test_no_gain_is_called_no_gain(tmp_path):
    write_experiment(tmp_path, "idle", 0.2, base=0.2)
    assert short_answer(gather(tmp_path).settings[0]).lines[0].endswith("that may be no gain at all.")


def test_experiments_that_were_set_up_otherwise_are_not_compared(tmp_path):
    write_experiment(tmp_path, "one", 0.5)
    write_experiment(tmp_path, "two", 0.4)
    write_experiment(tmp_path, "short", 0.9, settings={"task.max_turns": 2}, seeds=2)
    (setting,) = gather(tmp_path).settings
    assert [(e.label, e.standing) for e in setting.experiments] == [
        ("short", "apart"),
        ("one", "best"),
        ("two", "behind"),
    ]
    assert [e.label for e in setting.plotted] == ["one", "two"]
    assert "task.max_turns" in setting.apart
    for _ in range(2):  # The second time, from the index.
        assert gather(tmp_path).settings[0].apart == setting.apart


def test_bars_and_dots_are_what_each_seed_paid_for_the_target(records, results):
    experiments = {(e.algo, e.first.summary["task"]): e for e in read_experiments(records)[0]}
    for setting in results.settings:
        figure = figures(setting, results)["targets"]
        for axis in ("rollouts", "seconds"):
            traces = drawn(figure, axis=axis, log=False, theme="light")["data"]
            for experiment in setting.plotted:
                runs = experiments[experiment.label, setting.names[0]].runs
                curves = curve_frame({seed: run.curve for seed, run in runs.items()}, axis)
                costs = cost_to_target(curves, setting.reached.target)
                bar, dots = (t for t in traces if t["legendgroup"] == f"group {experiment.label}")
                assert sorted(dots["x"]) == sorted(costs[np.isfinite(costs)])
                middle = float(np.median(costs))
                assert bar["x"] == ([middle] if math.isfinite(middle) else [None])
        last = figure["layout"]["yaxis"]["categoryarray"][0]
        assert last.startswith("weak, 0 of 4")


def test_the_profile_is_that_of_the_costs_over_tasks_and_seeds(records, results):
    setting = results.settings[0]
    traces = drawn(figures(setting, results)["profile"], axis="rollouts", log=False, theme="light")["data"]
    costs = {experiment.label: {} for experiment in setting.plotted}
    for each in results.settings:
        for label, by_axis in each.reached.costs.items():
            costs[label] |= {(each.names[0], seed): cost for seed, cost in by_axis["rollouts"].items()}
    assert len(pd.DataFrame(costs)) == 8
    for trace in traces:
        expected = performance_profile(pd.DataFrame(costs), trace["x"])[trace["name"]]
        assert trace["y"] == pytest.approx(list(expected))
        assert trace["x"][0] == 1.0
    by_name = {trace["name"]: trace["y"] for trace in traces}
    assert by_name["weak"][-1] == 0.0
    assert max(by_name["strong"][0], by_name["near"][0]) > by_name["late"][0]


def test_the_chance_of_being_on_the_front_stands_below_it(results):
    note = figures(results.settings[0], results)["pareto"]["note"]["rollouts"]
    chances = {name: float(number) for name, number in re.findall(r"(\w+) (\d+) %", note)}
    # All spent the same: only accuracy counts.
    assert chances["weak"] == chances["late"] == 0
    assert chances["strong"] + chances["near"] == pytest.approx(100, abs=2)


def test_claims_stand_on_the_page_as_the_command_answers_them(tmp_path):
    write_experiment(tmp_path, "grpo", 0.5, task="gsm_synth")
    write_experiment(tmp_path, "grpo", 0.5, task="wordle")
    write_experiment(tmp_path, "vector_grpo", 0.6, task="wordle")
    experiments, _ = read_experiments(tmp_path)
    found = gather(tmp_path).claims
    assert list(found) == [("tiny", "quick")]
    assert found["tiny", "quick"] == [answer(claim, experiments, "tiny", "quick") for claim in load_claims()]


def test_records_that_cannot_be_judged_together_leave_the_page_standing(tmp_path):
    for algo in ("grpo", "rft"):
        for record in write_experiment(tmp_path, algo, 0.5, task="wordle", seeds=5):
            rows = [{k: v for k, v in row.items() if "device" not in k} for row in record.read_rows("curve.parquet")]
            record.write_rows("curve.parquet", rows)
            record.write_status("complete")
    answers = {found.claim: found for found in gather(tmp_path).claims["tiny", "quick"]}
    (judgement,) = (j for j in answers["cost_axis"].judgements if j.runs and j.test.startswith("rft"))
    assert judgement.conclusion == "undecided"
    assert judgement.note.startswith("the curve of seed 0 has no spent/device_seconds")
    assert answers["single_turn"].judgements


def test_a_claims_plot_has_every_measured_effect_and_its_threshold(tmp_path):
    write_experiment(tmp_path, "grpo", 0.5, task="gsm_synth", seeds=5)
    write_experiment(tmp_path, "grpo", 0.1, task="wordle_turn", seeds=5)
    answers = {found.claim: found for found in gather(tmp_path).claims["tiny", "quick"]}
    found = answers["single_turn"]
    assert found.conclusion == "refuted"
    figure = claim_plot(found)
    made = drawn(figure, axis="none", log=False, theme="dark")
    assert go.Figure(made).data
    assert "$" not in json.dumps(made)
    measured = {number: f for number, f in enumerate(found.judgements, 1) if f.effect is not None}
    assert len(made["data"]) == len(measured) == 2
    for trace in made["data"]:
        judgement = measured[int(trace["y"][0].split(" ")[0])]
        assert trace["x"] == [judgement.effect]
        assert trace["x"][0] + trace["error_x"]["array"][0] == pytest.approx(judgement.high)
        assert trace["x"][0] - trace["error_x"]["arrayminus"][0] == pytest.approx(judgement.low)
        assert trace["name"] == judgement.conclusion
    lines = [shape["x0"] for shape in made["layout"]["shapes"] if shape["type"] == "line"]
    assert lines == [0.02]
    assert claim_plot(answers["textual_feedback"])["data"] == []
