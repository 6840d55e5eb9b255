"""Copies of the curves in a user's tracker, offline."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest
from rich.console import Console

from benchmarks.config.schema import check_config, compose_config
from benchmarks.config.settings import TRACKERS, check_tracking
from benchmarks.running.progress import Progress
from benchmarks.running.run import run
from benchmarks.running.tracking import Tracker
from tasks.errors import BadInput


def config(folder, tracking):
    words = ["+algo=base", "task=gsm_synth", "budget=smoke", f"results.dir={folder / 'runs'}", f"tracking={tracking}"]
    return check_config(compose_config(words))


def follow(folder, tracking):
    """Two updates of an imagined run, and its two evaluations."""
    with Progress(Console(file=io.StringIO()), "grpo-test") as progress:
        progress.follow(Tracker(tracking, config(folder, tracking), "grpo-test"))
        progress.evaluated({"solved": 0.25, "reward/format": -0.5})
        for update in (1, 2):
            progress.step(
                update, update / 2, {"flops": 1e9 * update, "seconds": 1.0, "joules": None}, {"reward": 0.1 * update}
            )
        progress.evaluated({"solved": 0.75, "reward/format": 0.0})


CURVES = {
    "val/solved": [(0, 0.25), (2, 0.75)],
    "val/reward/format": [(0, -0.5), (2, 0.0)],
    "train/reward": [(1, 0.1), (2, 0.2)],
    "spent/flops": [(1, 1e9), (2, 2e9)],
}


def test_tensorboard_gets_the_curves_over_updates(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "tracking/tensorboard/grpo-test")).Reload()
    for name, points in CURVES.items():
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(step, pytest.approx(value)) for step, value in points]
    assert "spent/joules" not in events.Tags()["scalars"], "what was not measured is left out"


@pytest.mark.slow
def test_mlflow_gets_the_curves_and_the_settings_in_a_local_database(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    try:
        follow(tmp_path, "mlflow")
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'tracking/mlflow.db'}")
        (found,) = client.search_runs([client.get_experiment_by_name("grpo-bench").experiment_id])
    finally:
        mlflow.set_tracking_uri(before)
    assert found.info.run_name == "grpo-test"
    assert found.info.status == "FINISHED"
    assert found.data.params["budget.name"] == "smoke"
    for name, points in CURVES.items():
        assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)] == points


def test_trackio_gets_the_curves_and_the_settings_in_a_local_database(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # Before it is imported.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("trackio", reason="pip install trackio")
    follow(tmp_path, "trackio")
    with closing(sqlite3.connect(tmp_path / "trackio/grpo-bench.db")) as database:
        rows = database.execute("select step, metrics from metrics where run_name = 'grpo-test' order by id").fetchall()
        ((settings,),) = database.execute("select config from configs").fetchall()
    assert json.loads(settings)["budget.name"] == "smoke"
    found = {name: [(s, json.loads(m)[name]) for s, m in rows if name in json.loads(m)] for name in CURVES}
    assert found == {name: [(step, pytest.approx(value)) for step, value in points] for name, points in CURVES.items()}


def test_wandb_gets_the_curves_and_the_settings_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for folder in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{folder}_DIR", str(tmp_path))
    follow(tmp_path, "wandb")
    # wandb has no reader of its own files; names and values stand in them as they are.
    (file,) = (tmp_path / "tracking/wandb").glob("offline-run-*/*.wandb")
    content = file.read_bytes()
    wanted = [*CURVES, "grpo-test", "grpo-bench", "budget.name", "0.25", "-0.5", "2e+09"]
    assert [text for text in wanted if text.encode() not in content] == []
    assert b"spent/joules" not in content


def test_a_run_sends_its_curve_and_has_the_same_name_with_and_without_a_tracker(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked, plain = config(tmp_path, "tensorboard"), config(tmp_path, "none")
    assert tracked.run_name("task") == plain.run_name("task")
    record = run(tracked, Console(file=io.StringIO()), "test").record
    events = EventAccumulator(str(tmp_path / f"tracking/tensorboard/{record.name}")).Reload()
    curve = record.read_rows("curve.parquet")
    assert [event.value for event in events.Scalars("val/solved")] == pytest.approx([row["solved"] for row in curve])
    steps = [event.step for event in events.Scalars("val/solved")]
    assert all(before < after for before, after in pairwise(steps))


def test_a_tracker_that_fails_is_named_and_the_run_goes_on(monkeypatch):
    said = io.StringIO()

    class Broken:
        name = "wandb"

        def log(self, values, update):
            raise ConnectionError("the server is gone")

    with Progress(Console(file=said), "grpo-test") as progress:
        progress.follow(Broken())
        for update in (1, 2):
            progress.step(update, 0.5, {"seconds": 1.0}, {})
    assert said.getvalue().count("tracking=wandb failed and gets no more: ConnectionError: the server is gone") == 1


def test_a_tracker_that_is_unknown_or_not_installed_is_the_users_mistake(monkeypatch):
    with pytest.raises(BadInput, match="tracking=comet: use one of none, tensorboard, trackio, wandb, mlflow"):
        check_tracking("comet")
    monkeypatch.setattr("benchmarks.config.settings.find_spec", lambda name: None)
    for name, packages in TRACKERS.items():
        with pytest.raises(BadInput, match=f"tracking={name}: .* pip install {' '.join(packages)}"):
            check_tracking(name)
