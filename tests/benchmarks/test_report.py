"""What the report's file holds, read without a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import plotly.graph_objects as go
import pytest
from record_factory import DAMAGE, HOSTILE, MARKUP, write_record, write_study

from benchmarks.analysis.statistics import DIFFERENCES, contrast
from benchmarks.report.figures import figures
from benchmarks.report.gather import gather
from benchmarks.report.page import SCRIPTS, escaped_json, report
from benchmarks.report.samples import LONGEST, UNTOUCHED, prepared, samples, tiles
from benchmarks.report.style import DARK, LIGHT, THEMES, drawn
from tasks.errors import BadInput

ALL = ((True, True), (True, True))
NONE = ((False, False), (False, False))


class Page(HTMLParser):
    """The elements of a page, the text of its scripts, and what it points at."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.links, self.handlers, self.said = [], {}, [], [], ""
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self._script = dict(attrs).get("id", f"script-{len(self.scripts)}") if tag == "script" else None
        self.policy = dict(attrs)["content"] if dict(attrs).get("http-equiv") else getattr(self, "policy", "")

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.said += data

    @property
    def data(self):
        return json.loads(self.scripts["data"])

    def pack(self, number):
        return json.loads(gzip.decompress(base64.b64decode(self.scripts[f"pack-{number}"])))


