"""What evaluations say beside the main number, and that the starting policy's are made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from broken_off import run_on

from benchmarks.records.record import Record
from benchmarks.running import capability, closing
from benchmarks.running.capability import best_temperature, pass_at
from benchmarks.running.evaluation import FIRST_SEED, SEEDS, evaluation_seed
from benchmarks.running.session import SEED_STRIDE
from policies.language_model import LanguageModel

EVALUATED = (
    "evaluate.test_samples=4",
    "evaluate.temperatures=[0,0.5,1]",
    "evaluate.temperature_samples=2",
    "evaluate.train_problems=3",
    "evaluate.greedy=true",
    "evaluate.other_task=gsm_synth",
    "task=wordle_turn",
)
"""After broken_off.SMALL: two test and two val problems."""


def test_pass_at_k_is_the_share_of_draws_of_k_samples_that_hold_a_solved_one() -> None:
    for samples in range(1, 7):
        for solved in range(samples + 1):
            for k in range(1, samples + 1):
                draws = list(combinations([1] * solved + [0] * (samples - solved), k))
                assert pass_at(k, samples, [solved]) == pytest.approx(sum(map(max, draws)) / len(draws))
    assert pass_at(2, 2, [0, 1, 2]) == pytest.approx(2 / 3)
    assert pass_at(8, 7, [7]) is None


def test_of_equally_good_temperatures_the_highest_is_chosen() -> None:
    assert best_temperature({0.0: 0.5, 0.3: 0.7, 0.7: 0.7, 1.0: 0.6}) == 0.7
    assert best_temperature({0.0: 0.0, 1.0: 0.0}) == 1.0


def test_evaluation_seeds_follow_the_runs_seed_and_are_nobody_elses() -> None:
    assert [evaluation_seed(split, 3) for split in ("train", "val", "test")] == [10_003, 20_003, 30_003]
    seeds = {evaluation_seed(split, seed) for split in FIRST_SEED for seed in range(SEEDS)}
    assert len(seeds) == 3 * SEEDS
    assert max(seeds | {evaluation_seed("test", 10**9)}) < SEED_STRIDE


class Games:
    """What was played: split, problems, group size, temperature, seed and instructions of each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        original = LanguageModel.play

        def play(policy: LanguageModel, task: Any, problems: Any, size: int, sampling: Any, seed: int) -> Any:
            split = problems[0].split
            self.calls.append((task.name, split, len(problems), size, sampling.temperature, seed))
            return original(policy, task, problems, size, sampling, seed)

        monkeypatch.setattr(LanguageModel, "play", play)


@pytest.fixture
def games(monkeypatch: pytest.MonkeyPatch) -> Games:
    return Games(monkeypatch)


STAGE = [
    ("wordle_turn", "test", 2, 4, 1.0, 30_007),
    ("wordle_turn", "test", 2, 1, 0.0, 30_007),
    ("wordle_turn", "val", 2, 1, 0.0, 20_007),
    ("wordle_turn", "val", 2, 2, 0.5, 20_007),
    ("wordle_turn", "val", 2, 2, 1.0, 20_007),
    ("wordle_turn", "train", 3, 2, 1.0, 10_007),
    ("gsm_synth", "val", 2, 2, 1.0, 20_007),
]
"""What an evaluation plays, but for test at T* = 0.5."""
AT_TSTAR = ("wordle_turn", "test", 2, 2, 0.5, 30_007)


