"""Every claim can be supported, refuted, left undecided, and told what it misses."""

from __future__ import annotations

import json

import pytest
from claim_records import write_experiment
from typer.testing import CliRunner

from benchmarks.analysis.claims import answer, commands, load_claims
from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.verdicts import Need
from benchmarks.cli import app
from benchmarks.config.schema import check_config, compose_config
from benchmarks.sweep.launch import combinations
from tasks.errors import BadInput

CLAIMS = {claim.name: claim for claim in load_claims()}
LOUD = {"luck": 0.2}


def judge(name, directory, policy="tiny"):
    experiments, aside = read_experiments(directory)
    assert aside == []
    return answer(CLAIMS[name], experiments, policy, "quick")


def vector_reward(directory, ahead, rewards=0.0, **more):
    for task in ("wordle", "gsm_synth"):
        write_experiment(directory, "grpo", 0.5, task=task, rewards={"valid": 0.0, "solved": 0.0}, **more)
        mine = {"valid": 0.0, "solved": rewards}
        write_experiment(directory, "vector_grpo", 0.5 + ahead, task=task, rewards=mine, **more)


def textual_feedback(directory, over_grpo, over_shuffled, **more):
    write_experiment(directory, "grpo", 0.7 - over_grpo, **more)
    for shuffled, level in ((False, 0.7), (True, 0.7 - over_shuffled)):
        write_experiment(directory, "feedback_grpo", level, settings={"algo.shuffled": shuffled}, **more)


def forking_cost(directory, factor, exponent, horizons=(1, 2, 3, 4)):
    for turns in horizons:
        told = {"settings": {"task.max_turns": turns}, "seeds": 1, "budget": "smoke"}
        write_experiment(directory, "fork_grpo", 0.3, costs={"rollouts": 100 * factor**turns}, **told)
        write_experiment(directory, "grpo", 0.3, costs={"tokens": 1000 * turns**exponent}, **told)


def single_turn_only(directory, single, multi, **more):
    for task, gain in (("gsm8k", single), ("gsm_synth", single), ("wordle_turn", single), ("wordle", multi)):
        write_experiment(directory, "grpo", 0.2 + gain, task=task, **more)


def prompt_optimisation(directory, level, pace, **more):
    for task in ("wordle", "gsm_synth"):
        write_experiment(directory, "grpo", 0.5, task=task, **more)
        write_experiment(directory, "gepa", level, task=task, pace=pace, costs={"rollouts": 9000.0}, **more)


def same_order(directory, rft_rollouts, **more):
    # rft learns in few FLOPs and, where it says so, in many rollouts.
    levels = {"grpo": 0.4, "gdpo": 0.45, "dr_grpo": 0.5, "vector_grpo": 0.6, "feedback_grpo": 0.65, "gepa": 0.7}
    for task in ("wordle", "wordle_turn", "gsm_synth"):
        for algo, level in levels.items():
            settings = {"algo.shuffled": False} if algo == "feedback_grpo" else {}
            write_experiment(directory, algo, level, task=task, settings=settings, **more)
        write_experiment(directory, "rft", 0.55, task=task, costs={"rollouts": rft_rollouts}, **more)


SUPPORTED = {
    "vector_reward": lambda d: vector_reward(d, 0.2),
    "textual_feedback": lambda d: textual_feedback(d, 0.2, 0.2),
    "forking_cost": lambda d: forking_cost(d, 3.0, 1.0),
    "single_turn_only": lambda d: single_turn_only(d, 0.3, 0.0),
    "prompt_optimisation": lambda d: prompt_optimisation(d, 0.75, 8.0, points=33),
    "same_order": lambda d: same_order(d, 3000.0),
}
REFUTED = {
    "vector_reward": [lambda d: vector_reward(d, -0.2), lambda d: vector_reward(d, 0.2, rewards=-0.6)],
    "textual_feedback": [lambda d: textual_feedback(d, -0.2, 0.2), lambda d: textual_feedback(d, 0.2, -0.2)],
    "forking_cost": [lambda d: forking_cost(d, 1.1, 1.0), lambda d: forking_cost(d, 3.0, 2.0)],
    "single_turn_only": [lambda d: single_turn_only(d, 0.3, 0.3), lambda d: single_turn_only(d, -0.1, 0.0)],
    "prompt_optimisation": [lambda d: prompt_optimisation(d, 0.3, 1.0), lambda d: prompt_optimisation(d, 0.55, 0.5)],
    "same_order": [lambda d: same_order(d, 9000.0)],
}
UNDECIDED = {
    "vector_reward": lambda d: vector_reward(d, 0.05, **LOUD),
    "textual_feedback": lambda d: textual_feedback(d, 0.2, 0.0, **LOUD),
    "forking_cost": lambda d: forking_cost(d, 1.5, 1.0),
    "single_turn_only": lambda d: single_turn_only(d, 0.3, 0.02, **LOUD),
    "prompt_optimisation": lambda d: prompt_optimisation(d, 0.52, 2.0, **LOUD),
    "same_order": lambda d: same_order(d, 3000.0, **LOUD),
}


