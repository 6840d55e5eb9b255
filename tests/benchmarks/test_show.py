"""The referee's sheet of a run's test samples, and finding the run."""

from __future__ import annotations

import io
import json
import re
import time
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import HOSTILE, rewrite, write_record
from rich.console import Console

from benchmarks.records.reading import find_record
from benchmarks.report.show import show
from benchmarks.running.evaluation import sample_rows
from benchmarks.wording import COSTS, one_line, visible
from policies.api import Rollout, Turn
from tasks.errors import BadInput
from tasks.wordle import Wordle, WordleConfig, write_action

BAD_TURN = '[{"action": "x", "rewards": {"a": %s}, "spans": {"a": %s}, "feedback": "", "solved": false}]'
MIXED = ((True, False), (False, False), (True, True))


def sheet_of(record, width=200, **options):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(record, console, **options)
    return console.file.getvalue()


def shown_action(sheet):
    """The text behind the bars below `turn 1`, joined again."""
    below = sheet.split("\nturn 1:")[1].split("\n")[1:]
    lines = []
    for line in below:
        if not line.startswith("  │ "):
            break
        lines.append(line.removeprefix("  │ "))
    return "".join(lines)


def test_a_sheet_names_the_run_its_accuracy_and_the_costs_that_were_measured(tmp_path):
    record = write_record(tmp_path, seed=4, base=((False, False),), final=((True, False),), energy_j=None)
    head = sheet_of(record).split("\n\n")[0]
    assert head.startswith(f"{record.name}\ncomplete: grpo · wordle · tiny · quick · seed 4\n")
    assert "accuracy 0.0 % → 50.0 % (1 problems × 2 samples), stopped by updates" in head
    for cost in ("rollouts 640", "tokens_generated 70,000", "flops 3.2e12", "wall_s 90.0 s"):
        assert cost in head
    assert "energy_j" not in head


def real_sample(actions_of):
    """A game played in the environment, as evaluation writes it; `actions_of` turns its secret into actions."""
    task = Wordle(WordleConfig())
    problem = task.problems("test")[0]
    episode = task.start(problem)
    turns = [Turn(action=text, verdict=episode.step(text), start=0, end=1) for text in actions_of(problem.secret)]
    rollout = Rollout(problem=problem, group=0, prompt_ids=[], turns=turns, messages=episode.messages)
    return problem, sample_rows(task, [rollout], "final")


def test_a_real_game_is_shown_turn_by_turn(tmp_path):
    problem, rows = real_sample(lambda secret: [write_action("a first look", "zzzzz"), write_action("", secret)])
    record = write_record(tmp_path)
    rewrite(record, "samples.parquet", rows)
    sheet = sheet_of(record)
    order = [
        f"{problem.id}, sample 0: solved, score",
        "environment\n  │ 6 guesses left.",
        "  │ <think>a first look</think><guess>zzzzz</guess>",
        "format        0.000\n",
        "valid        -1.000  “zzzzz”\n",
        "feedback\n  │ 'zzzzz' is not a word",
        "environment\n  │ That word is not in the list.\n  │ 5 guesses left.",
        f"  │ <think></think><guess>{problem.secret}</guess>",
        f"valid         0.000  “{problem.secret}”\n",
        "solved        1.000\n",
        "feedback\n  │ solved",
    ]
    place = 0
    for piece in order:
        assert piece in sheet[place:]
        place = sheet.index(piece, place)
    assert sheet.count("\nturn ") == 2


def test_the_factory_writes_the_columns_that_evaluation_writes(tmp_path):
    _, (real,) = real_sample(lambda secret: ["?"])
    made = write_record(tmp_path).read_rows("samples.parquet")[0]
    assert made.keys() == real.keys() - {"metric/guesses", "metric/format", "metric/valid", "metric/consistent"}
    assert [type(made[key]) for key in made] == [type(real[key]) for key in made]
    assert json.loads(made["turns"])[0].keys() == json.loads(real["turns"])[0].keys()


@pytest.mark.parametrize(("which", "count"), [("all", 6), ("solved", 3), ("unsolved", 3)])
def test_samples_are_chosen_by_outcome(tmp_path, which, count):
    sheet = sheet_of(write_record(tmp_path, base=MIXED, final=MIXED), which=which, limit=100)
    assert len(re.findall(r", sample \d: ", sheet)) == count
    assert ("not solved" in sheet) == (which != "solved")
    assert (": solved," in sheet) == (which != "unsolved")


def test_the_limit_holds_and_the_sheet_says_how_many_there_are(tmp_path):
    sheet = sheet_of(write_record(tmp_path, base=MIXED, final=MIXED), limit=2)
    assert len(re.findall(r", sample \d: ", sheet)) == 2
    assert "2 of 6 final samples" in sheet


