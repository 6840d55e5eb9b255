"""GEPA: only instructions change, only train problems are touched, and the budget ends the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from stub_session import StubSession

from algorithms.endpoint_reflector import EndpointConfig
from algorithms.gepa import GEPA, GEPAConfig, two_sets
from algorithms.gepa_search import PROPOSALS, own_score, worst_score
from algorithms.reflector import Reflector, Refused
from algorithms.rules_reflector import Rules
from benchmarks.config.presets import CONF
from benchmarks.running.evaluation import average
from policies.api import Rollout, Sampling, Turn
from policies.language_model import LanguageModel
from tasks.api import Problem, Task
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.wordle import Wordle, WordleConfig

CHECK, WRITE = "Carry the ten in a sum.", "Write each step as an equation."
SMALL = {"valset_size": 12, "minibatch_size": 8}


class Watched(StubSession):
    """Remembers which problems were played under which instructions, and what the policy was at each step."""

    def __init__(self, policy: LanguageModel, task: Task, scratch: Path, updates: int, seed: int = 0) -> None:
        super().__init__(policy, task, scratch, updates, seed)
        self.played: list[tuple[str, tuple[str, ...]]] = []
        self.at_steps: list[str] = []

    def problems(self) -> Iterator[Problem]:
        deck = list(self.task.problems("train"))
        random.Random(self.seed).shuffle(deck)
        while True:
            yield from deck

    def play(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        self.played.append((self.policy.instructions, tuple(problem.id for problem in problems)))
        return self.answers(problems, group_size, sampling)

    def answers(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        return super().play(problems, group_size, sampling)

    def step(self, metrics: Mapping[str, float]) -> None:
        super().step(metrics)
        self.at_steps.append(self.policy.instructions)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.kept[PROPOSALS]


class Scripted(Watched):
    """`solves` says which problems are solved under which instructions; every failure names the same fault."""

    def __init__(self, *args: Any, solves: Callable[[float, str], bool], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.solves = solves

    def answers(self, problems: Sequence[Problem], group_size: int, sampling: Sampling) -> list[Rollout]:
        rollouts = []
        for problem in problems:
            solved = self.solves(random.Random(problem.id).random(), self.policy.instructions)
            action = self.task.oracle(problem)[0] if solved else "#### 1\n3+4=8"
            episode = self.task.start(problem)
            turn = Turn(action=action, verdict=episode.step(action), start=0, end=1)
            rollouts.append(Rollout(problem=problem, group=0, prompt_ids=[], turns=[turn], messages=episode.messages))
        return rollouts


@pytest.fixture(scope="module")
def wordle() -> Wordle:
    return Wordle(WordleConfig())


@pytest.fixture(scope="module")
def gsm() -> GsmSynth:
    """With one sentence a fault."""
    task = GsmSynth(GsmSynthConfig(max_action_tokens=24))
    task.advice = {fault: several[:1] for fault, several in task.advice.items()}
    return task


def improve(session: StubSession, **settings: Any) -> None:
    session.policy.instructions = session.policy.instructions or session.task.instructions
    GEPA(GEPAConfig(**{**SMALL, **settings})).improve(session.policy, session.task, session)


def test_the_run_ends_with_the_first_iteration_after_the_budget(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    for updates in (1, 4):
        session = Watched(untrained, gsm, tmp_path, updates)
        improve(session)
        assert len(session.steps) == updates
        assert [row["iteration"] for row in session.rows] == list(range(updates))


def test_only_train_problems_are_played_and_valset_and_minibatches_share_none(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    session = Watched(untrained, gsm, tmp_path, updates=6)
    improve(session)
    train = {problem.id for problem in gsm.problems("train")}
    valset = set(session.played[0][1])
    assert len(valset) == SMALL["valset_size"]
    minibatches = [set(ids) for _, ids in session.played[1:] if len(ids) == SMALL["minibatch_size"]]
    assert len(minibatches) >= 6
    assert all(ids <= train - valset for ids in minibatches)
    assert all(set(ids) == valset for _, ids in session.played if len(ids) != SMALL["minibatch_size"])


def test_valset_and_trainset_are_one_pass_over_the_train_problems_cut_in_two(
    untrained: LanguageModel, wordle: Wordle, tmp_path: Path
) -> None:
    train = [problem.id for problem in wordle.problems("train")]
    for size in (1, 128, len(train) - 8):
        session = Watched(untrained, wordle, tmp_path, updates=1)
        valset, trainset = two_sets(wordle, session, GEPAConfig(valset_size=size, minibatch_size=8))
        assert len(valset) == size
        assert sorted(problem.id for problem in [*valset, *trainset]) == sorted(train)


def test_weights_stay_as_they_are(untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in untrained.model.state_dict().items()}
    improve(Watched(untrained, gsm, tmp_path, updates=3))
    assert all(bool((before[name] == tensor).all()) for name, tensor in untrained.model.state_dict().items())


def test_the_same_seed_makes_the_same_run_and_another_one_another(
    tiny: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    runs = []
    for seed in (3, 3, 4):
        session = Watched(tiny, gsm, tmp_path, updates=6, seed=seed)
        tiny.instructions = ""
        improve(session)
        runs.append((session.rows, session.played, session.steps))
    assert runs[0] == runs[1]
    assert runs[0][1] != runs[2][1]


@pytest.mark.slow
def test_better_instructions_are_found_on_wordle_at_a_small_budget(
    tiny: LanguageModel, wordle: Wordle, tmp_path: Path
) -> None:
    session = Watched(tiny, wordle, tmp_path, updates=7)
    improve(session, valset_size=64, minibatch_size=24)
    assert any(sentence in tiny.instructions for sentence in wordle.sentences)
    solved = []
    for instructions in (wordle.instructions, tiny.instructions):
        tiny.instructions = instructions
        rollouts, _ = tiny.play(wordle, wordle.problems("test"), 1, Sampling(), seed=1)
        solved.append(average(wordle, rollouts)["solved"])
    assert solved[1] > solved[0] + 0.05


def scripted(policy: LanguageModel, gsm: GsmSynth, folder: Path, updates: int, seed: float, checked: float) -> Scripted:
    """A share `seed` of the problems is solved under the seed instructions, `checked` with one sentence more."""
    return Scripted(
        policy, gsm, folder, updates, solves=lambda place, text: place < (checked if CHECK in text else seed)
    )


def test_the_policy_ends_with_the_best_on_the_valset_and_has_it_at_every_step(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    session = scripted(untrained, gsm, tmp_path, 4, seed=0.2, checked=0.7)
    improve(session)
    better = f"{gsm.instructions} {CHECK}"
    assert untrained.instructions == better
    assert session.at_steps == [gsm.instructions, better, better, better]
    assert (
        session.rows[1] | {"kept": True, "best": True, "parents": [0], "candidate": 1, "text": better}
        == session.rows[1]
    )
    assert session.rows[1]["score"] > session.rows[0]["score"]
    assert not session.rows[0]["best"]


def test_a_child_that_is_no_better_is_dropped_and_on_record(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path
) -> None:
    session = scripted(untrained, gsm, tmp_path, 2, seed=0.5, checked=0.0)
    improve(session)
    row = session.rows[1]
    assert (row["kept"], row["candidate"], row["text"]) == (False, None, f"{gsm.instructions} {CHECK}")
    assert row["minibatch_after"] < row["minibatch_before"]
    assert row["why"] == "its score was not above the parent's on the minibatch"
    assert untrained.instructions == gsm.instructions


def test_a_perfect_minibatch_is_no_reason_to_reflect(untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path) -> None:
    session = scripted(untrained, gsm, tmp_path, 3, seed=1.0, checked=1.0)
    improve(session)
    assert [row["why"] for row in session.rows[1:]] == ["no proposal: every episode of the minibatch was perfect"] * 2
    assert len(session.played) == 3


def test_a_won_game_without_a_fault_is_as_good_as_the_tasks_own_solution(wordle: Wordle) -> None:
    problem = wordle.problems("train")[0]
    episode = wordle.start(problem)
    possible = next(word for word in wordle.words.secrets if word != problem.secret)
    verdicts = [episode.step(f"<think></think><guess>{guess}</guess>") for guess in (possible, problem.secret)]
    assert sum(map(wordle.score, verdicts)) == pytest.approx(own_score(wordle, problem), abs=1e-9)


def test_no_episode_scores_below_the_bound(wordle: Wordle, gsm: GsmSynth) -> None:
    for task in (wordle, gsm):
        for action in ("", "#### x", "<think></think><guess>zzzzz</guess>"):
            episode = task.start(task.problems("train")[0])
            score = 0.0
            while not episode.done:
                score += task.score(episode.step(action))
            assert score >= worst_score(task)


def test_the_frontier_of_components_keeps_who_is_best_at_one_of_them(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fronts = {}
    for frontier in ("instance", "objective", "hybrid"):
        session = scripted(untrained, gsm, tmp_path, 2, seed=0.3, checked=0.9)
        untrained.instructions = ""
        answers = session.answers

        def spoiled(problems: Any, *rest: Any, answers: Any = answers) -> list[Rollout]:
            """The seed is best in format, and worse in sum, on every problem."""
            rollouts: list[Rollout] = answers(problems, *rest)
            if CHECK in untrained.instructions:
                return rollouts
            for rollout in rollouts:
                verdict = rollout.turns[0].verdict
                rewards = {**verdict.rewards, "format": 1.5, "steps": -1.0}
                rollout.turns[0] = replace(rollout.turns[0], verdict=replace(verdict, rewards=rewards))
            return rollouts

        monkeypatch.setattr(session, "answers", spoiled)
        improve(session, frontier=frontier)
        assert session.rows[1]["kept"]
        assert session.rows[0]["reward/format"] == 1.5
        fronts[frontier] = [row["frontier"] for row in session.rows]
    assert fronts == {"instance": [False, True], "objective": [True, True], "hybrid": [True, True]}


class Two(Rules):
    """Proposes now one sentence, now the other, and both for the seed alone."""

    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        if parts[CHECK] or parts[WRITE]:
            raise Refused("only the seed has children here")
        self.tried["seed"] += 1
        sentence = (CHECK, WRITE)[self.tried["seed"] % 2]
        return {sentence: sentence}


def test_two_candidates_are_merged_into_one_with_the_sentences_of_both(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solves(place: float, text: str) -> bool:
        """Each sentence is good for two problems in five, and bad for the fifth, which the seed alone solves."""
        if place < 0.2:
            return CHECK not in text and WRITE not in text
        return (CHECK if place < 0.6 else WRITE) in text

    monkeypatch.setattr("algorithms.gepa.Rules", Two)
    for merge in (True, False):
        untrained.instructions = ""
        session = Scripted(untrained, gsm, tmp_path, 20, solves=solves)
        improve(session, merge=merge, valset_size=60)
        assert {CHECK in untrained.instructions, WRITE in untrained.instructions} == (
            {True} if merge else {True, False}
        )
        merged = [row for row in session.rows if row["kind"] == "merge"]
        assert bool(merged) == merge
        for row in merged:
            assert {CHECK in row["text"], WRITE in row["text"]} == {True}
            assert len(set(row["parents"])) == 2
            assert row["kept"]


class Stubborn(Reflector):
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        return {"instructions": CHECK}


def test_instructions_that_are_a_candidate_already_are_not_played_again(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algorithms.gepa.build_reflector", lambda *_: Stubborn())
    session = scripted(untrained, gsm, tmp_path, 5, seed=0.2, checked=0.7)
    improve(session)
    assert [row["kept"] for row in session.rows] == [True, True, False, False, False]
    assert {row["why"] for row in session.rows[2:]} == {"the proposal is a candidate already"}
    assert [len(ids) for _, ids in session.played] == [12, 8, 8, 12, 8, 8, 8]


class Refusing(Reflector):
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        raise Refused("out of ideas")


class Overlong(Reflector):
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        return {"instructions": "x" * 2001}


class Broken(Reflector):
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        raise KeyError("a bug")


@pytest.mark.parametrize(("reflector", "why"), [(Refusing, "out of ideas"), (Overlong, "2001 characters, more than")])
def test_a_refused_proposal_is_on_record_and_the_run_goes_on(
    untrained: LanguageModel,
    gsm: GsmSynth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reflector: type[Reflector],
    why: str,
) -> None:
    monkeypatch.setattr("algorithms.gepa.build_reflector", lambda *_: reflector())
    session = scripted(untrained, gsm, tmp_path, 4, seed=0.5, checked=0.5)
    improve(session)
    assert len(session.steps) == 4
    assert all(why in row["why"] and row["text"] is None and not row["kept"] for row in session.rows[1:])
    assert untrained.instructions == gsm.instructions


def test_a_bug_in_a_reflector_is_no_refusal(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algorithms.gepa.build_reflector", lambda *_: Broken())
    with pytest.raises(KeyError, match="a bug"):
        improve(scripted(untrained, gsm, tmp_path, 4, seed=0.5, checked=0.5))


def test_a_failing_environment_ends_the_run(
    untrained: LanguageModel, gsm: GsmSynth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = scripted(untrained, gsm, tmp_path, 4, seed=0.5, checked=0.5)

    def fail(*_: Any) -> list[Rollout]:
        if len(session.played) > 2:
            raise RuntimeError("no more")
        return Scripted.answers(session, *_)

    monkeypatch.setattr(session, "answers", fail)
    with pytest.raises(RuntimeError, match="no more"):
        improve(session)


def test_twenty_proposals_fit_into_the_quick_budget_whatever_becomes_of_them(tiny: LanguageModel) -> None:
    """By the formula, for games in which every action is as long as may be and every proposal plays the valset."""
    task, config = Wordle(WordleConfig(max_action_tokens=72)), GEPAConfig()
    budget = OmegaConf.load(CONF / "budget" / "quick.yaml").flops
    advised = " ".join([task.instructions, *task.sentences[:4]])
    prompt = len(tiny.chat.prompt(advised, task.start(task.problems("train")[0]).messages))
    said = task.max_turns * 40
    written = task.max_turns * tiny.action_limit(task)
    longest = tiny.shape.forward(prompt + said + written, heads=written)
    rollouts = config.valset_size + 20 * (2 * config.minibatch_size + config.valset_size)
    assert rollouts * longest <= budget


def test_too_few_train_problems_are_named(untrained: LanguageModel, wordle: Wordle, tmp_path: Path) -> None:
    many = len(wordle.problems("train"))
    with pytest.raises(BadInput, match=rf"valset_size={many} and algo.minibatch_size=8 need {many + 8} train problems"):
        improve(Watched(untrained, wordle, tmp_path, updates=1), valset_size=many)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reflector": "magic"}, "algo.reflector=magic: use one of rules, policy, endpoint"),
        ({"frontier": "cartesian"}, "algo.frontier=cartesian: use one of instance"),
        ({"valset_size": 0}, "valset_size=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0 must be above 0"),
        ({"merge": True, "reflector": "policy"}, "algo.merge needs algo.reflector=rules"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        GEPAConfig(**settings)


def test_an_endpoint_without_its_key_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(BadInput, match="NO_SUCH_KEY"):
        GEPA(GEPAConfig(reflector="endpoint", endpoint=EndpointConfig(model="m", key_variable="NO_SUCH_KEY")))


def test_it_needs_no_more_memory_than_playing_since_nothing_is_kept_for_a_gradient(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    import torch

    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    task = GsmSynth(GsmSynthConfig(max_action_tokens=24))
    tiny.instructions = task.instructions
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        GEPA(GEPAConfig(**SMALL)).improve(tiny, task, StubSession(tiny, task, tmp_path, updates=3))
        assert not kept
        assert all(parameter.grad is None for parameter in tiny.model.parameters())
        tiny.model(torch.tensor([[1, 2, 3]]))
    assert kept, "a pass with gradients is seen by this test"
