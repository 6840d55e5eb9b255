"""The plots over all tasks of a policy and budget show the table's numbers."""

from __future__ import annotations

import pytest
from claim_records import write_experiment
from record_factory import write_record

from benchmarks.report.figures import figures
from benchmarks.report.gather import gather
from benchmarks.report.overview import overview
from benchmarks.report.page import report
from benchmarks.report.style import drawn


@pytest.fixture
def results(tmp_path):
    for task in ("wordle", "gsm_synth"):
        write_experiment(tmp_path, "grpo", 0.6, task=task)
        write_experiment(tmp_path, "weak", 0.25, task=task)
    write_experiment(tmp_path, "grpo", 0.9, task="wordle", budget="long")
    write_experiment(tmp_path, "late", 0.55, task="wordle")
    return gather(tmp_path)


def panels(figure):
    """The title and the traces of each small plot."""
    titles = [note["text"].removeprefix("<b>").removesuffix("</b>") for note in figure["layout"]["annotations"]]
    marks = ["", *map(str, range(2, len(titles) + 1))]
    found = [[trace for trace in figure["data"] if trace["xaxis"] == f"x{mark}"] for mark in marks]
    return dict(zip(titles, found, strict=True))


def test_every_gain_and_interval_is_the_tables(results):
    shown = panels(overview("tiny", "quick", results)["gains"])
    assert set(shown) == {"wordle", "gsm_synth"}
    for setting in results.settings:
        if setting.names[2] != "quick":
            continue
        traces = {trace["name"]: trace for trace in shown[setting.names[0]]}
        assert set(traces) == {experiment.label for experiment in setting.plotted}
        for experiment in setting.plotted:
            (x,), bar = traces[experiment.label]["x"], traces[experiment.label]["error_x"]
            ends = (x, x - bar["arrayminus"][0], x + bar["array"][0])
            row = experiment.row
            assert ends == pytest.approx([100 * row[key] for key in ("gain", "gain_ci_low", "gain_ci_high")])


def test_what_is_behind_the_best_is_hollow(results):
    for traces in panels(overview("tiny", "quick", results)["gains"]).values():
        hollow = {trace["name"]: trace["marker"]["symbol"].endswith("-open") for trace in traces}
        assert hollow["weak"]
        assert not hollow["grpo"]


def test_rows_have_the_same_order_in_every_small_plot_also_where_an_algorithm_is_missing(results):
    layout = overview("tiny", "quick", results)["gains"]["layout"]
    assert layout["yaxis"]["categoryarray"] == layout["yaxis2"]["categoryarray"] == ["weak ", "late ", "grpo "]
    assert layout["xaxis"]["range"] == layout["xaxis2"]["range"]


def test_progress_names_each_algorithm_once_and_ends_where_its_own_plot_ends(results):
    figure = overview("tiny", "quick", results)["progress"]
    assert sorted(t["name"] for t in figure["data"] if t["showlegend"]) == ["grpo", "late", "weak"]
    for setting in results.settings:
        if setting.names[2] == "quick":
            own = {
                trace["name"]: trace["y"] for trace in figures(setting, results)["curves"]["data"] if "name" in trace
            }
            assert {trace["name"]: trace["y"] for trace in panels(figure)[setting.names[0]]} == own
    made = drawn(figure, axis="rollouts", log=False, theme="dark")
    assert made["layout"]["xaxis2"]["title"]["text"] == "rollouts"


def test_four_tasks_take_two_rows_that_do_not_overlap(tmp_path):
    for task in ("a", "b", "c", "d"):
        write_experiment(tmp_path, "grpo", 0.6, task=task, seeds=2)
    layout = overview("tiny", "quick", gather(tmp_path))["gains"]["layout"]
    first, fourth = layout["yaxis"]["domain"], layout["yaxis4"]["domain"]
    assert fourth[1] < first[0]
    assert layout["xaxis4"]["domain"] == layout["xaxis"]["domain"]
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]


def test_names_that_are_markup_stay_text(tmp_path):
    record = write_record(tmp_path)
    record.write_json("summary.json", record.read_json("summary.json") | {"task": "<b>x", "algo": "<i>y"})
    record.write_status("complete")
    made = overview("tiny", "quick", gather(tmp_path))["gains"]
    assert made["layout"]["annotations"][0]["text"] == "<b>&lt;b&gt;x</b>"
    assert made["data"][0]["name"] == "&lt;i&gt;y"


def test_the_page_shows_them_and_says_of_what(visit, results, tmp_path):
    report(tmp_path, tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    assert page.locator("#gains .points path").count() == 5
    assert page.locator("#gains .drawn").inner_text() == "all tasks · tiny · quick"
    page.select_option("#pick-task", "=wordle")
    page.select_option("#pick-budget", "=long")
    assert page.locator("#gains .points path").count() == 1
    assert "wordle 4" in page.locator("#gains .plot-note").inner_text()
