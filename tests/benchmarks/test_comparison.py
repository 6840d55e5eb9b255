"""Pairs of algorithms on identical problems and seeds; what may not be compared is refused by name."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from claim_records import write_experiment
from record_factory import write_record
from typer.testing import CliRunner

from benchmarks.analysis.comparison import choose, compare, trains
from benchmarks.analysis.efficiency import (
    cost_to_target,
    curve_frame,
    first_crossing,
    front_probability,
    levels_at,
    performance_profile,
)
from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.statistics import DIFFERENCES, contrast
from benchmarks.cli import app
from tasks.errors import BadInput

ANY = {"task": None, "policy": None, "budget": None}


def compared(directory, *names, metric="solved"):
    experiments, _ = read_experiments(directory)
    return compare([choose(experiments, name, ANY) for name in names], experiments, metric)


def said(directory, *words):
    done = CliRunner().invoke(app, ["compare", *words, "--runs", str(directory)])
    return str(done.exception) if isinstance(done.exception, BadInput) else done.output


def test_the_difference_is_that_of_the_tables_method_at_a_level_that_holds_for_all_pairs_at_once(tmp_path):
    for algo, level in (("a", 0.7), ("b", 0.5), ("c", 0.52)):
        write_experiment(tmp_path, algo, level, luck=0.03)
    found = compared(tmp_path, "a", "b", "c")
    first, second = (e.matrix("solved", [0, 1, 2, 3]) for e in read_experiments(tmp_path)[0][:2])
    pair, expected = found.pairs[0], contrast([first, second], [1, -1], DIFFERENCES)
    assert found.level == pytest.approx(1 - 0.05 / 3)
    assert (pair.first, pair.second) == ("a", "b")
    assert (pair.low, pair.high) == pytest.approx(expected.interval(found.level))
    assert expected.interval()[0] > pair.low
    assert [p.standing for p in found.pairs] == ["first", "first", "undecided"]
    assert all((p.low > 0 or p.high < 0) == (p.standing in ("first", "second")) for p in found.pairs)
    assert pair.ahead == 1.0


def test_a_difference_that_is_surely_too_small_to_matter_is_equivalent_not_undecided(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5, problems=2000, luck=0.001)
    assert compared(tmp_path, "a", "b").pairs[0].standing == "equivalent"


def test_what_is_undecided_is_said_to_show_nothing_and_what_the_design_would_find_stands_beside_it(tmp_path):
    for algo, level in (("a", 0.7), ("b", 0.5), ("c", 0.51)):
        write_experiment(tmp_path, algo, level, luck=0.03)
    lines = said(tmp_path, "a", "b", "c").splitlines()
    found, nothing = (next(line for line in lines if line.split()[:2] == pair) for pair in (["a", "b"], ["b", "c"]))
    assert found.split()[-1] == "a"
    assert nothing.split()[-1] == "undecided"
    detectable = compared(tmp_path, "a", "b", "c").detectable
    assert any(
        f"undecided says nothing of a difference; this design finds one of {100 * detectable:.1f}" in x for x in lines
    )
    assert any("all 3 intervals hold at once" in line for line in lines)
    assert any("mechanisms" in line for line in lines)
    assert not any(" p " in line for line in lines)


def test_what_did_nothing_is_one_measurement_and_no_seeds(tmp_path):
    write_experiment(tmp_path, "a", 0.7)
    for seed in range(3):
        write_record(tmp_path, algo="base", seed=seed, rollouts=0, updates=0, flops=0.0)
    base = next(e for e in read_experiments(tmp_path)[0] if e.algo == "base")
    assert not trains(base)
    done = CliRunner().invoke(app, ["table", "--runs", str(tmp_path), "--format", "json"])
    row = next(row for row in map(json.loads, done.stdout.splitlines()) if row["algo"] == "base")
    assert (row["gain"], row["gain_ci_low"]) == (None, None)


def test_json_has_the_intervals_their_level_and_the_runs(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    done = CliRunner().invoke(app, ["compare", "a", "b", "--runs", str(tmp_path), "--format", "json"])
    found = json.loads(done.stdout)
    assert (found["level"], len(found["sides"][0]["runs"])) == (0.95, 4)
    assert found["pairs"][0]["low"] < found["pairs"][0]["high"]
    assert found["detectable"] > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"task": "gsm_synth"}, "task.name: wordle | gsm_synth"),
        ({"policy": "big"}, "policy.name: tiny | big"),
        ({"budget": "long"}, "budget.name: quick | long"),
        ({"settings": {"task.test": 0.5}}, "task.test: 0.25 | 0.5"),
        ({"settings": {"evaluate.temperature": 0.0}}, "evaluate.temperature: None | 0.0"),
        ({"task_version": "2"}, "task version: 1 | 2"),
        ({"problems": 61}, "test problems: 60 "),
    ],
)
def test_experiments_in_other_settings_are_refused_with_what_differs(tmp_path, changes, named):
    write_experiment(tmp_path, "a", 0.5)
    write_experiment(tmp_path, "b", 0.5, **changes)
    message = said(tmp_path, "a", "b")
    assert "cannot compare a, b" in message
    assert named in message
    assert "\n" not in message


def test_when_the_curve_was_measured_does_not_matter(tmp_path):
    write_experiment(tmp_path, "a", 0.5, settings={"budget.checkpoints": 4})
    write_experiment(tmp_path, "b", 0.5, settings={"budget.checkpoints": 12})
    assert compared(tmp_path, "a", "b").pairs


def test_a_word_may_be_an_algorithm_a_hash_or_the_start_of_a_record(tmp_path):
    record = write_experiment(tmp_path, "a", 0.5)[0]
    experiments, _ = read_experiments(tmp_path)
    for word in ("a", experiments[0].id[:6], record.name, record.name[:9]):
        assert choose(experiments, word, ANY) is experiments[0]
    with pytest.raises(BadInput, match=r"no complete run .* with task=gsm8k; there is none"):
        choose(experiments, "a", ANY | {"task": "gsm8k"})


def test_a_word_that_names_several_experiments_is_refused_with_what_they_differ_in(tmp_path):
    write_experiment(tmp_path, "a", 0.5)
    write_experiment(tmp_path, "a", 0.5, settings={"algo.learning_rate": 0.1})
    with pytest.raises(BadInput, match=r"names 2 experiments .*algo\.learning_rate: ") as error:
        choose(read_experiments(tmp_path)[0], "a", ANY)
    assert "0.0001" in str(error.value)


def test_other_hyper_parameters_and_other_tuning_effort_are_warned_of(tmp_path):
    write_experiment(tmp_path, "a", 0.5)
    write_experiment(tmp_path, "b", 0.5, settings={"algo.learning_rate": 0.1})
    tried = write_experiment(tmp_path, "b", 0.5, settings={"algo.learning_rate": 0.2})
    experiments, _ = read_experiments(tmp_path)
    sides = [choose(experiments, word, ANY) for word in ("a", tried[0].name)]
    warnings = compare(sides, experiments).warnings
    assert "settings differ: learning_rate: a 0.0001, b 0.2" in warnings
    assert "tuning effort differs: configurations on record: a 1, b 2" in warnings


def test_all_seeds_of_both_count_though_one_has_fewer(tmp_path):
    write_experiment(tmp_path, "a", 0.5, seeds=5)
    write_experiment(tmp_path, "b", 0.5, seeds=3)
    assert [side.seeds for side in compared(tmp_path, "a", "b").sides] == [[0, 1, 2, 3, 4], [0, 1, 2]]


def test_another_metric_is_read_from_the_samples_and_an_unknown_one_refused(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    score = compared(tmp_path, "a", "b", metric="score").sides[0].mean
    assert score == pytest.approx(compared(tmp_path, "a", "b").sides[0].mean - 0.05)
    assert "has solved, share_right, score" in said(tmp_path, "a", "b", "--metric", "luck")


def test_damaged_and_unfinished_records_are_named_and_counted(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    damaged = write_record(tmp_path, algo="a", seed=9, without=["summary.json"])
    write_record(tmp_path, algo="b", seed=9, status="interrupted")
    output = said(tmp_path, "a", "b")
    assert f"set aside 1 x summary.json: missing ({damaged.name})" in output
    assert "interrupted, not complete" in output
    assert "2 records set aside" in output
    assert compared(tmp_path, "a", "b").sides[0].seeds == [0, 1, 2, 3]


def test_ten_algorithms_with_three_seeds_take_seconds(tmp_path):
    names = [f"algo{number}" for number in range(10)]
    for name in names:
        write_experiment(tmp_path, name, 0.5, seeds=3, problems=113)
    start = time.process_time()
    assert len(compared(tmp_path, *names).pairs) == 45
    assert time.process_time() - start < 10


def test_ties_are_half_a_lead(tmp_path):
    for algo in ("a", "b"):
        for seed in range(2):
            outcomes = [[True, False], [bool(seed) and algo == "a", False]]
            write_record(tmp_path, algo=algo, seed=seed, base=outcomes, final=outcomes, experiment=algo * 10)
    assert compared(tmp_path, "a", "b").pairs[0].ahead == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)


def test_a_profile_counts_workloads_within_tau_of_the_best_and_a_miss_never():
    costs = pd.DataFrame({"a": [1.0, 4.0, np.inf], "b": [2.0, 2.0, np.inf]})
    assert performance_profile(costs, [1, 2, 1e9]).to_numpy().tolist() == [
        [1 / 3, 1 / 3],
        [2 / 3, 2 / 3],
        [2 / 3, 2 / 3],
    ]


def ramp(end, level):
    return [{"spent/flops": end * share, "solved": level * share} for share in (0.0, 0.5, 1.0)]


def test_curves_are_interpolated_and_end_where_the_money_ended():
    curves = curve_frame({0: ramp(10.0, 0.4), 1: ramp(20.0, 0.8)}, "flops")
    assert levels_at(curves, [5.0, 15.0]).to_numpy() == pytest.approx(
        np.array([[0.2, 0.2], [np.nan, 0.6]]), nan_ok=True
    )
    with pytest.raises(BadInput, match="no spent/joules"):
        curve_frame({0: ramp(1.0, 1.0)}, "joules")


def test_a_crossing_is_interpolated_and_a_miss_takes_the_whole_cost():
    costs, levels = np.array([0.0, 10.0, 20.0]), np.array([0.1, 0.2, 0.6])
    assert [first_crossing(costs, levels, goal) for goal in (0.05, 0.15, 0.4, 0.9)] == pytest.approx([0, 5, 15, 20])


def test_a_target_that_is_missed_costs_infinity():
    curves = curve_frame({0: ramp(10.0, 0.4), 1: ramp(20.0, 0.8)}, "flops")
    assert cost_to_target(curves, 0.4).tolist() == [10.0, 10.0]
    assert cost_to_target(curves, 0.5).tolist() == [np.inf, 20.0]


def test_the_front_has_the_good_and_the_cheap_and_is_unsure_where_runs_are():
    rng = np.random.default_rng(0)
    table = {
        name: (rng.random((4, 100)) < share) * 1.0 for name, share in (("cheap", 0.3), ("good", 0.8), ("bad", 0.1))
    }
    table["twin"] = (rng.random((4, 100)) < 0.8) * 1.0
    price = {"cheap": 1.0, "good": 9.0, "bad": 9.0, "twin": 9.0}
    costs = {name: value * (1 + rng.normal(0, 0.05, 4)) for name, value in price.items()}
    sure = front_probability(table, costs)
    assert sure["cheap"] > 0.99
    assert sure["bad"] < 0.01
    assert 0.1 < sure["twin"] < 0.9
    assert 0.1 < sure["good"] <= 1