def test_every_number_of_the_summary_is_that_of_the_outcomes(tmp_path: Path, games: Games) -> None:
    record = run_on(tmp_path, "+algo=grpo", "seed=7", "budget.updates=2", *EVALUATED)
    played = [call for call in games.calls if call[3:5] != (4, 1.0) or call[1] == "test"]
    summary = record.read_json("summary.json")
    rows = record.read_rows("outcomes.parquet")
    expected = [("wordle_turn", "val", 2, 1, 1.0, 20_007)] * 2
    for stage in ("final", "base"):
        assert summary[f"tstar_{stage}"] == best_temperature(
            {float(name): value for name, value in summary[f"val_by_temperature_{stage}"].items()}
        )
        expected += [*STAGE[:5], *[AT_TSTAR] * (summary[f"tstar_{stage}"] == 0.5), *STAGE[5:]]
        for mode, name, samples in (("sampled", "", 4), ("greedy", "_greedy", 1), ("tstar", "_tstar", None)):
            own = [row for row in rows if (row["stage"], row["mode"]) == (stage, mode)]
            samples = samples or {0.0: 1, 0.5: 2, 1.0: 4}[summary[f"tstar_{stage}"]]
            assert len(own) == 2 * samples
            assert summary[f"accuracy{name}_{stage}"] == sum(row["solved"] for row in own) / len(own)
            temperature = {"sampled": 1.0, "greedy": 0.0}.get(mode, summary[f"tstar_{stage}"])
            assert {row["temperature"] for row in own} == {temperature}
        assert summary[f"pass_at_1_{stage}"] == pytest.approx(summary[f"accuracy_{stage}"])
        assert summary[f"pass_at_4_{stage}"] >= summary[f"pass_at_1_{stage}"]
        assert summary[f"pass_at_8_{stage}"] is None
        assert -1 <= summary[f"train_gap_{stage}"] <= 1
    assert [call for call in played if call[1] != "train" or call[5] == 10_007] == expected
    assert summary["gain_tstar"] == summary["accuracy_tstar_final"] - summary["accuracy_tstar_base"]
    assert summary["forgotten"] == summary["accuracy_other_base"] - summary["accuracy_other_final"]
    assert summary["kl_tokens"] > 0
    assert summary["reused_evaluation"] is None


def test_kl_is_the_mean_log_ratio_of_both_policies_on_what_the_final_one_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, list[float]]] = []
    original = capability.action_logprobs

    def watched(session: Any, policy: LanguageModel, rollouts: Any) -> list[float]:
        import torch

        found = original(session, policy, rollouts)
        # The long way: a forward pass a rollout.
        slow = []
        for rollout in rollouts:
            ids = torch.tensor([rollout.prompt_ids + rollout.completion_ids])
            with torch.no_grad():
                each = policy.model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            slow += each[len(rollout.prompt_ids) - 1 :][torch.tensor(rollout.mask, dtype=torch.bool)].tolist()
        assert found == pytest.approx(slow, abs=1e-4)
        seen.append((policy.state_hash(), found))
        return found

    monkeypatch.setattr(closing, "action_logprobs", watched)
    record = run_on(tmp_path, "+algo=grpo", "algo.learning_rate=1e-2", "task.max_turns=2")
    summary, manifest = record.read_json("summary.json"), record.read_json("manifest.json")
    (final, own), (start, other) = seen
    assert (final, start) == (summary["policy_state"], manifest["policy_state"])
    assert summary["kl_tokens"] == len(own) == len(other)
    assert summary["kl_per_token"] == pytest.approx((sum(own) - sum(other)) / len(own))
    assert summary["kl_per_token"] > 0


def test_an_untouched_policy_is_at_no_distance_from_its_start_and_one_with_other_instructions_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.base import Base

    assert run_on(tmp_path, "+algo=base").read_json("summary.json")["kl_per_token"] == 0
    loads: list[object] = []
    monkeypatch.setattr(closing, "load_start", lambda *each: loads.append(each))
    monkeypatch.setattr(Base, "improve", lambda self, policy, task, session: setattr(policy, "instructions", "Guess."))
    record = run_on(tmp_path / "told", "+algo=base", "seed=1")
    assert record.read_json("summary.json")["kl_per_token"] not in (0, None)
    assert loads == []
    monkeypatch.undo()
    monkeypatch.setattr(Base, "improve", lambda self, policy, task, session: setattr(policy, "temperature", 0.5))
    record = run_on(tmp_path / "colder", "+algo=base")
    assert record.read_json("summary.json")["kl_per_token"] > 0.01


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Record, int]]:
    """Runs that are counted: each with the evaluations of a starting policy that it made."""
    made: list[str] = []
    original = capability.measure_capability

    def counted(session: Any, policy: Any, stage: str, other: Any) -> Any:
        made.append(stage)
        return original(session, policy, stage, other)

    monkeypatch.setattr(closing, "measure_capability", counted)

    def run(*words: str) -> tuple[Record, int]:
        made.clear()
        return run_on(tmp_path, *words), made.count("base")

    return run