def test_the_issues_six_claims_are_there():
    assert set(CLAIMS) == set(SUPPORTED)


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_claim_that_the_records_bear_out_is_supported(tmp_path, name):
    SUPPORTED[name](tmp_path)
    found = judge(name, tmp_path)
    assert found.verdict == "supported", found
    for finding in found.findings:
        assert finding.low <= finding.effect <= finding.high
        assert finding.runs
        assert finding.detectable is not None


@pytest.mark.parametrize(("name", "write"), [(name, write) for name in REFUTED for write in REFUTED[name]])
def test_a_claim_is_refuted_by_any_of_its_tests(tmp_path, name, write):
    write(tmp_path)
    assert judge(name, tmp_path).verdict == "refuted"


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_claim_that_the_records_leave_open_is_undecided_and_says_what_would_help(tmp_path, name):
    UNDECIDED[name](tmp_path)
    found = judge(name, tmp_path)
    assert found.verdict == "undecided"
    still_open = [finding for finding in found.findings if finding.verdict == "undecided" and finding.decides]
    assert all(finding.needs or "more than 30 seeds" in finding.note for finding in still_open)


@pytest.mark.parametrize("name", CLAIMS)
def test_without_runs_a_claim_is_undecided_and_names_the_sweep(tmp_path, name):
    found = judge(name, tmp_path)
    assert found.verdict == "undecided"
    assert all(finding.effect is None and finding.runs == [] for finding in found.findings)
    assert all(finding.needs for finding in found.findings)


def test_what_is_missing_is_printed_as_sweeps_that_the_command_line_takes(tmp_path):
    printed = CliRunner().invoke(app, ["claims", "--missing", "--runs", str(tmp_path / "none")]).output.splitlines()
    assert len(printed) >= 3
    known = 0
    for line in printed:
        words = line.removeprefix("python -m benchmarks run -m ").split()
        assert words[-1] == f"results.dir={tmp_path / 'none'}"
        if not any(name in words[0] for name in ("gepa", "fork_grpo", "feedback_grpo")):
            known += 1
            for combination in combinations(words):
                check_config(compose_config(combination))
    assert known >= 1


def test_needs_are_joined_into_few_commands():
    needs = [Need((f"+algo={algo}",), task, 3) for algo in ("grpo", "rft") for task in ("wordle", "gsm_synth")]
    needs += [Need(("+algo=grpo",), "wordle", 3), Need(("+algo=gepa",), "wordle", 5)]
    from benchmarks.records.record import RUNS

    assert commands(needs, "tiny", "quick", str(RUNS)) == [
        "python -m benchmarks run -m +algo=grpo,rft task=gsm_synth,wordle policy=tiny budget=quick seed=0,1,2",
        "python -m benchmarks run -m +algo=gepa task=wordle policy=tiny budget=quick seed=0,1,2,3,4",
    ]


def test_too_few_seeds_decide_nothing_however_large_the_effect(tmp_path):
    textual_feedback(tmp_path, 0.4, 0.4, seeds=2)
    found = judge("textual_feedback", tmp_path)
    assert found.verdict == "undecided"
    assert found.findings[0].note == "2 of 3 seeds"


def test_unequal_costs_decide_nothing_and_are_told(tmp_path):
    write_experiment(tmp_path, "grpo", 0.4, costs={"flops": 1e12})
    for shuffled in (False, True):
        write_experiment(tmp_path, "feedback_grpo", 0.7, settings={"algo.shuffled": shuffled})
    finding = judge("textual_feedback", tmp_path).findings[0]
    assert finding.verdict == "undecided"
    assert "not at equal flops: 2e+12 and 1e+12" in finding.note


