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

from benchmarks.analysis.aggregates import iqm, performance_profile, probability_of_improvement
from benchmarks.analysis.comparison import choose, compare
from benchmarks.analysis.efficiency import (
    cost_to_target,
    curve_frame,
    efficiency_curve,
    front_probability,
    levels_at,
    mean_level,
)
from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.statistics import holm, paired_gain_interval
from benchmarks.cli import app
from tasks.errors import BadInput

ANY = {"task": None, "policy": None, "budget": None}


def compared(directory, *names, metric="solved"):
    experiments, _ = read_experiments(directory)
    return compare([choose(experiments, name, ANY) for name in names], experiments, metric)


def said(directory, *words):
    done = CliRunner().invoke(app, ["compare", *words, "--runs", str(directory)])
    return str(done.exception) if isinstance(done.exception, BadInput) else done.output


def test_the_difference_is_that_of_the_tables_method_and_holm_covers_the_family(tmp_path):
    for algo, level in (("a", 0.7), ("b", 0.5), ("c", 0.52)):
        write_experiment(tmp_path, algo, level)
    found = compared(tmp_path, "a", "b", "c")
    first, second = (e.matrix("solved", [0, 1, 2, 3]) for e in read_experiments(tmp_path)[0][:2])
    pair = found.pairs[0]
    assert (pair.first, pair.second, pair.seeds) == ("a", "b", [0, 1, 2, 3])
    assert (pair.difference.low, pair.difference.high) == pytest.approx(paired_gain_interval(second, first))
    assert [p.p_holm for p in found.pairs] == holm([p.difference.p_value for p in found.pairs])
    assert [p.found for p in found.pairs] == [True, True, False]
    assert pair.improvement == 1.0


def test_the_text_shows_what_could_have_been_seen_beside_a_non_finding_only(tmp_path):
    for algo, level in (("a", 0.7), ("b", 0.5), ("c", 0.51)):
        write_experiment(tmp_path, algo, level)
    lines = said(tmp_path, "a", "b", "c").splitlines()
    found, nothing = (next(line for line in lines if line.split()[:2] == pair) for pair in (["a", "b"], ["b", "c"]))
    assert found.split()[-1] == "found"
    missed = compared(tmp_path, "a", "b", "c").pairs[2].difference.detectable
    assert nothing.split()[-1] == f"{100 * missed:.1f}"
    assert any("Holm over 3" in line for line in lines)
    assert any("mechanisms" in line for line in lines)


def test_json_has_the_estimate_the_family_and_the_runs(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    done = CliRunner().invoke(app, ["compare", "a", "b", "--runs", str(tmp_path), "--format", "json"])
    found = json.loads(done.stdout)
    assert (found["family"], found["correction"], len(found["sides"][0]["runs"])) == (1, "holm", 4)
    assert found["pairs"][0]["difference"]["detectable"] > 0


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


def test_only_seeds_that_both_have_are_paired(tmp_path):
    write_experiment(tmp_path, "a", 0.5, seeds=5)
    write_experiment(tmp_path, "b", 0.5, seeds=3)
    found = compared(tmp_path, "a", "b")
    assert found.pairs[0].seeds == [0, 1, 2]
    assert any("seeds differ" in warning for warning in found.warnings)


def test_another_metric_is_read_from_the_samples_and_an_unknown_one_refused(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    score = compared(tmp_path, "a", "b", metric="score").sides[0].mean
    assert score == pytest.approx(compared(tmp_path, "a", "b").sides[0].mean - 0.05)
    assert "has solved, score" in said(tmp_path, "a", "b", "--metric", "luck")


def test_damaged_and_unfinished_records_are_named_and_counted(tmp_path):
    for algo in ("a", "b"):
        write_experiment(tmp_path, algo, 0.5)
    damaged = write_record(tmp_path, algo="a", seed=9, without=["summary.json"])
    write_record(tmp_path, algo="b", seed=9, status="interrupted")
    output = said(tmp_path, "a", "b")
    assert f"set aside 1 x summary.json: missing ({damaged.name})" in output
    assert "interrupted, not complete" in output
    assert "2 records set aside" in output
    assert compared(tmp_path, "a", "b").pairs[0].seeds == [0, 1, 2, 3]


def test_ten_algorithms_with_three_seeds_take_seconds(tmp_path):
    names = [f"algo{number}" for number in range(10)]
    for name in names:
        write_experiment(tmp_path, name, 0.5, seeds=3, problems=113)
    start = time.process_time()
    assert len(compared(tmp_path, *names).pairs) == 45
    assert time.process_time() - start < 10


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm([0.0, 0.4, 0.6, 100.0]) == pytest.approx(0.5)


def test_ties_are_half_an_improvement():
    assert probability_of_improvement([1, 2], [1, 0]) == pytest.approx((0.5 + 1 + 1 + 1) / 4)


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
    assert list(efficiency_curve(curves, [5.0, 15.0]).index) == [5.0]
    assert mean_level(curves, 10.0).tolist() == pytest.approx([0.2, 0.2])
    with pytest.raises(BadInput, match="no spent/joules"):
        curve_frame({0: ramp(1.0, 1.0)}, "joules")


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