SHORT = ("task.max_turns=2", "budget.updates=1")


def evaluations_of(record: Record) -> dict[str, Any]:
    """What a record says of the starting policy."""
    rows = [row for file in ("samples", "outcomes") for row in record.read_rows(f"{file}.parquet")]
    summary = record.read_json("summary.json")
    return {
        "rows": [row for row in rows if row["stage"] == "base"],
        "summary": {name: value for name, value in summary.items() if name.endswith("_base")},
        "val": {k: v for k, v in record.read_rows("curve.parquet")[0].items() if not k.startswith("spent/")},
    }


def test_a_policy_that_did_not_change_is_not_evaluated_twice(
    bases: Callable[..., tuple[Record, int]], games: Games
) -> None:
    for word, evaluations in (("+algo=grpo", 4), ("+algo=base", 0)):
        record, _ = bases(word, *SHORT)
        assert len([call for call in games.calls if call[1] != "train"]) == evaluations
        games.calls.clear()
    rows = [{**row, "stage": ""} for row in record.read_rows("samples.parquet")]
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
    summary = record.read_json("summary.json")
    assert (summary["gain"], summary["gain_tstar"], summary["n_test"]) == (0, 0, 2)


def test_the_starting_policy_is_evaluated_once_for_all_algorithms_of_a_seed(
    bases: Callable[..., tuple[Record, int]], games: Games
) -> None:
    first, made = bases("+algo=grpo", *SHORT)
    second, reused = bases("+algo=rft", *SHORT)
    assert (made, reused) == (1, 0)
    assert evaluations_of(first) == evaluations_of(second)
    about = second.read_json("summary.json")["reused_evaluation"]
    costs = first.read_json("summary.json")["costs"]["evaluate"]
    assert 0 < about["cpu_s"] < costs["cpu_s"]
    assert (first.folder.parent / ".evaluations" / f"{about['key']}.json").is_file()
    own = second.read_json("summary.json")["costs"]["evaluate"]
    # The one made four evaluations (val and test of both policies); the other none of the first policy's.
    assert own["rollouts"] < costs["rollouts"] - about["rollouts"]
    assert sum(call[2] * call[3] for call in games.calls if call[1] != "train") == costs["rollouts"] + own["rollouts"]


@pytest.mark.parametrize("word", ["seed=1", "evaluate.test_samples=2", "task.max_turns=1", "force=true"])
def test_what_could_change_an_evaluation_has_it_made_again(bases: Callable[..., tuple[Record, int]], word: str) -> None:
    bases("+algo=base", *SHORT)
    _, made = bases("+algo=base", *SHORT, word)
    assert made == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "link"])
def test_a_damaged_evaluation_is_made_again(
    bases: Callable[..., tuple[Record, int]], damage: str, tmp_path: Path
) -> None:
    first, _ = bases("+algo=base", *SHORT)
    (file,) = (first.folder.parent / ".evaluations").glob("*.json")
    content = file.read_bytes()
    middle = len(content) // 2
    changed = {
        "cut": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }
    file.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_bytes(changed.get(damage, b""))
    second, made = bases("+algo=rft", *SHORT)
    assert made == 1
    assert evaluations_of(first) == evaluations_of(second)
    assert second.read_json("summary.json")["reused_evaluation"] is None
    assert bases("+algo=dr_grpo", *SHORT)[1] == 0


def test_the_other_task_must_be_another_and_must_exist(tmp_path: Path) -> None:
    from tasks.errors import BadInput

    with pytest.raises(BadInput, match="another task than the run's own"):
        run_on(tmp_path, "+algo=base", "evaluate.other_task=wordle")
    with pytest.raises(BadInput, match="gsm_synt"):
        run_on(tmp_path, "+algo=base", "evaluate.other_task=gsm_synt")
    assert json.dumps(list(tmp_path.iterdir())) == "[]"
