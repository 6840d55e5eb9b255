"""One row per experiment, from the records in a folder; damaged records are named and left out."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from record_factory import DAMAGE, UNREADABLE, rewrite, set_aside, write_record
from rich.console import Console

from benchmarks.analysis.statistics import accuracy_interval, paired_gain_interval
from benchmarks.analysis.table import AT_TSTAR, CAPABILITY, LEGEND, read_table, render
from tasks.errors import BadInput

HALF = ((True, False), (True, False))
ALL = ((True, True), (True, True))
NONE = ((False, False), (False, False))
KEYS = (
    *("algo", "task", "policy", "budget", "seeds", "n_test", "accuracy_base", "accuracy_final"),
    *("accuracy_ci_low", "accuracy_ci_high", "gain", "gain_ci_low", "gain_ci_high", *AT_TSTAR, "sharpening"),
    *(
        *CAPABILITY,
        "rollouts",
        "tokens_generated",
        "tokens_trained",
        "flops",
        "wall_s",
        "rollouts_per_s",
        "tokens_per_s",
        "peak_memory_bytes",
        "energy_j",
    ),
    *("status", "metrics_final", "reward_correlations", "experiment"),
)


def text_of(table, width=80, terminal=False):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, no_color=True, highlight=False)
    render(table, "text", console)
    return re.sub(r"\x1b\[\d*m", "", console.file.getvalue())


def test_the_seeds_of_one_experiment_make_one_row(tmp_path):
    write_record(tmp_path, seed=1, base=NONE, final=HALF, rollouts=100, peak_memory_bytes=10)
    write_record(tmp_path, seed=0, base=NONE, final=ALL, rollouts=300, peak_memory_bytes=30)
    (row,) = read_table(tmp_path).rows
    assert tuple(row) == KEYS
    assert row["seeds"] == [0, 1]
    assert (row["n_test"], row["accuracy_base"], row["accuracy_final"], row["gain"]) == (2, 0.0, 0.75, 0.75)
    assert (row["rollouts"], row["peak_memory_bytes"]) == (200, 30)
    assert row["metrics_final"] == {"solved": 0.75, "guesses": 4.5}
    assert row["status"] == "complete"


def test_the_intervals_are_those_of_problems_averaged_over_samples_and_paired_by_seed_and_problem(tmp_path):
    rng = np.random.default_rng(0)
    base, final = rng.random((2, 3, 20, 2)) < np.array([0.3, 0.7]).reshape(2, 1, 1, 1)
    for seed in (2, 0, 1):
        write_record(tmp_path, seed=seed, base=base[seed].tolist(), final=final[seed].tolist())
    (row,) = read_table(tmp_path).rows
    # The table orders problems by id, as text: word10 comes before word2.
    order = sorted(range(20), key=lambda problem: f"word{problem}")
    shares = [outcome.mean(axis=2)[:, order] for outcome in (base, final)]
    assert (row["accuracy_ci_low"], row["accuracy_ci_high"]) == pytest.approx(accuracy_interval(shares[1]))
    assert (row["gain_ci_low"], row["gain_ci_high"]) == pytest.approx(paired_gain_interval(*shares))


@pytest.mark.parametrize(
    ("shift", "gains", "word"), [(0.0, False, "sharpening?"), (0.5, True, "complete"), (-0.3, False, "sharpening?")]
)
def test_a_gain_at_temperature_1_that_is_not_shown_at_tstar_is_called_sharpening(tmp_path, capsys, shift, gains, word):
    rng = np.random.default_rng(0)
    base, final, cold = rng.random((3, 100, 2)) < np.array([0.3, 0.7, 0.4]).reshape(3, 1, 1)
    hot = rng.random((100, 2)) < 0.4 + shift
    for seed in range(3):
        names = {"base": base.tolist(), "final": final.tolist(), "tstar": (cold, hot)}
        write_record(tmp_path, seed=seed, **names, tstar_base=0.3, tstar_final=1.0)
    table = read_table(tmp_path)
    (row,) = table.rows
    before, after = (np.repeat([cells.mean(1)], 3, 0) for cells in (cold, hot))
    assert row["gain_tstar"] == pytest.approx((after - before).mean())
    assert (row["gain_tstar_ci_low"], row["gain_tstar_ci_high"]) == pytest.approx(paired_gain_interval(before, after))
    assert (row["sharpening"], row["tstar_base"], row["tstar_final"]) == (not gains, 0.3, 1.0)
    text = text_of(table)
    assert (word in text.splitlines()[3], LEGEND in text) == (True, not gains)
    render(table, "markdown", Console())
    assert (LEGEND in capsys.readouterr().out) == (not gains)


def test_tstar_outcomes_that_contradict_the_summary_set_the_record_aside(tmp_path):
    at_best = (np.array(HALF), np.array(ALL))
    record = write_record(tmp_path, tstar=at_best, accuracy_tstar_final=0.5)
    other = write_record(tmp_path, seed=1, tstar=(at_best[0][:1], at_best[1][:1]))
    _, aside = set_aside(tmp_path)
    assert "accuracy_tstar_final" in aside[record.name]
    assert "not n_test problems" in aside[other.name]


def test_rows_go_by_task_policy_budget_and_then_from_best_to_worst(tmp_path):
    write_record(tmp_path, task="wordle", algo="worse", final=HALF)
    write_record(tmp_path, task="wordle", algo="waiting", status="running")
    write_record(tmp_path, task="wordle", algo="better", final=ALL)
    write_record(tmp_path, task="gsm8k", algo="worst", final=NONE)
    write_record(tmp_path, task="wordle", budget="long", algo="long", final=NONE)
    rows = read_table(tmp_path).rows
    assert [row["algo"] for row in rows] == ["worst", "long", "better", "worse", "waiting"]


def test_a_run_that_is_not_complete_adds_to_the_status_and_to_no_number(tmp_path):
    write_record(tmp_path, seed=0, final=ALL)
    write_record(tmp_path, seed=1, status="failed", rollouts=10**9)
    write_record(tmp_path, seed=2, final=ALL)
    (row,) = read_table(tmp_path).rows
    assert row["status"] == "2 complete, 1 failed"
    assert (row["seeds"], row["accuracy_final"], row["rollouts"]) == ([0, 2], 1.0, 640)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_an_experiment_without_a_complete_run_has_a_row_without_numbers(tmp_path, status):
    write_record(tmp_path, seed=3, status=status)
    (row,) = read_table(tmp_path).rows
    assert tuple(row) == KEYS
    assert (row["algo"], row["seeds"], row["status"], row["metrics_final"]) == ("grpo", [3], status, {})
    assert all(row[key] is None for key in KEYS[KEYS.index("n_test") : KEYS.index("status")])
    text = text_of(read_table(tmp_path))
    assert status in text
    assert text.count("–") == 6


def test_a_cost_that_one_run_could_not_measure_is_null_for_the_experiment(tmp_path):
    write_record(tmp_path, seed=0, energy_j=10.0, peak_memory_bytes=None)
    write_record(tmp_path, seed=1, energy_j=None)
    (row,) = read_table(tmp_path).rows
    assert (row["energy_j"], row["peak_memory_bytes"], row["rollouts"]) == (None, None, 640)


def test_one_record_can_be_read_alone(tmp_path):
    wanted = write_record(tmp_path, seed=0)
    write_record(tmp_path, seed=1)
    write_record(tmp_path, seed=2, without=["summary.json"])
    table = read_table(tmp_path, only=wanted.name)
    assert ([row["seeds"] for row in table.rows], table.set_aside) == ([[0]], [])


@pytest.mark.parametrize(("how", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_set_aside_by_name_and_enters_no_row(tmp_path, how, reason):
    write_record(tmp_path, seed=0)
    damaged = write_record(tmp_path, seed=1, **how)
    rows, aside = set_aside(tmp_path)
    assert [row["seeds"] for row in rows] == [[0]]
    assert reason in aside.pop(damaged.name)
    assert aside == {}


@pytest.mark.parametrize(("file", "content"), [(file, content) for file in UNREADABLE for content in UNREADABLE[file]])
def test_a_file_that_cannot_be_read_sets_its_record_aside(tmp_path, file, content):
    record = write_record(tmp_path, status="interrupted" if file == "config.json" else "complete")
    (record.folder / file).write_bytes(content)
    rows, aside = set_aside(tmp_path)
    assert rows == []
    assert aside[record.name].startswith(file)
    assert "\n" not in aside[record.name]


def test_infinite_numbers_in_a_summary_set_the_record_aside(tmp_path):
    for seed, word in enumerate(("NaN", "Infinity", "1e999")):
        record = write_record(tmp_path, seed=seed)
        text = (record.folder / "summary.json").read_text().replace('"wall_s": 90.0', f'"wall_s": {word}')
        (record.folder / "summary.json").write_text(text)
        record.write_status("complete")
    assert list(set_aside(tmp_path)[1].values()) == ["summary.json: impossible value of wall_s"] * 3


@pytest.mark.parametrize("column", ["stage", "problem", "solved"])
def test_samples_that_lack_a_column_or_a_value_set_the_record_aside(tmp_path, column):
    record = write_record(tmp_path)
    rows = record.read_rows("outcomes.parquet")
    rewrite(record, "outcomes.parquet", [*rows[:-1], rows[-1] | {column: None}])
    assert record.name in set_aside(tmp_path)[1]
    rewrite(record, "outcomes.parquet", [{key: row[key] for key in row if key != column} for row in rows])
    assert record.name in set_aside(tmp_path)[1]


def test_base_samples_of_other_problems_set_the_record_aside(tmp_path):
    record = write_record(tmp_path)
    rows = record.read_rows("outcomes.parquet")
    rewrite(record, "outcomes.parquet", [row | {"problem": row["stage"] + row["problem"]} for row in rows])
    assert "same problems" in set_aside(tmp_path)[1][record.name]


def test_a_seed_with_other_test_problems_is_set_aside(tmp_path):
    first = write_record(tmp_path, seed=0)
    other = write_record(tmp_path, seed=1, base=(*HALF, (False, False)), final=(*HALF, (False, False)))
    rows, aside = set_aside(tmp_path)
    assert [row["seeds"] for row in rows] == [[0]]
    assert first.name in aside[other.name]


def test_a_copy_of_a_run_counts_once(tmp_path):
    record = write_record(tmp_path, final=ALL)
    shutil.copytree(record.folder, tmp_path / "z-copy")
    assert read_table(tmp_path).rows == read_table(tmp_path, only=record.name).rows
    assert set_aside(tmp_path)[1] == {"z-copy": f"same experiment and seed as {record.name}"}


def test_what_is_no_record_is_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "idea.txt").write_text("more seeds")
    (tmp_path / "README.md").write_text("runs")
    assert set_aside(tmp_path) == ([], {})


def test_a_wrong_folder_or_format_is_the_users_mistake(tmp_path):
    with pytest.raises(BadInput, match="no such results folder"):
        read_table(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="text, json, csv, markdown"):
        render(read_table(tmp_path), "html", Console())


def test_json_prints_one_object_a_row_with_the_keys_in_order(tmp_path, capsys):
    write_record(tmp_path, final=ALL)
    write_record(tmp_path, algo="gepa", final=HALF)
    write_record(tmp_path, algo="ppo", status="failed")
    write_record(tmp_path, algo="broken", without=["summary.json"])
    render(read_table(tmp_path), "json", Console(width=20))
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["algo"] for row in rows] == ["grpo", "gepa", "ppo"]
    assert all(tuple(row) == KEYS for row in rows)
    assert rows[2]["accuracy_final"] is None
    assert re.fullmatch(r"set aside 1 x summary.json: missing \(broken-\S+\)\n1 records set aside\n", err)


def test_csv_has_a_line_a_row_and_a_column_a_metric(tmp_path, capsys):
    write_record(tmp_path, seed=0, final=ALL)
    write_record(tmp_path, seed=1, final=ALL)
    write_record(tmp_path, algo="one, two", status="running")
    render(read_table(tmp_path), "csv", Console(width=20))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["algo"] for row in rows] == ["grpo", "one, two"]
    assert (rows[0]["seeds"], rows[0]["accuracy_final"], rows[0]["metric/guesses"]) == ("0 1", "1.0", "4.5")
    assert (rows[1]["accuracy_final"], rows[1]["metric/guesses"], "metrics_final" in rows[1]) == ("", "", False)


def test_correlations_of_rewards_are_means_over_seeds_in_json_and_columns_in_csv(tmp_path, capsys):
    for seed, correlation in enumerate((0.5, 0.75)):
        found = {"sum_solved": correlation} | ({"valid_format": 0.1} if seed else {})
        write_record(tmp_path, seed=seed, reward_correlations=found)
    write_record(tmp_path, algo="gepa")
    table = read_table(tmp_path)
    assert [row["reward_correlations"] for row in table.rows if row["algo"] == "grpo"] == [{"sum_solved": 0.625}]
    render(table, "csv", Console(width=20))
    rows = {row["algo"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert (rows["grpo"]["corr/sum_solved"], rows["gepa"]["corr/sum_solved"]) == ("0.625", "")


def test_markdown_has_as_many_cells_in_every_line(tmp_path, capsys):
    write_record(tmp_path, final=ALL)
    write_record(tmp_path, algo="a|b", final=HALF)
    render(read_table(tmp_path), "markdown", Console(width=20))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "100.0 [" in lines[2]


@pytest.fixture
def wide_rows(tmp_path):
    """Two experiments with long names and every column filled."""
    rng = np.random.default_rng(0)
    base, final = rng.random((2, 1000, 1)) < np.array([0.1, 0.9]).reshape(2, 1, 1)
    for experiment in ("aaaaaaaaaa", "bbbbbbbbbb"):
        names = {"algo": "feedback_grpo", "task": "wordle_turn", "experiment": experiment}
        write_record(tmp_path, **names, base=base.tolist(), final=final.tolist(), tstar=(base, final), wall_s=3_000.0)
        write_record(tmp_path, **names, seed=1, status="interrupted")
    return read_table(tmp_path)


@pytest.mark.parametrize(("width", "terminal"), [(120, True), (80, False)])
def test_text_fits_120_columns_with_every_number_in_one_piece(wide_rows, width, terminal):
    row = wide_rows.rows[0]
    percentages = {key: 100 * row[key] for key in KEYS[KEYS.index("accuracy_base") : KEYS.index("sharpening")]}
    text = text_of(wide_rows, width, terminal)
    assert "{accuracy_final:.1f} [{accuracy_ci_low:.1f}, {accuracy_ci_high:.1f}]".format(**percentages) in text
    assert "{gain:+.1f} [{gain_ci_low:+.1f}, {gain_ci_high:+.1f}]".format(**percentages) in text
    assert "{gain_tstar:+.1f} [{gain_tstar_ci_low:+.1f}, {gain_tstar_ci_high:+.1f}]".format(**percentages) in text
    for cell in (
        "wordle_turn · tiny · quick: 1000 test problems",
        "feedback_grpo",
        "aaaaaa",
        "3.2e12",
        "50.0 min",
        "600 MiB",
    ):
        assert cell in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_narrow_terminal_breaks_numbers_over_lines_and_cuts_none(wide_rows):
    text = text_of(wide_rows, 80, terminal=True)
    row = wide_rows.rows[0]
    assert max(map(len, text.splitlines())) <= 80
    for number in (row["accuracy_final"], row["accuracy_ci_low"], row["accuracy_ci_high"], row["gain_ci_high"]):
        assert f"{100 * number:.1f}" in text
    for piece in ("feedback", "_grpo", "aaaaaa", "1000", "3.2e12", "600 MiB"):
        assert piece in text


def test_text_shows_the_experiments_hash_only_where_names_are_shared(tmp_path):
    write_record(tmp_path, experiment="aaaaaaaaaa")
    assert "aaaaaa" not in text_of(read_table(tmp_path))
    write_record(tmp_path, experiment="bbbbbbbbbb")
    assert all(name in text_of(read_table(tmp_path)) for name in ("aaaaaa", "bbbbbb"))


def test_text_takes_no_name_for_markup(tmp_path):
    write_record(tmp_path, algo="[red]grpo", task="[bold]")
    assert all(name in text_of(read_table(tmp_path)) for name in ("[red]grpo", "[bold] · tiny"))


@pytest.mark.parametrize("fmt", ["text", "json", "csv", "markdown"])
def test_an_empty_folder_says_that_there_are_no_records_yet(tmp_path, capsys, fmt):
    render(read_table(tmp_path), fmt, Console())
    out, err = capsys.readouterr()
    said, silent = (err, out) if fmt in ("json", "csv") else (out, err)
    assert re.fullmatch("there are no records yet.*\n", said)
    assert silent == ""


def test_a_reason_with_escapes_reaches_the_terminal_as_text(tmp_path, capsys):
    record = write_record(tmp_path, status="running")
    (record.folder / "config.json").write_bytes(b"algo: \x1b]0;owned\x07 [")
    record.folder.rename(tmp_path / "evil\x1b[2J\nname")
    write_record(tmp_path)
    render(read_table(tmp_path), "text", Console())
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert r"evil\x1b[2J\nname" in err


def test_reading_a_table_loads_no_torch_and_no_pandas(tmp_path):
    write_record(tmp_path)
    code = (
        "import sys; from pathlib import Path; from rich.console import Console; import benchmarks.analysis.table as t;"
        f"t.render(t.read_table(Path({str(tmp_path)!r})), 'text', Console());"
        "print({'torch', 'transformers', 'trl', 'pandas', 'scipy.stats', 'hydra'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("set()\n")
