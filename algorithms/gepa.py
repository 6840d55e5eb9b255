"""GEPA: reflective evolution of the instructions. The weights stay as they are.

Source: arXiv 2507.19457, as the authors' engine `gepa.optimize` (package gepa 0.1.4) runs it, behind our adapter.

    1. a parent, drawn from the candidates on the Pareto frontier of the valset (of its instances, of the means of the
       reward components, or of both), plays a minibatch
    2. a reflector (rules, policy or endpoint) reads the episodes that went wrong with their feedback, and proposes new
       instructions
    3. the child plays the same minibatch; where its scores sum to more than the parent's, it plays the whole valset and
       joins the candidates
    4. in the end the policy has the instructions of the candidate with the best mean score on the valset

A score is the episode's summed reward R_i, as grpo sees it, moved up by a constant so that the worst episode has 0: the
engine draws with scores as weights when it merges. An episode is perfect when it scores what the task's own best
solution scores.

Departures: the engine's trainset and valset are disjoint parts of the *train* problems, the valset first in the run's
order; actions are sampled and not greedy, so two plays of the same instructions differ, and instructions that are a
candidate already are not let in again: the luckiest of many copies would win; the engine stops when the run's
budget is spent, at the first end of an iteration after that. An update of the ledger is an iteration of the engine; the
first one is the seed candidate's play of the valset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from algorithms.api import Algorithm, Session
from algorithms.endpoint_reflector import EndpointConfig, EndpointReflector
from algorithms.gepa_search import Search, own_score
from algorithms.policy_reflector import PolicyReflector, ReflectionConfig
from algorithms.reflector import Reflector
from algorithms.replay_log import ReplayLog
from algorithms.rules_reflector import Rules
from tasks.api import Problem, Task
from tasks.errors import require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

FRONTIERS = ("instance", "objective", "hybrid")
REFLECTORS = ("rules", "policy", "endpoint")


@dataclass(kw_only=True)
class GEPAConfig:
    """Settings of gepa."""

    name: str = "gepa"
    reflector: str = "rules"
    """Who proposes: rules (the task's own advice against the most frequent fault; offline), policy (on itself) or
    endpoint (an OpenAI-compatible server)."""
    valset_size: int = 24
    """Train problems that every kept candidate plays; the minibatches come from the others."""
    minibatch_size: int = 6
    """Train problems that parent and child play before the child may play the valset."""
    frontier: str = "instance"
    """What parents are drawn from the frontier of: instance, objective (the reward components) or hybrid (both)."""
    merge: bool = False
    """Whether two candidates of the frontier may be merged; for reflector=rules only."""
    temperature: float = 1.0
    """Of the rollouts."""
    longest: int = 2000
    """Characters that instructions may have."""
    reflection: ReflectionConfig = field(default_factory=ReflectionConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    def __post_init__(self) -> None:
        require(self.reflector in REFLECTORS, f"algo.reflector={self.reflector}: use one of {', '.join(REFLECTORS)}")
        require(self.frontier in FRONTIERS, f"algo.frontier={self.frontier}: use one of {', '.join(FRONTIERS)}")
        for name in ("valset_size", "minibatch_size", "longest"):
            require(getattr(self, name) >= 1, f"algo.{name}={getattr(self, name)} must be at least 1")
        require(self.temperature > 0, f"algo.temperature={self.temperature:g} must be above 0")
        whole = "the other reflectors write the instructions as one text, and GEPA merges part by part"
        require(not self.merge or self.reflector == "rules", f"algo.merge needs algo.reflector=rules: {whole}")


class GEPA(Algorithm):
    """Reflective prompt evolution."""

    Config = GEPAConfig
    config: GEPAConfig
    trains_weights = False

    def __init__(self, config: GEPAConfig) -> None:
        super().__init__(config)
        if config.reflector == "endpoint":
            config.endpoint.key()

    @classmethod
    def asks_endpoint(cls, config: GEPAConfig) -> bool:
        """Whether the reflector is on another machine."""
        return config.reflector == "endpoint"

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        """Run the engine while there is budget, and leave the best candidate's instructions in the policy.

        Raises:
            BadInput: too few train problems, or the reflector lacks what it needs.
        """
        from gepa.api import optimize

        config = self.config
        valset, trainset = two_sets(task, session, config)
        reflector = build_reflector(config, policy, task, session)
        perfect = max(own_score(task, problem) for problem in trainset)
        seed_candidate = reflector.parts(policy.instructions)
        search = Search(reflector, policy, task, session, perfect, config.longest, config.temperature)
        saved = session.resumable(reflector.state, weights=False)
        if saved is not None:
            reflector.restore(saved)
            search.replay = ReplayLog(session.log)
        optimize(
            seed_candidate=seed_candidate,
            trainset=trainset,
            valset=valset,
            adapter=search,  # type: ignore[arg-type]
            frontier_type=config.frontier,  # type: ignore[arg-type]
            perfect_score=search.perfect,
            reflection_minibatch_size=config.minibatch_size,
            module_selector="all",
            use_merge=config.merge,
            stop_callbacks=search.close_iteration,
            logger=search,
            seed=session.seed,
        )


def two_sets(task: Task, session: Session, config: GEPAConfig) -> tuple[list[Problem], list[Problem]]:
    """The engine's valset and trainset: one shuffled pass over the train problems, cut in two.

    Raises:
        BadInput: the task has too few train problems.
    """
    count = len(task.problems("train"))
    deck = list({problem.id: problem for problem in islice(session.problems(), count)}.values())
    needed = config.valset_size + config.minibatch_size
    sizes = f"algo.valset_size={config.valset_size} and algo.minibatch_size={config.minibatch_size}"
    require(needed <= len(deck), f"{sizes} need {needed} train problems; task {task.name} has {len(deck)}")
    return deck[: config.valset_size], deck[config.valset_size :]


def build_reflector(config: GEPAConfig, policy: LanguageModel, task: Task, session: Session) -> Reflector:
    """The reflector that the configuration names.

    Raises:
        BadInput: it lacks what it needs.
    """
    if config.reflector == "rules":
        return Rules(task, session)
    if config.reflector == "policy":
        return PolicyReflector(config.reflection, policy, session)
    return EndpointReflector(config.reflection, config.endpoint, session)