def test_correlations_of_rewards_stand_in_the_head(tmp_path):
    record = write_record(tmp_path, reward_correlations={"sum_solved": 0.994})
    assert "rewards, correlation within groups: sum_solved 0.99" in sheet_of(record)


def test_the_base_policys_samples_can_be_shown(tmp_path):
    record = write_record(tmp_path, base=((False, False),), final=((True, True),))
    assert [": not solved" in sheet_of(record, stage=stage) for stage in ("base", "final")] == [True, False]


def test_one_problem_can_be_shown(tmp_path):
    record = write_record(tmp_path, base=MIXED, final=MIXED)
    sheet = sheet_of(record, problem="wordle/word1")
    assert re.findall(r"wordle/word\d", sheet) == ["wordle/word1"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": "wordle/word9"}, "wordle/word"),
        ({"stage": "middle"}, "there is base, final"),
        ({"which": "lost"}, "all, solved, unsolved"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_what_is_not_there_is_the_users_mistake_and_nothing_is_printed(tmp_path, options, message):
    record = write_record(tmp_path)
    console = Console(file=io.StringIO())
    with pytest.raises(BadInput, match=message):
        show(record, console, **options)
    assert console.file.getvalue() == ""


def test_a_run_without_samples_is_told_in_one_line(tmp_path):
    record = write_record(tmp_path, status="interrupted")
    with pytest.raises(BadInput, match=r"no test samples.*missing.*interrupted") as caught:
        sheet_of(record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("turns", text) for text in ("{", "[]", "[1]", BAD_TURN % ('"b"', "[0, 1]"), BAD_TURN % ("1", "[1]"))),
        *(("messages", "[]"), ("messages", None), ("score", None)),
    ],
)
def test_samples_that_cannot_be_read_are_told_in_one_line_and_nothing_is_printed(tmp_path, column, value):
    record = write_record(tmp_path)
    rewrite(record, "samples.parquet", [row | {column: value} for row in record.read_rows("samples.parquet")])
    console = Console(file=io.StringIO())
    with pytest.raises(BadInput, match="no test samples to show") as caught:
        show(record, console)
    assert "\n" not in str(caught.value)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("column", ["stage", "problem", "solved"])
def test_samples_that_lack_a_column_are_told_in_one_line(tmp_path, column):
    record = write_record(tmp_path)
    rows = [{key: row[key] for key in row if key != column} for row in record.read_rows("samples.parquet")]
    rewrite(record, "samples.parquet", rows)
    with pytest.raises(BadInput, match=f"KeyError: '{column}'"):
        sheet_of(record)


def test_a_damaged_summary_is_named_and_the_samples_are_shown_all_the_same(tmp_path):
    sheet = sheet_of(write_record(tmp_path, lacking=["flops"]))
    assert "complete; summary.json: lacks flops" in sheet
    assert "turn 1" in sheet


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_that_would_steer_the_terminal_is_shown_as_escapes(tmp_path, text):
    sheet = sheet_of(write_record(tmp_path, actions=[f"<think>{text}</think><guess>crane</guess>"]))
    assert all(char == "\n" or char.isprintable() for char in sheet)
    assert f"<think>{text.encode('unicode_escape').decode()}</think>" in sheet


@pytest.mark.parametrize(
    "text", ["[bold]x[/bold]", "[/]", "[link=https://a.example]b[/link]", ":smile:", "[red", "\\["]
)
def test_text_is_never_taken_for_markup(tmp_path, text):
    sheet = sheet_of(write_record(tmp_path, actions=[text]))
    assert f"  │ {text}\n" in sheet


def test_an_action_cannot_pass_itself_off_as_a_line_of_the_sheet(tmp_path):
    forged = "x\nturn 2: 5 characters, solved\n  solved        1.000\n" + "y" * 77 + "turn 3: solved"
    sheet = sheet_of(write_record(tmp_path, final=((False,),), base=((False,),), actions=[forged]), width=80)
    assert len(re.findall(r"^turn ", sheet, re.MULTILINE)) == 1
    assert re.findall(r"^  solved +(\S+)", sheet, re.MULTILINE) == ["0.000"]
    assert max(map(len, sheet.split("\n"))) <= 80


def test_a_quoted_span_stays_in_its_line(tmp_path):
    sheet = sheet_of(write_record(tmp_path, actions=["<think></think><guess>\nturn\x1b[</guess>"]))
    assert r"“\nturn”" in sheet


