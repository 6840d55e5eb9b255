"""The probe: its gradients are the trainer's, its cosines find what was planted, its errors are errors."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import probe_plugins
import pytest
import torch
from rollouts import A_AND_B, batch_of, rollout

from algorithms.batch import RolloutBatch
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import PolicyGradientConfig
from benchmarks.checking.credit_rms import measured_credit
from benchmarks.checking.gradients import ProbeSession, SharedRollouts, captured_gradients, flat_gradient, gram_matrix
from benchmarks.checking.probe import Probe, SolvedGradient, probe
from benchmarks.checking.probe_command import probe_configs
from benchmarks.checking.probe_statistics import WithError, cosines, jackknife, mean_with_error
from policies.api import Rollout
from policies.language_model import LanguageModel
from tasks.errors import BadInput

PLUGINS = Path(probe_plugins.__file__)
SMALL = ("batch.problems=4", "batch.group_size=4", "policy.device=cpu")


@pytest.fixture
def random_policy(untrained_folder: Path) -> tuple[str, ...]:
    return ("policy=path", f"policy.path={untrained_folder}", *SMALL)


def run(words: tuple[str, ...], algorithms: str, *, batches: int = 3, held_out: int = 4, task: str = "Even") -> Probe:
    named = algorithms.replace("planted.", f"{PLUGINS}:")
    configs = probe_configs([f"+algo={named}", f"task={PLUGINS}:{task}", *words])
    short = {name.removeprefix(f"{PLUGINS}:"): config for name, config in configs.items()}
    return probe(short, batches, held_out, lambda line: None)


def value(figure: WithError | None) -> float:
    assert figure is not None
    assert figure.value is not None
    return figure.value


def test_algorithms_that_are_equal_have_equal_gradients_and_opposite_ones_opposite(
    random_policy: tuple[str, ...],
) -> None:
    one_head = "vector_grpo:spans=false:batch_step=false"
    found = run(random_policy, f"grpo,{one_head},dr_grpo,grpo:scale_rewards=false,planted.Against")
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    for first, second, cosine in (
        ("grpo", one_head, 1.0),
        ("dr_grpo", "grpo:scale_rewards=false", 1.0),
        ("grpo", "Against", -1.0),
    ):
        pair = pairs[first, second]
        assert value(pair.cosine) == pytest.approx(cosine, abs=1e-4), (first, second)
        assert value(pair.cosine_of_mean) == pytest.approx(cosine, abs=1e-4), (first, second)
    assert value(pairs["grpo", "dr_grpo"].cosine) < 0.9999
    assert value(found.algorithms[one_head].cosine_minus_first) == pytest.approx(0, abs=1e-4)
    assert value(found.algorithms["Against"].cosine) == pytest.approx(-value(found.algorithms["grpo"].cosine), abs=1e-4)


def test_a_planted_difference_is_found_beyond_its_error(random_policy: tuple[str, ...]) -> None:
    one_token = (*random_policy, "policy.max_action_tokens=1", "batch.group_size=32")
    found = run(one_token, "grpo,planted.Noise", batches=3, held_out=8)
    grpo, noise = found.algorithms["grpo"], found.algorithms["Noise"]
    assert value(grpo.cosine) > 0.2
    assert abs(value(noise.cosine)) < 0.1
    assert noise.cosine_minus_first is not None
    assert noise.cosine_minus_first.error is not None
    assert value(noise.cosine_minus_first) < -3 * noise.cosine_minus_first.error
    assert grpo.cosine_minus_first is None
    assert found.held_out_halves is not None
    assert found.held_out_halves > 0.2
    assert 0.2 < found.held_out_solved < 0.8


def test_an_algorithm_without_credit_has_no_cosine_and_the_record_says_null(random_policy: tuple[str, ...]) -> None:
    found = run(random_policy, "grpo,planted.Nothing", batches=2, held_out=2)
    assert found.algorithms["Nothing"].cosine == (None, None)
    assert found.algorithms["Nothing"].credit_rms == (0, 0)
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert record["pairs"][0]["cosine"] == [None, None]


def test_a_component_that_is_always_equal_changes_no_credit(random_policy: tuple[str, ...]) -> None:
    found = run(random_policy, "vector_grpo:batch_step=false", batches=2, held_out=2, task="EvenAndIdle")
    each = found.algorithms["vector_grpo:batch_step=false"]
    assert each.credit_rms_by_component["idle"] == (0, 0)
    assert value(each.credit_rms_by_component["right"]) == pytest.approx(value(each.credit_rms), abs=1e-6)
    assert set(each.credit_rms_by_span) == {"right", "elsewhere"}
    assert value(each.credit_rms_by_span["right"]) > 0.5
    assert value(each.credit_rms_by_span["elsewhere"]) == 0


def shared_session(policy: LanguageModel, folder: Path, updates: int, **settings: Any) -> ProbeSession:
    task = probe_plugins.Even(probe_plugins.Even.Config())
    policy.instructions = task.instructions
    shared = SharedRollouts(task, 0, 256)
    return ProbeSession(policy, shared, task.problems("train")[:8], updates, {}, folder, **settings)


def logprob(policy: LanguageModel, each: Rollout) -> torch.Tensor:
    ids = torch.tensor([each.prompt_ids + each.completion_ids])
    logits = policy.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    chosen = logits.gather(1, ids[0, 1:, None])[:, 0][len(each.prompt_ids) - 1 :]
    return chosen[torch.tensor(each.mask, dtype=torch.bool)].sum()


def test_the_held_out_gradient_is_reinforce_with_a_leave_one_out_baseline(
    untrained: LanguageModel, tmp_path: Path
) -> None:
    session = shared_session(untrained, tmp_path, 1)
    config = PolicyGradientConfig(name="solved", problems_per_update=8, group_size=4, max_grad_norm=math.inf)
    before = untrained.state_hash()
    with captured_gradients(untrained) as captured:
        SolvedGradient(config).improve(untrained, session.shared.task, session)
    assert untrained.state_hash() == before
    (rollouts,) = session.shared.played.values()
    weights = [each for each in untrained.model.parameters() if each.requires_grad]
    untrained.model.eval()
    untrained.model.zero_grad()
    loss = torch.zeros(())
    for group in range(0, len(rollouts), 4):
        members = rollouts[group : group + 4]
        for each in members:
            others = [float(other.solved) for other in members if other is not each]
            loss = loss - (float(each.solved) - sum(others) / 3) * logprob(untrained, each) / len(rollouts)
    loss.backward()
    torch.testing.assert_close(captured[0], flat_gradient(weights), rtol=1e-3, atol=1e-6)
    assert float(captured[0].norm()) > 1e-3


def test_all_algorithms_get_the_same_rollouts(untrained: LanguageModel, tmp_path: Path) -> None:
    session = shared_session(untrained, tmp_path, 2)
    config = GRPOConfig(problems_per_update=4, group_size=4)
    with patch.object(untrained, "play", side_effect=untrained.play) as play:
        for _ in range(2):
            session.facts.clear()
            with captured_gradients(untrained) as captured:
                GRPO(config).improve(untrained, session.shared.task, session)
            assert len(captured) == 2
    assert play.call_count == 2, "once a batch, for both"


def test_algorithms_that_read_hidden_states_or_log_probabilities_get_them(random_policy: tuple[str, ...]) -> None:
    found = run(random_policy, "vector_grpo:baseline=heads,feedback_grpo:weight=1,grpo", batches=2, held_out=2)
    alone = run(random_policy, "grpo", batches=2, held_out=2)
    assert value(found.algorithms["grpo"].cosine) == value(alone.algorithms["grpo"].cosine)


def test_measuring_credit_leaves_the_algorithms_own_draws_as_they_were(
    untrained: LanguageModel, tmp_path: Path
) -> None:
    class Weighted(probe_plugins.Noise):
        """Draws once more for each component that counts."""

        def credit(self, batch: RolloutBatch) -> torch.Tensor:
            return super().credit(batch) + sum(self.session.rng.random() for weight in batch.weights if weight)

    def draws(*, measured: bool) -> tuple[Any, Any]:
        session = shared_session(untrained, tmp_path, 1)
        algorithm = Weighted(probe_plugins.PlantedConfig())
        algorithm.policy, algorithm.task, algorithm.session = untrained, session.shared.task, session
        batch = batch_of(rollout((1, 0)), rollout((0, 0)), group_size=2)
        if measured:
            with measured_credit(algorithm) as rms:
                credit = algorithm.credit(batch)
            assert set(rms.by_component) == {component.name for component in A_AND_B}
        else:
            credit = algorithm.credit(batch)
        return credit.tolist(), session.rng.random()

    assert draws(measured=True) == draws(measured=False)


def test_credit_is_measured_on_the_tokens_that_each_component_judges() -> None:
    class Ramp(GRPO):
        def credit(self, batch: RolloutBatch) -> torch.Tensor:
            return torch.tensor([[3.0, 4.0, 1.0, 9.0], [3.0, 4.0, 1.0, 9.0]])

    algorithm = Ramp(GRPOConfig())
    algorithm.policy = algorithm.task = None  # type: ignore[assignment]
    algorithm.session = SimpleNamespace(rng=random.Random(0))  # type: ignore[assignment]
    spans = {"a": (0, 2), "b": (2, 3)}
    batch = batch_of(rollout((1, 0), spans=spans), rollout((0, 0), spans=spans), group_size=2)
    with measured_credit(algorithm) as rms:
        algorithm.credit(batch)
    assert rms.by_span["a"] == [pytest.approx(math.sqrt(12.5))]
    assert rms.by_span["b"] == [pytest.approx(1.0)]
    assert math.isnan(rms.by_span["elsewhere"][0])
    assert rms.everywhere == [pytest.approx(math.sqrt(26 / 3))], "the environment's token, 9, does not count"
    assert rms.by_component == {"a": [0], "b": [0]}


def planted_vectors(batches: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(400, generator=generator)
    noise = [torch.randn(400, generator=generator) for _ in range(2 * batches + 2)]
    halves = [truth + noise[0], truth + noise[1]]
    return halves + [truth + each for each in noise[2 : 2 + batches]] + [0.3 * truth + e for e in noise[2 + batches :]]


def test_cosines_are_those_of_the_vectors_themselves() -> None:
    vectors = planted_vectors(3)
    found = cosines(gram_matrix(vectors).numpy(), ["a", "b"], 3)
    truth = vectors[0] + vectors[1]

    def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    a, b = vectors[2:5], vectors[5:8]
    assert found.held_out["a"].value == pytest.approx(np.mean([cosine(each, truth) for each in a]), abs=1e-5)
    assert found.held_out_of_mean["b"].value == pytest.approx(cosine(b[0] + b[1] + b[2], truth), abs=1e-5)
    each_pair = [cosine(one, other) for one, other in zip(a, b, strict=True)]
    assert found.pairs["a", "b"].value == pytest.approx(np.mean(each_pair), abs=1e-5)
    assert found.pairs["a", "b"].error == pytest.approx(np.std(each_pair, ddof=1) / math.sqrt(3), abs=1e-5)
    assert found.pairs_of_mean["a", "b"].value == pytest.approx(cosine(sum(a), sum(b)), abs=1e-5)  # type: ignore[arg-type]
    differences = [cosine(two, truth) - cosine(one, truth) for one, two in zip(a, b, strict=True)]
    assert found.minus_first["b"].value == pytest.approx(np.mean(differences), abs=1e-5)
    assert found.halves == pytest.approx(cosine(vectors[0], vectors[1]), abs=1e-5)


def test_errors_shrink_with_batches() -> None:
    few, many = (cosines(gram_matrix(planted_vectors(n)).numpy(), ["a", "b"], n) for n in (8, 128))
    for name in ("a", "b"):
        assert value(few.held_out[name]) == pytest.approx(value(many.held_out[name]), abs=0.1)
        ratio = few.held_out[name].error / many.held_out[name].error  # type: ignore[operator]
        assert 2 < ratio < 8, "sixteen times the batches: a quarter of the error"


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    numbers = np.array([1.0, 2.0, 4.0, 9.0])
    found = jackknife(lambda chosen: float(numbers[chosen].mean()), 4)
    assert found == (4.0, pytest.approx(numbers.std(ddof=1) / 2))
    assert mean_with_error([*numbers, math.nan]) == found
    assert mean_with_error([math.nan]) == (None, None)


def test_a_sketch_keeps_cosines() -> None:
    generator = torch.Generator().manual_seed(1)
    common = torch.randn(40_000, generator=generator)
    common[:3] *= 50  # a few coordinates that hold much, as embeddings do
    vectors = []
    for _ in range(2):
        weights = [torch.nn.Parameter(torch.zeros(30_000)), torch.nn.Parameter(torch.zeros(100, 100))]
        gradient = 1 + common + torch.randn(40_000, generator=generator)  # without signs, the 1 would add up
        weights[0].grad, weights[1].grad = gradient[:30_000], gradient[30_000:].view(100, 100)
        vectors.append((flat_gradient(weights), flat_gradient(weights, 4096)))
    exact, sketched = (
        float(torch.nn.functional.cosine_similarity(vectors[0][i], vectors[1][i], dim=0)) for i in (0, 1)
    )
    assert vectors[0][1].shape == (4096,)
    assert sketched == pytest.approx(exact, abs=4 * math.sqrt(2 / 4096))
    assert sketched != exact


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["task=wordle"], "which algorithms"),
        (["+algo="], "which algorithms"),
        (["+algo=grpo,grpo"], "grpo is named twice"),
        (["+algo=grpo:wieght=1"], "grpo:wieght=1: unknown key"),
        (["+algo=feedback_grpo:weight=heavy"], "algo.weight"),
        (["+algo=grpo", "--bathces=3"], "unknown option --bathces=3"),
        (["+algo=grpoo"], "did you mean"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_loaded(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says.replace("(", r"\(")):
        probe_configs(words)


@pytest.mark.parametrize(
    ("algorithms", "batches", "words", "says"),
    [
        ("grpo,base", 2, (), "base cannot be probed"),
        ("grpo,gepa", 2, (), "gepa cannot be probed"),
        ("grpo", 1, (), "--batches 1 must be at least 2"),
        ("grpo,rft:problems_per_update=3", 2, (), "rft:problems_per_update=3 has problems_per_update=3"),
        ("grpo", 200, (), "train problems are needed, echo has 100"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    random_policy: tuple[str, ...], algorithms: str, batches: int, words: tuple[str, ...], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        run((*random_policy, *words), algorithms, batches=batches)


def command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "probe", *words],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PLUGINS.parent)},  # the file imports another one beside it
    )


def test_the_command_prints_a_probe_and_keeps_it(random_policy: tuple[str, ...], tmp_path: Path) -> None:
    words = ("+algo=grpo,rft", f"task={PLUGINS}:Even", *random_policy, "--batches", "2", "--held-out", "2", "--save")
    done = command(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "minus grpo" in done.stdout
    (kept,) = (tmp_path / "results" / "probes").glob("*/probe.json")
    record = json.loads(kept.read_text())
    assert list(record["algorithms"]) == ["grpo", "rft"]
    assert record["batches"] == 2
    again = command(*words[:-1], "--format", "json", folder=tmp_path)
    printed = json.loads(again.stdout)
    assert printed | {"wall_s": 0} == record | {"wall_s": 0}, "the same seed, the same probe"


def test_an_algorithm_that_leaves_weights_alone_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = command("+algo=gepa", folder=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
