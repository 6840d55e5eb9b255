"""temper, all_advice and random_prompt: what they choose, and that the weights stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_session import StubSession

from algorithms.all_advice import AllAdvice, AllAdviceConfig
from algorithms.fork_grpo import ForkGRPO, ForkGRPOConfig
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.random_prompt import CANDIDATES, RandomPrompt, RandomPromptConfig
from algorithms.temper import Temper, TemperConfig
from policies.api import Rollout, Sampling, Turn
from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig
from tasks.api import Problem, Task
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig


class Scripted(StubSession):
    """Every `every`-th problem of a call is solved, as `share` says of what the policy then is."""

    def __init__(self, *args: Any, share: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.share = share
        self.asked: list[tuple[float, str, tuple[str, ...]]] = []

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        self.plays += 1
        temperature = sampling.temperature * self.policy.temperature
        self.asked.append((temperature, self.policy.instructions, tuple(each.id for each in problems)))
        solved = round(self.share(temperature, self.policy.instructions) * len(problems))
        rollouts = []
        for place, problem in enumerate(problems):
            action = self.task.oracle(problem)[0] if place < solved else "#### x"
            turn = Turn(action=action, verdict=self.task.start(problem).step(action), start=0, end=1)
            rollouts.append(Rollout(problem=problem, group=0, prompt_ids=[], turns=[turn]))
        return rollouts


@pytest.fixture(scope="module")
def gsm() -> GsmSynth:
    return GsmSynth(GsmSynthConfig(max_action_tokens=24))


def test_temper_keeps_the_temperature_that_solves_most(untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path) -> None:
    before = untrained.state_hash()
    session = Scripted(untrained, gsm, tmp_path, 9, share=lambda t, _: {0.5: 0.9, 0.0: 0.6}.get(t, 0.3))
    Temper(TemperConfig(problems=40, problems_per_update=16)).improve(untrained, gsm, session)
    assert untrained.temperature == 0.5
    assert [len(ids) for _, _, ids in session.asked] == [16] * 10 + [8] * 5
    assert [temperature for temperature, *_ in session.asked[:5]] == [1.0, 0.7, 0.5, 0.3, 0.0]
    assert len({ids for _, _, ids in session.asked[:5]}) == 1, "every temperature plays the same problems"
    assert len(session.steps) == 3
    assert untrained.state_hash() != before, "it plays otherwise"
    untrained.temperature = 1.0
    assert untrained.state_hash() == before


def test_temper_ends_with_the_budget(untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path) -> None:
    session = Scripted(untrained, gsm, tmp_path, 2, share=lambda t, _: 1 - t / 2)
    Temper(TemperConfig()).improve(untrained, gsm, session)
    assert len(session.steps) == 2
    assert untrained.temperature == 0.0


def test_a_policys_temperature_multiplies_that_of_every_sampling_and_is_saved_with_it(
    tiny: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    problems = gsm.problems("train")[:4]
    tiny.instructions = gsm.instructions
    wanted, _ = tiny.play(gsm, problems, 2, Sampling(temperature=0.35), 0)
    plain, _ = tiny.play(gsm, problems, 2, Sampling(temperature=0.7), 0)
    tiny.temperature = 0.5
    tiny.save(tmp_path)
    again = load_policy(PolicyConfig(name="again", path=str(tmp_path), device="cpu", dtype="float32"))
    for policy in (tiny, again):
        found, _ = policy.play(gsm, problems, 2, Sampling(temperature=0.7), 0)
        assert [each.completion_ids for each in found] == [each.completion_ids for each in wanted]
    assert [each.completion_ids for each in plain] != [each.completion_ids for each in wanted]
    (tmp_path / "sampling.json").write_text('{"temperature": "hot"}')
    with pytest.raises(BadInput, match=r"sampling\.json must be"):
        load_policy(again.config)


def test_no_group_is_drawn_from_a_policy_that_plays_greedily(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    untrained.temperature = 0.0
    for algorithm in (GRPO(GRPOConfig()), ForkGRPO(ForkGRPOConfig())):
        with pytest.raises(BadInput, match="temperature 0"):
            algorithm.check(untrained, gsm, StubSession(untrained, gsm, tmp_path, 1))


def test_all_advice_adds_every_sentence_once(untrained: LanguageModel, tmp_path: Path) -> None:
    task = Wordle(WordleConfig())
    untrained.instructions = f"{task.instructions} {task.sentences[2]}"
    weights = [parameter.clone() for parameter in untrained.model.parameters()]
    session = StubSession(untrained, task, tmp_path, 1)
    AllAdvice(AllAdviceConfig()).improve(untrained, task, session)
    assert all(untrained.instructions.count(sentence) == 1 for sentence in task.sentences)
    assert untrained.instructions.startswith(task.instructions)
    assert (session.plays, len(session.steps)) == (0, 1)
    assert all(map(torch.equal, weights, untrained.model.parameters()))


def test_random_prompt_keeps_the_best_of_different_subsets(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    good = gsm.sentences[1]
    untrained.instructions = gsm.instructions
    session = Scripted(untrained, gsm, tmp_path, 12, share=lambda _, text: 0.9 if good in text else 0.4)
    RandomPrompt(RandomPromptConfig(valset_size=10)).improve(untrained, gsm, session)
    assert good in untrained.instructions
    assert session.asked[0][1] == gsm.instructions
    assert len({text for _, text, _ in session.asked}) == len(session.steps) == 12
    assert len({ids for *_, ids in session.asked}) == 1
    rows = session.kept[CANDIDATES]
    assert [row["text"] for row in rows if row["best"]] == [untrained.instructions]
    counts = {sum(sentence in row["text"] for sentence in gsm.sentences) for row in rows}
    assert len(counts) > 3


def test_random_prompt_ends_where_no_candidate_is_left(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GsmSynth, "sentences", ("One.", "Two."))
    untrained.instructions = gsm.instructions
    session = Scripted(untrained, gsm, tmp_path, 99, share=lambda *_: 0.5)
    RandomPrompt(RandomPromptConfig(valset_size=4)).improve(untrained, gsm, session)
    assert len(session.steps) == 4


@pytest.mark.parametrize("algorithm", [AllAdvice(AllAdviceConfig()), RandomPrompt(RandomPromptConfig())])
def test_a_task_without_sentences_is_refused(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, algorithm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Task = gsm
    monkeypatch.setattr(GsmSynth, "sentences", ())
    with pytest.raises(BadInput, match="has no advice"):
        algorithm.check(untrained, task, StubSession(untrained, task, tmp_path, 1))


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (TemperConfig, {"temperatures": []}, "algo.temperatures"),
        (TemperConfig, {"temperatures": [-0.1]}, "algo.temperatures"),
        (TemperConfig, {"problems": 0}, "algo.problems=0"),
        (RandomPromptConfig, {"valset_size": 0}, "algo.valset_size=0"),
        (RandomPromptConfig, {"temperature": 0.0}, "algo.temperature=0"),
    ],
)
def test_settings_out_of_range_are_refused(config: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        config(**settings)