def test_runs_in_another_setting_are_not_taken(tmp_path):
    write_experiment(tmp_path, "grpo", 0.4, settings={"task.test": 0.5})
    write_experiment(tmp_path, "feedback_grpo", 0.7, settings={"algo.shuffled": False})
    found = judge("textual_feedback", tmp_path)
    assert "no runs of" in found.findings[0].note


def test_the_runs_that_are_taken_are_those_with_most_seeds_not_the_best(tmp_path):
    textual_feedback(tmp_path, 0.0, 0.3)
    worse = write_experiment(tmp_path, "grpo", 0.3, settings={"algo.learning_rate": 1.0}, seeds=3)
    runs = judge("textual_feedback", tmp_path).findings[0].runs
    assert runs
    assert not {record.name for record in worse} & set(runs)


def test_power_law_growth_is_not_taken_for_exponential(tmp_path):
    for turns in (2, 3, 4, 5):
        told = {"settings": {"task.max_turns": turns}, "seeds": 1, "budget": "smoke"}
        write_experiment(tmp_path, "fork_grpo", 0.3, costs={"rollouts": 10.0 * turns**6}, **told)
    finding = judge("forking_cost", tmp_path).findings[0]
    assert finding.low > 1.5
    assert finding.verdict == "undecided"
    assert "a power law fits better" in finding.note


def test_a_coarse_curve_leaves_the_rollouts_open(tmp_path):
    # Two evaluations: nobody knows when in between it was learnt.
    for task in ("wordle", "gsm_synth"):
        write_experiment(tmp_path, "grpo", 0.5, task=task)
        write_experiment(tmp_path, "gepa", 0.6, task=task, pace=8.0, costs={"rollouts": 9000.0}, points=2)
    finding = judge("prompt_optimisation", tmp_path).findings[0]
    assert finding.verdict == "undecided"
    assert finding.low < -0.2 < 0.05 < finding.high


def test_the_ratio_of_rollouts_counts_misses(tmp_path):
    prompt_optimisation(tmp_path, 0.3, 1.0)
    note = judge("prompt_optimisation", tmp_path).findings[0].note
    assert "no ratio" in note
    assert "gepa reached it in 0" in note


def test_results_of_tiny_are_labelled_as_mechanisms(tmp_path):
    assert "mechanisms" in judge("vector_reward", tmp_path).scope
    assert "mechanisms" not in judge("vector_reward", tmp_path, policy="smollm2_135m").scope


def test_text_and_json_of_the_command_line_agree(tmp_path):
    textual_feedback(tmp_path, 0.2, 0.2)
    text = CliRunner().invoke(app, ["claims", "--runs", str(tmp_path)])
    assert "SUPPORTED  textual_feedback" in text.output
    assert text.exit_code == 0
    out = CliRunner().invoke(app, ["claims", "--runs", str(tmp_path), "--format", "json"]).stdout
    answers = {found["claim"]: found for found in map(json.loads, out.splitlines())}
    assert set(answers) == set(CLAIMS)
    assert len(answers["textual_feedback"]["findings"][0]["runs"]) == 8
    assert answers["vector_reward"]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name: a\nsentence: b\nsource: c\ntests: [{kind: guess}]", "kind=guess: use one of difference"),
        ("name: z\nsentence: b\nsource: c\ntests: [{kind: gain}]", "name=z must be the file's"),
        ("name: a\nsentence: b\nsource: c\ntests: []", "tests: a claim needs at least one"),
        ("name: a\nsentence: b\nsource: c\nseeds: 1\ntests: [{kind: gain}]", "at least 2"),
        ("name: a\nsentence: b\nsource: c\nproof: none\ntests: [{kind: gain}]", "proof"),
        (
            "name: a\nsentence: b\nsource: c\ntests: [{kind: gain, test: x, tasks: [w], algo: {algo: g}, side: left}]",
            "side=left: use above or below",
        ),
        (
            "name: a\nsentence: b\nsource: c\ntests: [{kind: gain, test: x, tasks: [w], algo: {algo: g}, effect: 1}]",
            "effect",
        ),
        ("[1", "a.yaml"),
    ],
)
def test_a_wrong_claim_is_named_by_file_and_key(tmp_path, text, reason):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"^a\.yaml: ") as error:
        load_claims(tmp_path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