def page_of(directory, tmp_path):
    report(directory, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_the_page_has_a_row_an_experiment_with_the_tables_numbers(runs, tmp_path):
    write_record(runs, algo="better", final=ALL, base=NONE)
    write_record(runs, algo="worse", base=NONE, final=NONE, energy_j=None)
    write_record(runs, algo="waiting", status="running")
    data = page_of(runs, tmp_path).data
    heads = [column["key"] for column in data["columns"]]
    rows = [dict(zip(heads, row["cells"], strict=True)) for row in data["rows"]]
    assert [row["algorithm"][0] for row in rows] == ["better", "worse", "waiting"]
    assert rows[0]["accuracy"][0] == 1.0
    assert rows[0]["accuracy"][1].startswith("100.0 % [")
    assert rows[0]["gain"] == [1.0, rows[0]["gain"][1]]
    assert rows[0]["flops"] == [3.21e12, "3.2e12"]
    assert rows[2]["accuracy"] == [None, "–"]
    assert rows[2]["status"][0] == "running"
    assert "energy_j" not in heads, "a cost that nobody measured has no column"


def test_best_and_tied_are_told_apart_by_the_paired_difference(runs, tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.random((60, 1))
    best, near, far = (rng.random((60, 2)) < share * hard for share in (1.0, 0.95, 0.1))
    outcomes = {"best": best, "near": near, "far": far}
    for algo, final in outcomes.items():
        write_record(runs, algo=algo, base=(far & False).tolist(), final=final.tolist())
    setting = gather(runs).settings[0]
    standing = {experiment.row["algo"]: experiment.standing for experiment in setting.experiments}
    leader = setting.experiments[0].row["algo"]
    other = "near" if leader == "best" else "best"
    assert standing == {leader: "best", other: "tied", "far": "behind"}
    win = setting.wins[0][[e.row["algo"] for e in setting.plotted].index("far")]
    order = sorted(range(60), key=lambda problem: f"word{problem}")
    tables = [outcomes[name].mean(axis=1)[None, order] for name in (leader, "far")]
    assert (win.low, win.high) == pytest.approx(contrast(tables, [1, -1], DIFFERENCES).interval(1 - 0.05 / 3))
    assert win.effect == pytest.approx(outcomes[leader].mean() - far.mean())


def test_a_difference_is_over_all_seeds_of_both_and_the_index_remembers_it(runs):
    for seed in (0, 1, 2):
        write_record(runs, algo="three", seed=seed, final=ALL)
    for seed in (5, 6):
        write_record(runs, algo="other", seed=seed, final=NONE)
    first, again = (next(cell for cell in gather(runs).settings[0].wins[0] if cell) for _ in range(2))
    assert (first.effect, first.seeds) == (1.0, 2)
    assert first == again


def test_the_untouched_policy_has_an_accuracy_and_no_gain(runs, tmp_path):
    write_record(runs, algo="grpo", final=ALL, base=NONE)
    write_record(runs, algo="base", final=NONE, base=NONE, rollouts=0, updates=0)
    data = page_of(runs, tmp_path).data
    heads = [column["key"] for column in data["columns"]]
    gains = {row["cells"][heads.index("algorithm")][0]: row["cells"][heads.index("gain")] for row in data["rows"]}
    assert gains["base"] == [None, "–"]
    assert gains["grpo"][0] == 1.0


@pytest.mark.parametrize(("how", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_named_counted_and_enters_no_number(runs, tmp_path, how, reason):
    write_record(runs, seed=0)
    damaged = write_record(runs, seed=1, **how)
    page = page_of(runs, tmp_path)
    assert "1 of 2 records set aside" in page.said
    assert re.sub(r"\s+", " ", damaged.name.replace("\x1b", "\\x1b")) in page.said
    assert reason in page.said
    assert [row["cells"][4] for row in page.data["rows"]] == [[1, "0"]]


def test_two_experiments_of_one_algorithm_keep_their_hash_and_the_better_is_plotted(runs):
    write_record(runs, experiment="aaaaaaaaaa", final=NONE)
    write_record(runs, experiment="bbbbbbbbbb", final=ALL)
    setting = gather(runs).settings[0]
    assert [experiment.label for experiment in setting.experiments] == ["grpo bbbbbb", "grpo aaaaaa"]
    assert [experiment.label for experiment in setting.plotted] == ["grpo bbbbbb"]


def test_a_control_that_does_better_does_not_stand_for_its_algorithm(runs):
    for experiment, shuffled, final in (("aaaaaaaaaa", False, NONE), ("bbbbbbbbbb", True, ALL)):
        record = write_record(runs, algo="feedback_grpo", experiment=experiment, final=final)
        config = record.read_json("config.json")
        config["algo"] |= {"mode": "distill", "shuffled": shuffled}
        record.write_json("config.json", config)
        record.write_status("complete")
    setting = gather(runs).settings[0]
    assert [experiment.label for experiment in setting.plotted] == ["feedback_grpo aaaaaa"]
    assert setting.experiments[0].label == "feedback_grpo bbbbbb"


def test_running_runs_that_are_silent_for_long_count_as_stalled(runs):
    write_record(runs, algo="a", status="running")
    write_record(runs, algo="b", status="failed")
    now = datetime.now(UTC)
    assert [run["state"] for run in gather(runs, now).unfinished] == ["running", "failed"]
    assert [run["state"] for run in gather(runs, now + timedelta(minutes=11)).unfinished] == ["stalled", "failed"]


def test_conditions_and_the_command_are_beside_the_numbers(runs, tmp_path):
    write_study(runs, 5, problems=4)
    data = page_of(runs, tmp_path).data
    row = data["rows"][0]
    assert row["command"] == "python -m benchmarks run +algo=grpo"
    found = data["conditions"][row["conditions"]]
    assert found["device"] == "a made-up processor"
    assert found["git_dirty"] == "False"
    assert "torch 2.13.0" in found["packages"]
    assert found["test"] == "4 problems × 2 samples"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    runs = tmp_path_factory.mktemp("study") / "runs"
    write_study(runs, 105, problems=6, seeds=5)
    return gather(runs)


@pytest.mark.parametrize("name", ["curves", "pareto", "targets", "profile", "components", "phases"])
@pytest.mark.parametrize("theme", THEMES)
def test_plotly_itself_accepts_every_figure_on_every_axis(study, name, theme):
    for setting in study.settings:
        figure = figures(setting, study)[name]
        for axis in figure["axes"] or ["none"]:
            made = drawn(figure, axis=axis, log=True, theme=theme)
            assert go.Figure(made).data  # Raises at an unknown property or a wrong value.
            assert "$" not in json.dumps(made)


def test_a_curve_is_the_mean_over_seeds_and_its_band_spans_them(study):
    setting = study.settings[0]
    experiment = setting.plotted[0]
    traces = drawn(figures(setting, study)["curves"], axis="rollouts", log=False, theme="light")["data"]
    band, line = (trace for trace in traces if trace["legendgroup"] == f"group {experiment.label}")
    solved = np.array([[point["solved"] for point in curve] for curve in experiment.curves().values()])
    assert line["x"] == pytest.approx([0, 825, 1650, 2475, 3300])
    assert line["y"] == pytest.approx(solved.mean(axis=0))
    assert band["y"] == pytest.approx([*solved.max(axis=0), *solved.min(axis=0)[::-1]])
    assert band["x"] == pytest.approx([*line["x"], *line["x"][::-1]])


def test_the_front_is_what_nothing_beats_in_both(study):
    for setting in study.settings:
        figure = figures(setting, study)["pareto"]
        front, *points = drawn(figure, axis="seconds", log=False, theme="light")["data"]
        spots = [(trace["x"][0], trace["y"][0]) for trace in points]
        beaten = {p for p in spots for q in spots if q != p and q[0] <= p[0] and q[1] >= p[1]}
        assert set(zip(front["x"], front["y"], strict=True)) == set(spots) - beaten
        assert beaten, "a front through every point would prove nothing"


def test_error_bars_are_the_interval_and_the_range_over_seeds(study):
    setting = study.settings[0]
    experiment = setting.plotted[0]
    trace = next(
        trace
        for trace in drawn(figures(setting, study)["pareto"], axis="flops", log=False, theme="dark")["data"]
        if trace["name"] == experiment.label
    )
    spent = [run.summary["flops"] for run in experiment.complete]
    assert trace["x"][0] + trace["error_x"]["array"][0] == pytest.approx(max(spent))
    assert trace["x"][0] - trace["error_x"]["arrayminus"][0] == pytest.approx(min(spent))
    assert trace["y"][0] + trace["error_y"]["array"][0] == pytest.approx(experiment.row["accuracy_ci_high"])


def test_an_unmeasured_cost_is_no_axis(study):
    assert figures(study.settings[0], study)["curves"]["axes"] == ["flops", "rollouts", "tokens", "seconds", "updates"]
    with pytest.raises(ValueError, match="axis 'joules'"):
        drawn(figures(study.settings[0], study)["curves"], axis="joules", log=False, theme="light")


def _luminance(colour):
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize(("theme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_every_colour_stands_out_from_its_background(theme, colours):
    for colour in colours:
        light, dark = sorted((_luminance(colour), _luminance(THEMES[theme]["$paper"])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


WORDLE = "<think>reasons</think><guess>crane</guess>"


def test_a_wordle_turn_has_tiles_from_its_guess_and_secret():
    assert tiles(WORDLE, "wordle/caper", False) == "c+r?a?n-e?"
    assert tiles("<think></think><guess>cra", "wordle/caper", False) == ""
    assert tiles(WORDLE, "wordle/word0", False) == ""


def test_an_equation_is_marked_right_or_wrong_where_it_stands():
    action = "5*3=15\n15+4=20\n#### 20"
    turn = {"action": action, "rewards": {"steps": 0.5}, "spans": {}, "feedback": "", "solved": False}
    assert prepared(turn, "gsm_synth/1")["action"] == [
        *(("5*3=15", "right"), ("\n", "text"), ("15+4=20", "wrong"), ("\n#### 20", "text")),
    ]


def test_samples_of_the_untouched_policy_and_of_every_algorithm_stand_side_by_side(runs):
    write_record(runs, algo="one", base=NONE, final=ALL)
    write_record(runs, algo="two", base=NONE, final=((True, False), (False, False)))
    found = samples(gather(runs).settings[0], runs)
    by = found["problems"]["wordle/word0"]
    assert {label: [sample["solved"] for sample in by[label]] for label in by} == {
        UNTOUCHED: [False, False],
        "one": [True, True],
        "two": [True, False],
    }
    assert by["one"][0]["ill_formed"] is True  # The factory's format component is a fault, -1.


def test_a_line_of_a_megabyte_is_cut_and_says_so(runs):
    write_record(runs, actions=["x" * 1_000_000])
    turn = samples(gather(runs).settings[0], runs)["problems"]["wordle/word0"]["grpo"][0]["turns"][0]
    assert turn["length"] == 1_000_000
    assert turn["action"] == [("x" * LONGEST, "text"), (f"({1_000_000 - LONGEST:,} more characters were cut)", "cut")]


@pytest.mark.parametrize("text", [*HOSTILE.values(), *MARKUP.values()], ids=[*HOSTILE, *MARKUP])
def test_nothing_that_a_record_says_becomes_markup(runs, tmp_path, text):
    harmless = page_of_one(runs / "harmless", tmp_path, "grpo", "text")
    algo = text if text.isprintable() else "grpo"
    page = page_of_one(runs / "hostile", tmp_path, algo, text)
    assert page.tags == harmless.tags
    assert page.links == harmless.links
    assert page.handlers == []
    assert page.scripts.keys() == harmless.scripts.keys()
    action = page.pack(0)["problems"]["wordle/word0"][UNTOUCHED][0]["turns"][0]["action"]
    assert action[0][0].encode("utf-8").decode().isprintable()
    (row, *_) = page.data["rows"]
    assert row["cells"][3] == [algo, algo]


def page_of_one(runs, tmp_path, algo, text):
    runs.mkdir(parents=True)
    # A folder's name cannot hold every character that a plugin's name can.
    record = write_record(runs, algo="placeholder", actions=[text])
    for file in ("summary.json", "config.json"):
        content = json.loads((record.folder / file).read_text())
        content["algo"] = algo if file == "summary.json" else {"name": algo}
        (record.folder / file).write_text(json.dumps(content))
    record.write_status("complete")
    (runs / "lost").mkdir()
    (runs / "lost" / "status").write_text(text.encode("utf-8", "replace").decode())
    return page_of(runs, tmp_path)


def test_scripts_run_by_their_hash_alone_and_nothing_is_loaded(runs, tmp_path):
    write_record(runs)
    page = page_of(runs, tmp_path)
    directives = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    allowed = directives["script-src"].split()
    code = [text for name, text in page.scripts.items() if name.startswith("script-")]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code]
    assert allowed == [f"'sha256-{value}'" for value in hashes]
    assert all(link.startswith("#") for link in page.links)


def test_our_script_never_makes_markup_or_code_of_a_string():
    sources = [file for file in (files("benchmarks.report") / "web").iterdir() if file.name.endswith(".js")]
    assert {source.name for source in sources} == set(SCRIPTS)
    code = "".join(source.read_text(encoding="utf-8") for source in sources)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|javascript:", code)


def test_json_cannot_end_the_element_it_stands_in():
    nasty = {"</script>": ["<!--", "&amp;", "\u2028", "\ud800"]}
    text = escaped_json(nasty)
    assert not set("<>&") & set(text)
    assert json.loads(text) == nasty
    with pytest.raises(ValueError, match="JSON compliant"):
        escaped_json(float("nan"))


def test_an_empty_folder_makes_a_page_that_says_so(runs, tmp_path):
    page = page_of(runs, tmp_path)
    assert "0 complete runs" in page.said
    assert page.data["rows"] == []


def test_what_cannot_be_read_or_written_is_the_users_mistake(runs, tmp_path):
    with pytest.raises(BadInput, match="no such results folder"):
        report(tmp_path / "nowhere", tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="give a writable file"):
        report(runs, tmp_path / "file" / "report.html")
