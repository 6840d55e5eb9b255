"""Gains at temperature 1 and at T*, side by side, in `compare` and as metrics."""

from __future__ import annotations

import json

import numpy as np
import pytest
from record_factory import write_record
from typer.testing import CliRunner

from benchmarks.analysis.experiments import SOLVED_TSTAR, read_experiments
from benchmarks.analysis.gains import gains_of
from benchmarks.analysis.table import read_table
from benchmarks.cli import app
from tasks.errors import BadInput


@pytest.fixture
def runs(tmp_path):
    """Algorithms of which one learns, one sharpens, and one has no outcomes at T*."""
    rng = np.random.default_rng(0)
    for algo, hot in (("learns", 0.8), ("sharpens", 0.45), ("old", None)):
        for seed in range(3):
            shares = np.array([0.3, 0.7, 0.45, hot or 0.0]).reshape(4, 1, 1)
            base, final, *tstar = rng.random((4, 60, 2)) < shares
            at_best = None if hot is None else tuple(tstar)
            names = {"algo": algo, "experiment": f"{algo}e", "seed": seed}
            write_record(tmp_path, **names, base=base.tolist(), final=final.tolist(), tstar=at_best)
    return tmp_path


def test_both_gains_are_those_of_the_table(runs):
    rows = {row["algo"]: row for row in read_table(runs).rows}
    for experiment in read_experiments(runs)[0]:
        found, row = gains_of(experiment, "name"), rows[experiment.algo]
        assert found.gain == pytest.approx([row[f"gain{end}"] for end in ("", "_ci_low", "_ci_high")])
        at_best = [row[f"gain_tstar{end}"] for end in ("", "_ci_low", "_ci_high")]
        assert found.gain_tstar == (None if at_best[0] is None else pytest.approx(at_best))
        assert found.sharpening == row["sharpening"] == {"learns": False, "sharpens": True}.get(experiment.algo)


def test_compare_shows_both_gains_and_says_which_is_not_shown_at_tstar(runs):
    words = ["compare", "learns", "sharpens", "old", "--runs", str(runs)]
    text = CliRunner().invoke(app, words).output.splitlines()
    after = next(number for number, line in enumerate(text) if "gain at T*" in line)
    lines = {line.split()[0]: line for line in text[after + 2 : after + 5]}
    assert {algo for algo, line in lines.items() if "sharpening?" in line} == {"sharpens"}
    assert "–" in lines["old"]
    found = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    assert [each["sharpening"] for each in found["gains"]] == [False, True, None]


def test_what_is_solved_at_tstar_is_a_metric(runs):
    experiment = next(e for e in read_experiments(runs)[0] if e.algo == "learns")
    assert experiment.matrix(SOLVED_TSTAR, [0, 1, 2]).mean() == pytest.approx(0.8, abs=0.06)
    assert experiment.base_matrix([0, 1, 2], SOLVED_TSTAR).mean() == pytest.approx(0.45, abs=0.08)
    old = next(e for e in read_experiments(runs)[0] if e.algo == "old")
    with pytest.raises(BadInput, match=r"solved_tstar: old\S* has no outcomes at T\*"):
        old.matrix(SOLVED_TSTAR, [0])