@pytest.mark.parametrize(("char", "quoted"), [("z", "z" * 60), ("\x1b", r"\x1b" * 15)])
def test_a_long_span_is_quoted_in_part_and_hostile_names_are_escaped(tmp_path, char, quoted):
    name = "[b]\x07"
    turn = {"action": char * 500, "rewards": {name: 1}, "spans": {name: [0, 500]}, "feedback": "", "solved": True}
    record = write_record(tmp_path)
    rows = [row | {"turns": json.dumps([turn]), "problem": "[b]\nx"} for row in record.read_rows("samples.parquet")]
    rewrite(record, "samples.parquet", rows)
    sheet = sheet_of(record)
    assert re.search(rf"^  \[b\]\\x07 +1\.000  “{re.escape(quoted)}…”$", sheet, re.MULTILINE)
    assert "\n[b]\\nx, sample 0" in sheet


def test_an_action_of_4000_characters_is_shown_whole(tmp_path):
    action = "ab" * 2000
    sheet = sheet_of(write_record(tmp_path, actions=[action]), limit=1)
    assert shown_action(sheet) == action
    assert "were cut" not in sheet


def test_an_action_of_a_megabyte_is_cut_quickly_and_the_sheet_says_by_how_much(tmp_path):
    action = "\x1b" * 1_000_000
    record = write_record(tmp_path, base=((True,),), final=((True,),), actions=[action])
    start = time.perf_counter()
    sheet = sheet_of(record, width=80)
    assert time.perf_counter() - start < 10
    assert shown_action(sheet) == r"\x1b" * 4000
    assert "turn 1: 1,000,000 characters, solved" in sheet
    assert "(996,000 more characters were cut)" in sheet


@given(st.text(st.characters(), max_size=300))
def test_visible_text_prints_and_loses_nothing(text):
    shown = visible(text)
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert "\n" not in one_line(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Cf") for char in shown.replace("\n", ""))
    for char in text:
        assert char in shown or char.encode("unicode_escape").decode() in shown


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(), max_size=200), min_size=1, max_size=3), st.integers(10, 120))
def test_no_action_breaks_the_sheet_at_any_width(tmp_path_factory, actions, width):
    sheet = sheet_of(write_record(tmp_path_factory.mktemp("runs"), actions=actions), width=width, limit=1)
    assert all(char == "\n" or char.isprintable() for char in sheet)


def test_costs_are_read_in_units():
    assert [COSTS["wall_s"](seconds) for seconds in (0, 119, 120, 7200)] == ["0.0 s", "119.0 s", "2.0 min", "2.0 h"]
    assert [COSTS["flops"](amount) for amount in (0, 3.21e12, 1e-3)] == ["0.0e0", "3.2e12", "1.0e-3"]
    assert [COSTS["peak_memory_bytes"](amount) for amount in (2**20, 1.5e9)] == ["1 MiB", "1.4 GiB"]
    assert [COSTS[name](1234.5) for name in ("rollouts", "energy_j")] == ["1,234", "1,234 J"]


def test_a_record_is_found_by_its_name_and_by_the_only_name_that_starts_so(tmp_path):
    one, two = (write_record(tmp_path, algo=algo) for algo in ("grpo", "gepa"))
    assert find_record(tmp_path, one.name) == one
    assert find_record(tmp_path, "ge") == two
    with pytest.raises(BadInput, match=r"2 records start so.*gepa.*grpo"):
        find_record(tmp_path, "g")


def test_a_name_that_another_name_continues_is_still_found(tmp_path):
    short, _ = (write_record(tmp_path, experiment=name) for name in ("aa", "aabb"))
    assert find_record(tmp_path, short.name) == short


def test_last_is_the_run_started_most_recently_in_whatever_time_zone(tmp_path):
    write_record(tmp_path, seed=0, started="2026-11-23T10:00:00+00:00")
    newest = write_record(tmp_path, seed=1, started="2026-11-23T09:30:00-02:00")
    write_record(tmp_path, seed=2, started="2026-11-23T11:00:00")
    write_record(tmp_path, seed=3, started="yesterday")
    write_record(tmp_path, seed=4, without=["manifest.json"])
    assert find_record(tmp_path, "last") == newest


def test_an_unknown_name_gets_the_nearest_ones(tmp_path):
    record = write_record(tmp_path, algo="grpo")
    write_record(tmp_path, algo="reinforce", task="gsm8k", policy="smollm")
    with pytest.raises(BadInput, match="no such record") as caught:
        find_record(tmp_path, "grop-wordle-tiny-s0")
    assert re.search(rf"there is {record.name}$", str(caught.value))


def test_an_empty_folder_has_no_last_record(tmp_path):
    with pytest.raises(BadInput, match="no records yet"):
        find_record(tmp_path, "last")


@pytest.mark.parametrize("wanted", ["..", ".", "", "../secret", "/etc", "runs/../../secret", "..\\secret", "a\0b"])
def test_nothing_outside_the_folder_is_found(tmp_path, wanted):
    write_record(tmp_path / "secret")
    write_record(tmp_path / "runs")
    with pytest.raises(BadInput, match="not a path"):
        find_record(tmp_path / "runs", wanted)
