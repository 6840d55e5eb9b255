"""Every claim can be supported, refuted, left undecided (with what would decide it), or found too small to matter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from claim_records import write_experiment
from record_factory import write_record
from typer.testing import CliRunner

from benchmarks.analysis.claims import answer, commands, load_claims
from benchmarks.analysis.experiments import read_experiments
from benchmarks.analysis.gaps import curve_gap, gap, time_gap, val_variance
from benchmarks.analysis.ground import MissingRuns
from benchmarks.cli import app
from benchmarks.config.schema import check_config, compose_config
from benchmarks.records.record import RUNS
from tasks.errors import BadInput

CLAIMS = {claim.name: claim for claim in load_claims()}
LOUD = {"luck": 0.2}
SEEDS = {"seeds": 5}
FINE = {"points": 25}


def judge(name, directory, policy="tiny"):
    experiments, aside = read_experiments(directory)
    assert aside == []
    return answer(CLAIMS[name], experiments, policy, "quick")


def reward_ambiguity(directory, faster, **more):
    # vector_grpo learns as early as K to the power of `faster`, the others as early as ever.
    for fields in (1, 2, 4, 8):
        for algo, power in (("vector_grpo", faster), ("gdpo", 0.0), ("grpo", 0.0)):
            # Half of what is gained is gained after the share .5^pace: pace 1 + p log2 K makes the ratio K^p.
            pace = 1 + power * float(np.log2(fields))
            about = {"task": "gsm_fields", "settings": {"task.fields": fields}, "pace": pace}
            write_experiment(directory, algo, 0.6, **about, **SEEDS, **FINE, **more)


def vector_reward(directory, ahead, **more):
    for algo, level in (("grpo", 0.5), ("gdpo", 0.5), ("vector_grpo", 0.5 + ahead)):
        write_experiment(directory, algo, level, settings={"task.reward": "equal"}, **(SEEDS | more))


def textual_feedback(directory, over_grpo, over_shuffled, **more):
    for place, level in enumerate(("none", "outcome", "diagnostic", "hint")):
        told = {"task.feedback": level}
        share = place / 3
        write_experiment(directory, "grpo", 0.7 - over_grpo * share, settings=told, **(SEEDS | more))
        for shuffled, reached in ((False, 0.7), (True, 0.7 - over_shuffled * share)):
            settings = told | {"algo.shuffled": shuffled}
            write_experiment(directory, "feedback_grpo", reached, settings=settings, **(SEEDS | more))


def forking_cost(directory, factor, exponent, horizons=(1, 2, 3, 4), noise=0.0):
    for turns in horizons:
        about = {"settings": {"task.max_turns": turns}, "seeds": 3, "budget": "smoke"}
        factor_here = factor**turns * np.exp(noise * (-1) ** turns)
        forked = {"rollouts": 100 * factor_here, "tokens": 1000 * factor_here}
        write_experiment(directory, "fork_grpo", 0.3, costs=forked, **about)
        played = {"rollouts": 100.0, "tokens": 1000 * turns**exponent}
        write_experiment(directory, "grpo", 0.3, costs=played, **about)


def turn_baseline(directory, growing, **more):
    for delay in (True, False):
        for turns in (1, 3, 6, 12):
            about = {"task": "gsm_turns", **(SEEDS | more)}
            settings = {"task.delay": delay, "task.turns": turns}
            write_experiment(directory, "grpo", 0.5, settings=settings, **about)
            for baseline in ("state", "heads"):
                level = 0.5 + growing * float(np.log(turns))
                own = settings | {"algo.baseline": baseline}
                write_experiment(directory, "vector_grpo", level, settings=own, **about)


def single_turn(directory, gained, **more):
    for task in ("gsm8k", "gsm_synth", "wordle_turn"):
        write_experiment(directory, "grpo", 0.2 + gained, task=task, **(SEEDS | more))


def prompt_optimisation(directory, level, pace, **more):
    for task in ("wordle", "gsm_synth"):
        write_experiment(directory, "grpo", 0.5, task=task, **(SEEDS | more))
        costs = {"rollouts": 9000.0}
        write_experiment(directory, "gepa", level, task=task, pace=pace, costs=costs, **(SEEDS | more))


def prompt_search(directory, ahead, **more):
    for task in ("wordle", "gsm_synth"):
        for algo, level in (("gepa", 0.5 + ahead), ("random_prompt", 0.5), ("all_advice", 0.5)):
            write_experiment(directory, algo, level, task=task, **(SEEDS | more))


def cost_axis(directory, gepa_seconds, **more):
    for task in ("wordle", "gsm_synth"):
        for algo in ("grpo", "rft", "feedback_grpo"):
            settings = {"algo.shuffled": False} if algo == "feedback_grpo" else {}
            write_experiment(directory, algo, 0.5, task=task, settings=settings, **(SEEDS | FINE | more))
        # gepa learns much from few rollouts, each of which may be expensive.
        costs = {"rollouts": 1000.0, "device_seconds": gepa_seconds}
        write_experiment(directory, "gepa", 0.5, task=task, costs=costs, **(SEEDS | FINE | more))


def learning(directory, gained, at_tstar, **more):
    for task in ("wordle", "gsm_synth"):
        levels = {"base": 0.3, "tstar": (0.5, 0.5 + at_tstar)}
        write_experiment(directory, "grpo", 0.3 + gained, task=task, **levels, **(SEEDS | more))


def outcome_reward(directory, ahead, **more):
    for reward, level in (("outcome", 0.5 + ahead), ("shaped", 0.5)):
        write_experiment(directory, "grpo", level, settings={"task.reward": reward}, **(SEEDS | more))


SUPPORTED = {
    "reward_ambiguity": lambda d: reward_ambiguity(d, 0.8),
    "vector_reward": lambda d: vector_reward(d, 0.2),
    "textual_feedback": lambda d: textual_feedback(d, 0.2, 0.2),
    "forking_cost": lambda d: forking_cost(d, 3.0, 1.0),
    "turn_baseline": lambda d: turn_baseline(d, 0.1),
    "single_turn": lambda d: single_turn(d, 0.3),
    "prompt_optimisation": lambda d: prompt_optimisation(d, 0.75, 8.0, points=33, problems=600),
    "prompt_search": lambda d: prompt_search(d, 0.2),
    "cost_axis": lambda d: cost_axis(d, 13.0),
    "outcome_reward": lambda d: outcome_reward(d, 0.2),
    "learning": lambda d: learning(d, 0.2, 0.2),
}
REFUTED = {
    "reward_ambiguity": [lambda d: reward_ambiguity(d, 0.0)],
    "vector_reward": [lambda d: vector_reward(d, -0.2)],
    "textual_feedback": [lambda d: textual_feedback(d, -0.2, 0.2), lambda d: textual_feedback(d, 0.2, -0.2)],
    "forking_cost": [lambda d: forking_cost(d, 1.1, 1.0), lambda d: forking_cost(d, 3.0, 2.0)],
    "turn_baseline": [lambda d: turn_baseline(d, -0.1)],
    "single_turn": [lambda d: single_turn(d, -0.1)],
    "prompt_optimisation": [lambda d: prompt_optimisation(d, 0.3, 1.0), lambda d: prompt_optimisation(d, 0.55, 0.5)],
    "prompt_search": [lambda d: prompt_search(d, -0.2)],
    "cost_axis": [lambda d: cost_axis(d, 400.0)],
    "outcome_reward": [lambda d: outcome_reward(d, -0.2)],
    # Sharper, and no better where sampling is as good as it can be.
    "learning": [lambda d: learning(d, 0.3, -0.1)],
}
UNDECIDED = {
    "reward_ambiguity": lambda d: reward_ambiguity(d, 0.2),
    "vector_reward": lambda d: vector_reward(d, 0.05, **LOUD),
    "textual_feedback": lambda d: textual_feedback(d, 0.2, 0.0, **LOUD),
    "forking_cost": lambda d: forking_cost(d, 1.5, 1.0, noise=0.05),
    "turn_baseline": lambda d: turn_baseline(d, 0.02, **LOUD),
    "single_turn": lambda d: single_turn(d, 0.02, **LOUD),
    "prompt_optimisation": lambda d: prompt_optimisation(d, 0.52, 2.0, **LOUD),
    "prompt_search": lambda d: prompt_search(d, 0.05, **LOUD),
    "cost_axis": lambda d: cost_axis(d, 400.0, **LOUD),
    "outcome_reward": lambda d: outcome_reward(d, 0.05, **LOUD),
    "learning": lambda d: learning(d, 0.3, 0.02, **LOUD),
}
QUIET = {"luck": 0.001, "problems": 1500}
EQUIVALENT = {
    "vector_reward": lambda d: vector_reward(d, 0.0, **QUIET),
    "outcome_reward": lambda d: outcome_reward(d, 0.0, **QUIET),
    "prompt_search": lambda d: prompt_search(d, 0.0, **QUIET),
}


def test_every_claim_is_tried():
    assert set(CLAIMS) == set(SUPPORTED) == set(REFUTED) == set(UNDECIDED)


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_claim_that_the_records_bear_out_is_supported(tmp_path, name):
    SUPPORTED[name](tmp_path)
    found = judge(name, tmp_path)
    assert found.conclusion == "supported", found
    for judgement in found.judgements:
        assert judgement.low <= judgement.effect <= judgement.high
        assert judgement.runs


@pytest.mark.parametrize(("name", "write"), [(name, write) for name in REFUTED for write in REFUTED[name]])
def test_a_claim_is_refuted_by_any_of_its_tests(tmp_path, name, write):
    write(tmp_path)
    assert judge(name, tmp_path).conclusion == "refuted"


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_claim_that_the_records_leave_open_is_undecided_and_says_what_would_decide_it_at_what_cost(tmp_path, name):
    UNDECIDED[name](tmp_path)
    found = judge(name, tmp_path)
    assert found.conclusion == "undecided", found
    for judgement in found.judgements:
        if judgement.conclusion == "undecided" and judgement.decides:
            assert judgement.missing or "neither 30 seeds nor" in judgement.note or "has no more" in judgement.note
            assert all(runs.hours is not None and runs.hours >= 0 for runs in judgement.missing)


@pytest.mark.parametrize("name", EQUIVALENT)
def test_a_difference_that_is_surely_below_the_smallest_of_interest_is_equivalent(tmp_path, name):
    EQUIVALENT[name](tmp_path)
    assert judge(name, tmp_path).conclusion == "equivalent"


@pytest.mark.parametrize("name", CLAIMS)
def test_without_runs_a_claim_is_undecided_and_names_the_sweep(tmp_path, name):
    found = judge(name, tmp_path)
    assert found.conclusion == "undecided"
    assert all(judgement.effect is None and judgement.runs == [] for judgement in found.judgements)
    assert all(judgement.missing for judgement in found.judgements)


def test_a_metric_that_records_do_not_have_leaves_a_claim_undecided_and_says_so(tmp_path):
    for task in ("wordle", "gsm_synth"):
        write_experiment(tmp_path, "grpo", 0.5, task=task, **SEEDS)
    found = judge("learning", tmp_path)
    assert found.conclusion == "undecided"
    assert "has no outcomes at T*" in found.judgements[0].note


def test_what_is_missing_is_printed_as_sweeps_that_the_command_line_takes(tmp_path):
    printed = CliRunner().invoke(app, ["claims", "--missing", "--runs", str(tmp_path / "none")]).output.splitlines()
    assert printed[0].startswith("# to decide")
    assert len(printed) > 5
    for line in printed[1:]:
        words = line.removeprefix("python -m benchmarks run -m ").split()
        assert words[-1] == f"results.dir={tmp_path / 'none'}"
        for end in (0, -1):
            chosen = [f"{key}={values.split(',')[end]}" for key, values in (word.split("=", 1) for word in words)]
            check_config(compose_config(chosen))


def test_runs_that_differ_in_one_word_are_one_sweep_and_a_finer_curve_serves_both():
    def runs(*words, task="wordle", seeds=3, fine=False):
        return MissingRuns(words, task, "quick", seeds, fine, None)

    missing = [runs(f"+algo={algo}", task=task) for algo in ("grpo", "rft") for task in ("wordle", "gsm_synth")]
    missing += [runs("+algo=gepa", "task.max_turns=2", seeds=5), runs("+algo=gepa", "task.max_turns=3", seeds=5)]
    missing += [runs("+algo=gepa"), runs("+algo=gepa", seeds=4, fine=True)]
    run = "python -m benchmarks run -m"
    assert commands(missing, "tiny", str(RUNS)) == [
        f"{run} +algo=grpo,rft task=wordle,gsm_synth policy=tiny budget=quick seed=0,1,2",
        f"{run} +algo=gepa task=wordle task.max_turns=2,3 policy=tiny budget=quick seed=0,1,2,3,4",
        f"{run} +algo=gepa task=wordle budget.checkpoints=24 policy=tiny budget=quick seed=0,1,2,3",
    ]


def test_too_few_seeds_decide_nothing_however_large_the_effect(tmp_path):
    textual_feedback(tmp_path, 0.4, 0.4, seeds=2)
    found = judge("textual_feedback", tmp_path)
    assert found.conclusion == "undecided"
    assert found.judgements[0].note == "2 of 5 seeds"


def test_the_cost_of_what_is_missing_comes_from_the_records_own_runs(tmp_path):
    textual_feedback(tmp_path, 0.4, 0.4, seeds=2)
    # 40 CPU seconds of improving and 30 of evaluating a run; three more seeds of each.
    assert [runs.hours for runs in judge("textual_feedback", tmp_path).judgements[0].missing] == [3 * 70 / 3600] * 2


def test_unequal_costs_decide_nothing_and_are_named(tmp_path):
    settings = {"task.feedback": "hint"}
    write_experiment(tmp_path, "grpo", 0.4, costs={"flops": 1e12}, settings=settings, **SEEDS)
    for shuffled in (False, True):
        write_experiment(tmp_path, "feedback_grpo", 0.7, settings=settings | {"algo.shuffled": shuffled}, **SEEDS)
    judgement = judge("textual_feedback", tmp_path).judgements[1]
    assert judgement.conclusion == "undecided"
    assert "not at equal flops: 2e+12 and 1e+12" in judgement.note


def test_runs_in_another_setting_are_not_taken_but_the_reward_may_differ_where_the_test_says_so(tmp_path):
    write_experiment(tmp_path, "grpo", 0.5, settings={"task.reward": "shaped", "task.test": 0.5}, **SEEDS)
    write_experiment(tmp_path, "grpo", 0.7, settings={"task.reward": "outcome"}, **SEEDS)
    assert "no runs of" in judge("outcome_reward", tmp_path).judgements[0].note
    write_experiment(tmp_path, "grpo", 0.5, settings={"task.reward": "shaped"}, **SEEDS)
    assert judge("outcome_reward", tmp_path).conclusion == "supported"


def test_where_a_test_names_no_reward_the_tasks_own_is_taken_though_another_has_more_seeds(tmp_path):
    for task in ("gsm_synth", "wordle_turn"):
        write_experiment(tmp_path, "grpo", 0.2, task=task, settings={"task.reward": "shaped"}, **SEEDS)
        write_experiment(tmp_path, "grpo", 0.9, task=task, settings={"task.reward": "outcome"}, seeds=8)
    found = judge("single_turn", tmp_path)
    assert {judgement.seeds for judgement in found.judgements if judgement.runs} == {5}


def test_the_runs_that_are_taken_are_those_with_most_seeds_not_the_best(tmp_path):
    vector_reward(tmp_path, 0.3, seeds=6)
    better = write_experiment(
        tmp_path, "grpo", 0.9, settings={"algo.learning_rate": 1.0, "task.reward": "equal"}, **SEEDS
    )
    runs = judge("vector_reward", tmp_path).judgements[0].runs
    assert runs
    assert not {record.name for record in better} & set(runs)


def test_where_problems_are_what_varies_more_of_them_are_asked_for_and_not_more_seeds(tmp_path):
    # Seeds hardly differ, and which problems an algorithm solves has little to do with which the other does.
    solved = {"grpo": np.arange(60) % 2 == 0, "vector_grpo": (np.arange(60) // 2 % 2 == 0) | (np.arange(60) < 16)}
    for algo, cells in solved.items():
        for seed in range(5):
            outcomes = np.repeat(cells[:, None], 2, axis=1)
            outcomes[seed] = [True, False]
            about = {"experiment": algo.ljust(10, "0"), "final": outcomes.tolist(), "base": outcomes.tolist()}
            record = write_record(tmp_path, algo=algo, seed=seed, **about)
            names = {"algo": algo, "task": "wordle", "policy": "tiny", "budget": "quick"}
            groups = {group: {"name": name} for group, name in names.items()}
            groups["task"] |= {"reward": "equal", "problems_per_level": 600}
            record.write_json("config.json", {**groups, "seed": seed})
            record.write_status("complete")
    judgement = judge("vector_reward", tmp_path).judgements[0]
    assert judgement.conclusion == "undecided"
    assert "more test problems are the way" in judgement.note
    assert all(runs.words[-1].startswith("task.problems_per_level=") for runs in judgement.missing)


def test_power_law_growth_is_not_taken_for_exponential(tmp_path):
    for turns in (1, 2, 3, 4):
        about = {"settings": {"task.max_turns": turns}, "seeds": 3, "budget": "smoke"}
        write_experiment(tmp_path, "fork_grpo", 0.3, costs={"rollouts": 10.0 * turns**6}, **about)
    judgement = judge("forking_cost", tmp_path).judgements[0]
    assert judgement.effect > 0.405
    assert judgement.conclusion == "undecided"
    assert "a power law fits better" in judgement.note


def test_a_coarse_curve_leaves_the_rollouts_open_and_a_finer_one_is_asked_for(tmp_path):
    # Two evaluations: nobody knows when in between it was learnt.
    for task in ("wordle", "gsm_synth"):
        write_experiment(tmp_path, "grpo", 0.5, task=task, **SEEDS)
        costs = {"rollouts": 9000.0}
        write_experiment(tmp_path, "gepa", 0.6, task=task, pace=8.0, costs=costs, points=2, **SEEDS)
    judgement = judge("prompt_optimisation", tmp_path).judgements[0]
    assert judgement.conclusion == "undecided"
    assert judgement.low < -0.2 < 0.05 < judgement.high
    assert judgement.note == "a finer curve would decide it"
    assert all(runs.fine and runs.seeds == 5 for runs in judgement.missing)


def test_curves_carry_the_variance_of_the_val_problems_that_the_test_problems_show(tmp_path):
    vector_reward(tmp_path, 0.1)
    first, second = (e for e in read_experiments(tmp_path)[0] if e.algo in ("vector_grpo", "grpo"))
    tested, of_test = first.first.summary["n_test"], gap(first, second, "solved").problem_variance
    # Of 60 test problems at a share of .25 there are 36 for val at .15, fewer than the 64 that were asked for.
    assert val_variance(first, second, "solved") == pytest.approx(of_test * tested / 36)
    assert curve_gap(first, second, "flops", "solved")[0].problem_variance == val_variance(first, second, "solved") > 0


def test_the_ratio_of_updates_to_target_is_the_one_that_the_curves_were_made_with(tmp_path):
    for algo, pace in (("vector_grpo", 2.0), ("grpo", 1.0)):
        write_experiment(tmp_path, algo, 0.6, pace=pace, points=101, **SEEDS)
    grpo, vector = read_experiments(tmp_path)[0]
    # Halfway after .5 of the updates and after .25 of them.
    found = time_gap(vector, grpo, "solved")
    assert found.value == pytest.approx(np.log(2), abs=0.1)
    low, high = found.interval()
    assert low < np.log(2) < high
    write_experiment(tmp_path, "stuck", 0.1, **SEEDS)
    stuck = read_experiments(tmp_path)[0][1]
    with pytest.raises(BadInput, match="nothing to time"):
        time_gap(vector, stuck, "solved")


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
    assert len(answers["textual_feedback"]["judgements"][0]["runs"]) == 10
    assert answers["vector_reward"]["conclusion"] == "undecided"


HEAD = "name: a\nsentence: b\nsource: c\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + "tests: [{kind: guess}]", "kind=guess: use one of difference"),
        (HEAD.replace("name: a", "name: z") + "tests: [{kind: curve}]", "name=z must be the file's"),
        (HEAD + "tests: []", "tests: a claim needs at least one"),
        (HEAD + "seeds: 1\ntests: [{kind: curve}]", "at least 2"),
        (HEAD + "proof: none\ntests: [{kind: curve}]", "proof"),
        (
            HEAD + "tests: [{kind: difference, test: x, tasks: [w], first: {algo: g}, side: left}]",
            "side=left: use above or below",
        ),
        (HEAD + "tests: [{kind: difference, test: x, tasks: [w], first: {algo: g}, effect: 1}]", "effect"),
        ("[1", "a.yaml"),
    ],
)
def test_a_wrong_claim_is_named_by_file_and_key(tmp_path, text, reason):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"^a\.yaml: ") as error:
        load_claims(tmp_path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
