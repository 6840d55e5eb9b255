"""Who scores on a task without being able to do it: players that know no model, and what each of them gets.

A benchmark that pays for quitting, for copying the prompt or for naming every answer measures that. `check` holds a
task to rules; the audit shows the scores, for a task of one's own or somebody else's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.config.evaluate import spread
from benchmarks.config.plugins import load
from benchmarks.config.schema import as_dataclass, chosen_plugin, compose_config
from tasks.api import Message, Problem, Task, Verdict
from tasks.errors import require

ANSWERS = 20
"""Answers that `names_many` names at once."""
TOLERANCE = 1e-9
LUCK = 0.25
"""Share of problems that a player with other problems' answers may solve by chance."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a player can see before an action."""

    task: Task
    problem: Problem
    others: Sequence[Problem]
    """Other problems of the split."""
    messages: Sequence[Message]
    turn: int
    rng: random.Random

    def oracle(self, problem: Problem) -> str:
        """The oracle's action of this turn, or its last one."""
        actions = self.task.oracle(problem)
        return actions[min(self.turn, len(actions) - 1)]


def names_many(seat: Seat) -> str:
    """The right answer, somewhere among those of other problems."""
    chosen = [*seat.rng.sample(seat.others, min(ANSWERS, len(seat.others))), seat.problem]
    seat.rng.shuffle(chosen)
    return "\n".join(seat.oracle(problem) for problem in chosen)


PLAYERS: dict[str, tuple[str, Callable[[Seat], str], float]] = {
    "oracle": ("the task's own solution", lambda seat: seat.oracle(seat.problem), 1.0),
    "guesses": ("the oracle's action of another problem", lambda seat: seat.oracle(seat.rng.choice(seat.others)), LUCK),
    "names many": (f"the right action among {ANSWERS} others", names_many, LUCK),
    "quits": ("nothing at all", lambda seat: "", 0.0),
    "refuses": ("a sentence without an answer", lambda seat: "I do not know.", 0.0),
    "copies": ("the last message of the chat", lambda seat: seat.messages[-1]["content"], 0.0),
    "recites": ("the task's instructions", lambda seat: seat.task.instructions, 0.0),
}
"""By name: what the player writes, how, and the largest share of problems that it may solve."""


@dataclass(frozen=True, slots=True)
class PlayerScore:
    """Means over problems."""

    solved: float
    score: float
    turns: float


def audit(task: Task, count: int, seed: int = 0) -> dict[str, PlayerScore]:
    """Have every player play `count` train problems.

    Raises:
        BadInput: there are fewer than two train problems.
    """
    problems = spread(task.problems("train"), count)
    require(len(problems) >= 2, f"{task.name} has {len(problems)} train problems; the audit needs 2 at least")
    found = {}
    for name, (_, act, _) in PLAYERS.items():
        rng = random.Random(f"{seed} {name}")
        played = []
        for place, problem in enumerate(problems):
            episode = task.start(problem)
            verdicts: list[Verdict] = []
            while not episode.done:
                others = [*problems[:place], *problems[place + 1 :]]
                verdicts.append(episode.step(act(Seat(task, problem, others, episode.messages, len(verdicts), rng))))
            played.append((float(verdicts[-1].solved), sum(map(task.score, verdicts)), float(len(verdicts))))
        found[name] = PlayerScore(*(sum(column) / len(played) for column in zip(*played, strict=True)))
    return found


def faults(found: Mapping[str, PlayerScore]) -> list[str]:
    """What should not be, in sentences."""
    best = found["oracle"]
    problems = [] if best.solved == 1 else [f"the oracle solves {best.solved:.0%} of the problems"]
    for name, player in found.items():
        about, _, allowed = PLAYERS[name]
        if player.solved > allowed:
            problems.append(f"{name} ({about}) solves {player.solved:.0%}; {allowed:.0%} would be chance")
        if name != "oracle" and player.score >= best.score - TOLERANCE:
            problems.append(f"{name} ({about}) scores {player.score:.3f}, and the oracle {best.score:.3f}")
    return problems


def audit_words(words: Sequence[str], count: int, say: Callable[[str], object]) -> int:
    """Audit the task that the words name, and say what every player got.

    Returns:
        Exit code: 0, or 1 where a player scores as it should not.

    Raises:
        BadInput: no task is named, or it cannot be made.
    """
    for word in words:
        require(word.startswith(("task=", "task.")), f"{word}: audit takes task=NAME and task.KEY=VALUE")
    require(any(word.startswith("task=") for word in words), "which task? Add task=NAME; `list` shows the names")
    config = compose_config(list(words))
    task_class: type[Any] = load(chosen_plugin(config, "task"))
    found = audit(task_class(as_dataclass(config.task)), count)
    say(f"{'player':12}{'solved':>8}{'score':>9}{'turns':>7}  writes")
    for name, player in found.items():
        say(f"{name:12}{player.solved:>8.1%}{player.score:>9.3f}{player.turns:>7.1f}  {PLAYERS[name][0]}")
    problems = faults(found)
    for problem in problems:
        say(f"BROKEN  {problem}")
    return int(bool(problems))
