"""Warm starts: made once, found again, booked to every run that starts from one, and part of what a run is."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broken_off import Killed, dies, outcome, run_on
from rich.console import Console

from benchmarks.analysis.experiments import SETTING
from benchmarks.config.schema import RunConfig, check_config, compose_config
from benchmarks.records.record import Record
from benchmarks.running.ledger import Ledger
from benchmarks.running.no_signal import no_signal
from benchmarks.running.run import run
from benchmarks.running.session import RunSession
from benchmarks.running.warmstart import ABOUT, FOLDER, WarmStart, book, find_or_make, key_of, transcripts
from policies.language_model import load_policy
from policies.source import PolicyConfig, Source, find_source
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

WARM = ("warmstart=sft", "warmstart.transcripts=32", "warmstart.learning_rate=1e-4")
SMALL = ("task=gsm_synth", "task.levels=[1]", "task.max_action_tokens=24", "budget=smoke", "policy.device=cpu")


def configured(results: Path, *words: str) -> RunConfig:
    return check_config(compose_config(["+algo=grpo", *SMALL, *WARM, f"results.dir={results}", *words]))


def ran(config: RunConfig) -> tuple[Record, str]:
    said = io.StringIO()
    return run(config, Console(file=said, width=400), "test").record, said.getvalue()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warm") / "runs"


@pytest.fixture(scope="module")
def first(results: Path) -> tuple[Record, str]:
    """The run that makes the warm start."""
    return ran(configured(results))


@pytest.fixture(scope="module")
def second(results: Path, first: tuple[Record, str]) -> tuple[Record, str]:
    """A run of another algorithm, with an adapter, that finds it."""
    return ran(configured(results, "adapter=lora", "adapter.rank=2", "warmstart.charge=true"))


def test_the_first_run_makes_the_warm_start_and_the_next_finds_it(
    results: Path, first: tuple[Record, str], second: tuple[Record, str]
) -> None:
    assert "imitating 32 transcripts of gsm_synth" in first[1]
    assert "found, 32 transcripts" in second[1]
    (folder,) = [path for path in (results / FOLDER).iterdir() if path.is_dir()]
    about = json.loads((folder / ABOUT).read_text())
    assert (about["lessons"], about["left_out"]) == (32, 0)
    assert (folder / "model.safetensors").is_file()


def test_both_begin_as_the_same_policy_which_is_not_the_one_without(
    first: tuple[Record, str], second: tuple[Record, str], results: Path
) -> None:
    samples = [
        [row for row in record.read_rows("samples.parquet") if row["stage"] == "base"] for record, _ in (first, second)
    ]
    assert samples[0] == samples[1]
    config = configured(results)
    warm = find_or_make(config, find_source(config.policy), GsmSynth(config.task), lambda _: None)
    assert not warm.made
    assert load_policy(config.policy, warm.source).state_hash() != load_policy(config.policy).state_hash()


def test_its_cost_is_shown_by_every_run_and_charged_only_by_choice(
    first: tuple[Record, str], second: tuple[Record, str]
) -> None:
    (maker, _), (finder, _) = first, second
    made, found = (record.read_json("summary.json")["costs"]["warmstart"] for record in (maker, finder))
    assert made["flops"] == found["flops"] > 0
    assert made["wall_s"] == pytest.approx(found["wall_s"])
    for record, charged in ((maker, 0), (finder, 1)):
        summary = record.read_json("summary.json")
        own = sum(summary["costs"][phase]["flops"] for phase in ("rollout", "update"))
        assert summary["flops"] == pytest.approx(own + charged * made["flops"])
        start = record.read_rows("curve.parquet")[0]["spent/flops"]
        assert start == pytest.approx(charged * made["flops"])


def test_who_makes_it_learns_that_it_did(tmp_path: Path) -> None:
    config = configured(tmp_path)
    said: list[str] = []
    assert find_or_make(config, find_source(config.policy), GsmSynth(config.task), said.append).made
    assert not any("found" in line for line in said)


def planted_elsewhere(folder: Path) -> None:
    target = folder.parent.parent.parent / "weights"
    (folder / "model.safetensors").rename(target)
    (folder / "model.safetensors").symlink_to(target)


def flipped(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm start that is made without any training."""

    def make(config: RunConfig, source: Source, task: GsmSynth, chats: Any, folder: Path, say: Any) -> dict[str, Any]:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "model.safetensors").chmod(0o600)
        (folder / "instructions.txt").write_text("Play.")
        return {"costs": {"flops": 1.0, "wall_s": 1.0}, "lessons": 4, "first_loss": 2.0, "last_loss": 1.0}

    monkeypatch.setattr("benchmarks.running.warmstart._make", make)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / ABOUT).unlink(),
        lambda folder: (folder / ABOUT).write_text("{"),
        lambda folder: (folder / ABOUT).write_text((folder / ABOUT).read_text().replace("2.0", "1e999")),
        lambda folder: (folder / "more.json").write_text("{}"),
        lambda folder: (folder / "instructions.txt").write_text("Cheat."),
        flipped,
        planted_elsewhere,
    ],
)
@pytest.mark.usefixtures("quickly")
def test_a_warm_start_that_is_not_whole_is_made_again(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    config = configured(tmp_path / "runs")
    source, task = find_source(config.policy), GsmSynth(config.task)
    before = find_or_make(config, source, task, lambda _: None)
    folder = Path(before.source.folder)
    harm(folder)
    said: list[str] = []
    again = find_or_make(config, source, task, said.append)
    assert again.made
    assert said[0].endswith("not whole, and made again")
    assert (again.state, (folder / "model.safetensors").read_bytes()) == (before.state, b"weights")
    assert not find_or_make(config, source, task, said.append).made


@pytest.mark.usefixtures("quickly")
def test_a_warm_start_is_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    config = configured(tmp_path)
    warm = find_or_make(config, find_source(config.policy), GsmSynth(config.task), lambda _: None)
    assert {oct(path.stat().st_mode & 0o777) for path in Path(warm.source.folder).iterdir()} == {"0o644"}


@pytest.mark.usefixtures("quickly")
def test_a_warm_start_is_neither_made_nor_found_where_a_link_leads(tmp_path: Path) -> None:
    config = configured(tmp_path / "runs")
    source, task = find_source(config.policy), GsmSynth(config.task)
    first = Path(find_or_make(config, source, task, lambda _: None).source.folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (first, first.with_suffix(".unfinished")):
        shutil.rmtree(path, ignore_errors=True)
        path.symlink_to(elsewhere)
    assert find_or_make(config, source, task, lambda _: None).made
    assert not first.is_symlink()
    (tmp_path / "treasure").write_text("gold")
    first.with_suffix(".lock").unlink()
    first.with_suffix(".lock").symlink_to(tmp_path / "treasure")
    with pytest.raises(BadInput, match="is a symbolic link"):
        find_or_make(config, source, task, lambda _: None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FOLDER).symlink_to(elsewhere)
    with pytest.raises(BadInput, match="is a symbolic link"):
        find_or_make(configured(tmp_path / "other"), source, task, lambda _: None)
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "treasure").read_text() == "gold"


def test_several_processes_are_refused_unless_it_is_there(
    results: Path, first: tuple[Record, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policies.ranks.count", lambda: 2)
    config = configured(results)
    task = GsmSynth(config.task)
    assert not find_or_make(config, find_source(config.policy), task, lambda _: None).made
    config = configured(tmp_path)
    with pytest.raises(BadInput, match=r"is to be made by one process; run \+algo=base with one"):
        find_or_make(config, find_source(config.policy), task, lambda _: None)


def test_a_warm_start_that_takes_the_whole_budget_is_refused_in_one_line(tmp_path: Path) -> None:
    config = configured(tmp_path, "warmstart.charge=true", "budget.flops=1e9")
    warm = WarmStart(Source("somewhere", None, "x"), {"flops": 2e9}, made=False)
    with pytest.raises(BadInput, match=r"took 2e\+09 flops and the budget is 1e\+09; raise budget\.flops"):
        book(config, warm, Ledger(), resumed=False)


def test_an_inherited_cost_is_taken_out_of_the_phase_in_which_it_was_measured() -> None:
    ledger = Ledger(clock=iter([0.0, 10.0, 10.0, 10.0]).__next__, meters={})
    with ledger.phase("load"):
        pass
    ledger.inherit("warmstart", {"wall_s": 7.0, "flops": 5.0}, out_of="load")
    assert ledger.phases() == {"load": 3.0, "warmstart": 7.0, "other": 0.0}
    assert ledger.total("flops") == 0


def test_what_decides_a_warm_start_is_in_its_name_and_nothing_else_is(tmp_path: Path) -> None:
    def key(*words: str) -> str:
        config = configured(tmp_path, *words)
        task = GsmSynth(config.task)
        assert config.warmstart is not None
        chats = transcripts(task, config.warmstart.transcripts, config.warmstart.seed)
        return key_of(config, find_source(config.policy), task, chats)

    base = key()
    assert key("seed=3", "batch.group_size=2", "adapter=lora", "warmstart.charge=true", "budget=quick") == base
    changed = [
        key(word)
        for word in ("warmstart.learning_rate=1e-5", "warmstart.seed=1", "warmstart.transcripts=33", "task.levels=[2]")
    ]
    assert len({base, *changed}) == 5


def test_other_weights_are_another_warm_start(tmp_path: Path, untrained_folder: Path) -> None:
    task, chats = GsmSynth(GsmSynthConfig()), [[]]
    tiny = configured(tmp_path)
    other = configured(tmp_path, "policy=path", f"policy.path={untrained_folder}")
    keys = {key_of(config, find_source(config.policy), task, chats) for config in (tiny, other)}  # type: ignore[arg-type]
    assert len(keys) == 2


def test_transcripts_are_of_train_problems_in_shuffled_passes() -> None:
    task = GsmSynth(GsmSynthConfig(levels=[1], problems_per_level=20))
    train = {problem.question for problem in task.problems("train")}
    chats = transcripts(task, 2 * len(train), seed=0)
    asked = [chat[0]["content"] for chat in chats]
    assert set(asked[: len(train)]) == set(asked[len(train) :]) == train
    assert asked[: len(train)] != asked[len(train) :]
    assert chats == transcripts(task, 2 * len(train), seed=0)


def test_an_adapter_can_make_the_warm_start_and_is_merged_into_its_weights(tmp_path: Path) -> None:
    config = configured(tmp_path, "warmstart.lora_rank=4")
    warm = find_or_make(config, find_source(config.policy), GsmSynth(config.task), lambda _: None)
    policy, tiny = load_policy(config.policy, warm.source), load_policy(config.policy)
    assert policy.state_hash() != tiny.state_hash()
    assert policy.model.state_dict().keys() == tiny.model.state_dict().keys()
    assert policy.source.label.startswith("package:policies/tiny/weights, warm-started (")


def test_a_warm_start_makes_another_experiment_and_cannot_be_compared_with_none(tmp_path: Path) -> None:
    cold = check_config(compose_config(["+algo=grpo", *SMALL, f"results.dir={tmp_path}"]))
    warm = configured(tmp_path)
    assert cold.experiment("x") != warm.experiment("x")
    assert "warmstart" in SETTING
    assert "warmstart" not in cold.resolved, "a run without one is named as before there were any"


def test_a_warm_start_begins_from_instructions_that_the_policy_brings_along(
    tmp_path: Path, untrained_folder: Path
) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    for file in untrained_folder.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "instructions.txt").write_text("Answer in French.")
    config = configured(tmp_path, "policy=path", f"policy.path={folder}", "warmstart.transcripts=4")
    warm = find_or_make(config, find_source(config.policy), GsmSynth(config.task), lambda _: None)
    assert load_policy(PolicyConfig(name="x", path=warm.source.folder)).instructions == "Answer in French."


def test_a_run_with_warm_start_and_adapter_that_dies_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = ("warmstart.charge=true", "adapter=lora", "adapter.rank=2", "policy.learning_rate=1e-3")
    words = ("+algo=grpo", *SMALL[:3], *WARM, *learning)
    whole = outcome(run_on(tmp_path / "whole", *words))
    broken = tmp_path / "broken"
    with monkeypatch.context() as patched:
        patched.setattr(RunSession, "step", dies(2, RunSession.step))
        patched.setattr("benchmarks.running.attempt.end", lambda record, session, error: error)
        with pytest.raises(Killed):
            run_on(broken, *words)
    again = run_on(broken, *words)
    assert again.read_json("manifest.json")["resumed"]
    assert outcome(again) == whole


ZERO_VARIANCE, SIGNAL = {"groups_without_signal": 1.0}, {"groups_without_signal": 0.5}


@pytest.mark.parametrize(
    ("rows", "words", "expected"),
    [
        ([ZERO_VARIANCE, ZERO_VARIANCE], (), "all 16 groups have equal rewards: nothing to learn; try warmstart=sft"),
        (
            [ZERO_VARIANCE, ZERO_VARIANCE],
            WARM,
            "all 16 groups have equal rewards: nothing to learn; try a longer warm start",
        ),
        ([ZERO_VARIANCE], (), ""),
        ([ZERO_VARIANCE, SIGNAL], (), ""),
        ([ZERO_VARIANCE] * 3, (), ""),
        ([{}, {}], (), ""),
    ],
)
def test_a_run_in_which_no_group_differs_is_told_so_once(
    rows: list[dict[str, float | None]], words: tuple[str, ...], expected: str
) -> None:
    config = check_config(compose_config(["+algo=grpo", *words]))
    said = no_signal(rows, config)
    assert said.startswith(expected)
    assert bool(said) == bool(expected)
