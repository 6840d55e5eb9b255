"""The pictures and tables for a paper: the page's figures and the table's numbers, as files."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from browsing import CHROMIUM
from claim_records import write_experiment
from record_factory import write_record

from benchmarks.report.figures import figures
from benchmarks.report.gather import gather
from benchmarks.report.pictures import latex, named_figures, pictures
from benchmarks.report.style import LIGHT
from tasks.errors import BadInput


@pytest.fixture
def records(tmp_path):
    write_experiment(tmp_path / "runs", "grpo", 0.5)
    write_experiment(tmp_path / "runs", "near_grpo", 0.49, luck=0.03)
    write_experiment(tmp_path / "runs", "weak", 0.25)
    return tmp_path / "runs"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_every_plot_becomes_an_svg_and_a_png_in_the_pages_colours(records, tmp_path, monkeypatch):
    pytest.importorskip("kaleido")
    results = gather(records)
    wanted = {"wordle-tiny-quick-curves": figures(results.settings[0], results)["curves"]}
    # One figure is enough: starting Chromium is what takes time.
    monkeypatch.setattr("benchmarks.report.pictures.named_figures", lambda results: wanted)
    said = pictures(records, tmp_path / "out")
    assert said.endswith("1 pictures as svg and png, leaderboard.md and leaderboard.tex")
    svg = (tmp_path / "out/wordle-tiny-quick-curves.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    colours = {tuple(map(int, rgb)) for rgb in re.findall(r"stroke: rgb\((\d+), (\d+), (\d+)\)", svg)}
    assert {tuple(int(hue[at : at + 2], 16) for at in (1, 3, 5)) for hue in LIGHT[:3]} <= colours
    for name in ("grpo", "near_grpo", "weak", "model FLOPs"):
        assert name in svg
    png = (tmp_path / "out/wordle-tiny-quick-curves.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 1800


def test_there_is_a_picture_of_every_plot_under_a_name_that_stays_in_the_folder(tmp_path):
    write_experiment(tmp_path, "grpo", 0.5)
    write_experiment(tmp_path, "grpo", 0.5, task="gsm_synth", seeds=5)
    for seed, (task, name) in enumerate({"odd1": "../../etc/x", "odd2": "..%..%etc%x"}.items()):
        record = write_record(tmp_path, task=task, seed=seed)
        summary = record.read_json("summary.json") | {"task": name}
        record.write_json("summary.json", summary)
        record.write_rows("curve.parquet", [{"spent/flops": cost, "solved": cost} for cost in (0.0, 1.0)])
        record.write_status("complete")
    results = gather(tmp_path)
    names = named_figures(results)
    claims = [name for name in names if "-claim-" in name]
    assert claims == ["tiny-quick-claim-single_turn"]
    over_all_tasks = {"tiny-quick-gains", "tiny-quick-progress"}
    assert over_all_tasks <= set(names)
    own = sum(len(figures(setting, results)) for setting in results.settings)
    assert len(names) == own + len(claims) + len(over_all_tasks)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) for name in names)
    assert {"_.._etc_x-tiny-quick-curves", "_.._etc_x-tiny-quick-curves-2"} <= set(names)


def test_the_latex_table_marks_the_best_and_the_tied_and_escapes_names(records):
    text = latex(gather(records))
    rows = {line.split(" & ")[3]: line for line in text.splitlines() if " & " in line}
    assert r"\toprule" in text
    assert r"near\_grpo" in rows
    leader, tied = sorted(("grpo", r"near\_grpo"), key=lambda name: r"\bfseries" not in rows[name])
    assert r"\bfseries" in rows[leader]
    assert r"$^\dagger$" in rows[tied]
    assert not re.search(r"bfseries|dagger", rows["weak"])
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", rows["weak"])


def test_without_a_run_or_a_folder_to_write_to_there_is_one_line(records, tmp_path):
    pytest.importorskip("kaleido")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no complete run to draw"):
        pictures(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--figures .* cannot write there"):
        pictures(records, tmp_path / "file" / "out")
