"""What gepa's engine calls: an adapter that plays candidates, asks the reflector and closes each iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from algorithms.api import Session
from algorithms.reflector import Reflector, Refused, check_text, join
from algorithms.replay_log import ReplayLog, digest
from policies.api import Rollout, Sampling
from tasks.api import Problem, Task

if TYPE_CHECKING:
    from gepa.core.adapter import EvaluationBatch
    from gepa.core.state import GEPAState

    from policies.language_model import LanguageModel

PROPOSALS = "proposals.parquet"
ROUNDING = 1e-6
"""By so much an episode's score may miss the perfect one: it is summed over turns."""


def worst_score(task: Task) -> float:
    """A bound that no episode's summed reward falls below."""
    return task.max_turns * sum(min(0.0, component.weight * component.low) for component in task.components)


def own_score(task: Task, problem: Problem) -> float:
    """The summed reward of the task's own solution."""
    episode = task.start(problem)
    return sum(task.score(episode.step(action)) for action in task.oracle(problem))


class Search:
    """What the engine calls: it plays candidates, asks the reflector, and closes each iteration with the session."""

    def __init__(
        self,
        reflector: Reflector,
        policy: LanguageModel,
        task: Task,
        session: Session,
        perfect: float,
        longest: int,
        temperature: float,
    ) -> None:
        self.reflector, self.longest = reflector, longest
        self.policy, self.task, self.session = policy, task, session
        self.sampling = Sampling(temperature=temperature)
        self.worst = worst_score(task)
        self.perfect = perfect - self.worst - ROUNDING
        self.rows: list[dict[str, Any]] = []
        self.refused = ""
        self.failure: Exception | None = None
        self.replay = ReplayLog([])

    def log(self, message: str) -> None:
        """The engine's messages are dropped: what matters is in `rows`."""

    def evaluate(
        self, batch: list[Problem], candidate: dict[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[Rollout, bool]:
        """Play problems under a candidate's instructions."""
        from gepa.core.adapter import EvaluationBatch

        self.policy.instructions = join(candidate)
        asked = digest("play", self.policy.instructions, [problem.id for problem in batch])
        rollouts: list[Rollout] = []
        played = self.replay.recall(asked)
        if played is None:
            rollouts = self.session.play(batch, 1, self.sampling)
            played = [
                [
                    rollout.solved,
                    self._score(rollout),
                    *(sum(verdict.rewards[c.name] for verdict in rollout.verdicts) for c in self.task.components),
                ]
                for rollout in rollouts
            ]
            self.session.log.append([asked, played])
        names = [component.name for component in self.task.components]
        return EvaluationBatch(
            outputs=[solved for solved, *_ in played],
            scores=[score for _, score, *_ in played],
            # Where an answer is recalled, so is what the reflector made of it: it asks for no episodes.
            trajectories=(rollouts or [None] * len(played)) if capture_traces else None,  # type: ignore[list-item]
            objective_scores=[dict(zip(names, rewards, strict=True)) for _, _, *rewards in played],
        )

    def _score(self, rollout: Rollout) -> float:
        return sum(self.task.score(verdict) for verdict in rollout.verdicts) - self.worst

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: EvaluationBatch[Rollout, bool], components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Rollout]]]:
        """The episodes that were not perfect, the worst first; the same for every part."""
        pairs = zip(eval_batch.scores, eval_batch.trajectories or (), strict=True)
        wrong = sorted((pair for pair in pairs if pair[0] < self.perfect), key=lambda pair: pair[0])
        return {part: [{"rollout": rollout} for _, rollout in wrong] for part in components_to_update}

    def propose_new_texts(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        """Ask the reflector; nothing where its proposal is refused."""
        failures = [record["rollout"] for record in reflective_dataset[components_to_update[0]]]
        asked = digest("propose", candidate)
        try:
            recalled = self.replay.recall(asked)
            if recalled is None:
                recalled = [self._ask(candidate, failures), self.refused]
                self.session.log.append([asked, recalled])
        except Exception as error:
            # The engine would log it, ask again and continue; `close_iteration` raises it.
            self.failure = error
            return {}
        texts, self.refused = recalled
        return dict(texts)

    def _ask(self, candidate: dict[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        try:
            with self.session.phase("reflect"):
                texts = self.reflector.propose(candidate, failures)
            text = join({**candidate, **texts})
            check_text(text, self.longest, self.policy.tokenizer.all_special_tokens)
            if any(row["kept"] and row["text"] == text for row in self.rows):
                raise Refused("the proposal is a candidate already")
        except Refused as refusal:
            self.refused = str(refusal)
            return {}
        return texts

    def close_iteration(self, gepa_state: GEPAState[bool, int]) -> bool:
        """The engine's stopper, asked after the seed's play of the valset and after every iteration.

        Returns:
            Whether to stop.
        """
        if self.failure is not None:
            raise self.failure
        state = gepa_state
        recalled = self.replay.recall("closed") is not None
        means = state.program_full_scores_val_set
        best = means.index(max(means))
        row = self._seed_row() if state.i < 0 else self._row(state.full_program_trace[-1], state)
        self.rows.append({"proposal": len(self.rows), "iteration": state.i + 1, **row})
        self.refused = ""
        self._mark(state, best)
        self.policy.instructions = join(state.program_candidates[best])
        if recalled and self.replay:
            return False
        self.session.keep(PROPOSALS, self.rows)
        if recalled:
            return not self.session.open()
        self.session.log.append(["closed", True])
        facts = {"reward": means[best] + self.worst, "candidates": float(len(means)), "kept": float(row["kept"])}
        self.session.step(facts)
        return not self.session.open()

    def _seed_row(self) -> dict[str, Any]:
        return {
            "kind": "seed",
            "parents": [],
            "kept": True,
            "why": "what the run started from",
            "candidate": 0,
            "text": self.policy.instructions,
        }

    def _row(self, trace: Mapping[str, Any], state: GEPAState[bool, int]) -> dict[str, Any]:
        """What became of an iteration's proposal. The last that was played is the proposal, where there is one."""
        number = trace.get("new_program_idx")
        merged = trace.get("new_program_subsample_scores")
        if merged is not None:
            *parents, _ = trace["merged_entities"]
            before: float | None = max(
                self._mean(trace["id1_subsample_scores"]), self._mean(trace["id2_subsample_scores"])
            )
            after: float | None = self._mean(merged)
            bar = "at least the better parent's on a few of the valset"
        else:
            parents, bar = [trace["selected_program_candidate"]], "above the parent's on the minibatch"
            scores = trace.get("new_subsample_scores")
            after = None if scores is None else self._mean(scores)
            before = None if scores is None else self._mean(trace["subsample_scores"])
        if after is None:
            why = self.refused or "no proposal: every episode of the minibatch was perfect"
        else:
            why = f"its score was {'' if number is not None else 'not '}{bar}"
        return {
            "kind": "reflection" if merged is None else "merge",
            "parents": parents,
            "kept": number is not None,
            "why": why,
            "candidate": number,
            "text": self.policy.instructions if after is not None else None,
            "minibatch_before": before,
            "minibatch_after": after,
        }

    def _mean(self, scores: Sequence[float]) -> float:
        return sum(scores) / len(scores) + self.worst

    def _mark(self, state: GEPAState[bool, int], best: int) -> None:
        """Write the valset's results to the rows of kept candidates, and who is on the frontier and best now."""
        front = set().union(*state.get_pareto_front_mapping().values())
        for row in self.rows:
            number = row["candidate"] if row["kept"] else None
            if number is None:
                continue
            row["score"] = state.program_full_scores_val_set[number] + self.worst
            for name, mean in state.prog_candidate_objective_scores[number].items():
                row[f"reward/{name}"] = mean
            row["frontier"], row["best"] = number in front, number == best
