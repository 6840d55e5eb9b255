"""The rules for episodes: played by the oracle, by the oracles of other problems, and with junk."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.checking.rules import Violations
from benchmarks.config.evaluate import spread
from tasks.api import SPLITS, Message, Problem, Task, Verdict

LOOKED_AT = 24
"""Problems that are played with wrong actions."""
JUNK = (
    "", " ", "\n\n", "\0", "a", "I do not know.", "\u2063\ufffd\U0001f40d", "\ud800", "#### ", "#### nan",
    "#### 1e999999", "#### 1/0", "9" * 5000, "((((((((((1+", "1=" * 2000, "<think>" * 500,
    "<think></think><guess></guess>",
    "<guess>zzzzz</guess>", "</s><|end|><|user|>", "{}%s%n{0.__class__}", "a" * 20_000, "(" * 3000 + ")" * 3000,
)  # fmt: skip
"""Texts that no task may fail on."""
SLOW_S = 2.0
TOLERANCE = 1e-9
LEAKING = 0.25
"""Share of the problems whose feedback may hold a word of the answer by chance (say, a small number)."""


@dataclass(frozen=True, slots=True)
class Played:
    """One finished or unfinished episode."""

    actions: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    messages: tuple[Message, ...]
    knowledge: str
    done: bool

    @property
    def solved(self) -> bool:
        return bool(self.verdicts) and self.verdicts[-1].solved


def check_oracle(task: Task, violations: Violations) -> None:
    """Every problem's oracle solves it, within the turns, with rewards in their ranges."""
    for split in SPLITS:
        for problem in task.problems(split):
            actions = task.oracle(problem)
            played = play(task, problem, actions)
            check_verdicts(task, played, violations)
            if not (played.solved and played.done and len(played.verdicts) == len(actions)):
                violations.add("oracle", f"{problem.id}: {str(actions)[:80]} does not solve it")


def check_episodes(task: Task, violations: Violations) -> None:
    """Play some problems with right and wrong actions."""
    for split in SPLITS:
        problems = spread(task.problems(split), LOOKED_AT // 3)
        leaks: list[str] = []
        for problem in problems:
            attempts = list(wrong(task, problem, problems))
            for actions in (task.oracle(problem), *attempts):
                played = play(task, problem, actions)
                if play(task, problem, actions) != played:
                    violations.add("deterministic", f"{problem.id}: {str(actions)[:80]} was judged in two ways")
                check_verdicts(task, played, violations)
                check_messages(played, problem, violations)
            leaks += leaked(task, problem, problems, attempts)
            check_ending(task, problem, attempts, violations)
        if len(leaks) > max(1.0, LEAKING * len(problems)):
            violations.add(
                "feedback", f"it holds the answer in {len(leaks)} of {len(problems)} problems, as in: {leaks[0]}"
            )


def wrong(task: Task, problem: Problem, problems: Sequence[Problem]) -> Iterator[list[str]]:
    """Actions that do not solve a problem: a few oracles of others, junk, and mixtures; as long as an episode lasts."""
    own = task.oracle(problem)
    others = [oracle for other in problems if (oracle := task.oracle(other)) != own]
    for actions in (*others[:3], ["I do not know."], [""], [others[-1][-1], ""] if others else [""]):
        repeated = (actions * task.max_turns)[: task.max_turns]
        if not play(task, problem, repeated).solved:
            yield repeated


def play(task: Task, problem: Problem, actions: Sequence[str]) -> Played:
    """Play actions until they, or the episode, end."""
    episode = task.start(problem)
    verdicts: list[Verdict] = []
    knowledge = [repr(episode.knowledge())]
    for action in actions:
        if episode.done:
            break
        verdicts.append(episode.step(action))
        knowledge.append(repr(episode.knowledge()))
    return Played(tuple(actions), tuple(verdicts), tuple(episode.messages), str(knowledge), episode.done)


def check_verdicts(task: Task, played: Played, violations: Violations) -> None:
    """Ranges of rewards, spans and metrics."""
    ranges = {component.name: component for component in task.components}
    for action, verdict in zip(played.actions, played.verdicts, strict=False):
        if set(verdict.rewards) != set(ranges):
            violations.add("ranges", f"rewards are {sorted(verdict.rewards)}, components are {sorted(ranges)}")
            continue
        for name, reward in verdict.rewards.items():
            if not ranges[name].low - TOLERANCE <= reward <= ranges[name].high + TOLERANCE:
                low, high = ranges[name].low, ranges[name].high
                violations.add("ranges", f"{name} is {reward:g} for {action[:40]!r}; its range is {low:g} to {high:g}")
        for name, (start, end) in verdict.spans.items():
            if name not in ranges or not 0 <= start <= end <= len(action):
                violations.add("ranges", f"the span {name} {start}:{end} does not fit {action[:40]!r}")
        for name, value in verdict.metrics.items():
            if not -TOLERANCE <= value <= 1 + TOLERANCE:
                violations.add("ranges", f"the metric {name} is {value:g}; metrics of a verdict are from 0 to 1")


def check_messages(played: Played, problem: Problem, violations: Violations) -> None:
    """The chat's roles, and that it does not show feedback."""
    roles = [message["role"] for message in played.messages]
    if "system" in roles or not roles or roles[0] != "user" or (not played.done and roles[-1] != "user"):
        violations.add(
            "shape", f"{problem.id}: the chat's roles are {roles}; it starts with user, and so does every turn"
        )
    shown = "\n".join(message["content"] for message in played.messages if message["role"] == "user")
    for verdict in played.verdicts:
        if len(verdict.feedback) >= 8 and verdict.feedback in shown:
            violations.add("feedback", f"{problem.id}: the chat shows the feedback {verdict.feedback[:60]!r}")


def leaked(task: Task, problem: Problem, problems: Sequence[Problem], attempts: Sequence[list[str]]) -> list[str]:
    """Feedback on wrong actions that holds the answer, which neither the chat nor the actions do; one at most."""
    answer = answer_of(task, problem, problems)
    if not answer:
        return []
    word = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
    for actions in attempts:
        played = play(task, problem, actions)
        known = "\n".join([message["content"] for message in played.messages] + list(actions))
        for verdict in played.verdicts:
            if word.search(verdict.feedback) and not word.search(known):
                return [f"{problem.id}: {verdict.feedback[:80]!r}"]
    return []


def answer_of(task: Task, problem: Problem, problems: Sequence[Problem]) -> str:
    """The last word of the oracle's last action, or of its shortest span, that is not in every oracle's."""
    own = task.oracle(problem)
    everywhere = set.intersection(*(set(re.findall(r"\w+", task.oracle(other)[-1])) for other in problems))
    played = play(task, problem, own)
    spans = [own[-1][start:end] for start, end in played.verdicts[-1].spans.values() if start < end]
    words = [word for word in re.findall(r"\w+", min(spans, key=len, default=own[-1])) if word not in everywhere]
    return words[-1] if words else ""


def check_ending(task: Task, problem: Problem, attempts: Sequence[list[str]], violations: Violations) -> None:
    """Solving at once scores best; an episode that ends unsolved before its turns are over scores least."""

    def total(played: Played) -> float:
        return sum(task.score(verdict) for verdict in played.verdicts)

    oracle = task.oracle(problem)
    best = total(play(task, problem, oracle))
    lost = [play(task, problem, actions) for actions in attempts]
    for played in lost:
        if total(played) >= best - TOLERANCE:
            action = str(list(played.actions))[:60]
            violations.add(
                "ending", f"{problem.id}: {action} loses and scores {total(played):g}, solving scores {best:g}"
            )
        later = play(task, problem, [*played.actions[:1], *oracle])
        if later.solved and total(later) > best + TOLERANCE:
            violations.add("ending", f"{problem.id}: solving a turn later scores {total(later):g}, at once {best:g}")
        for longer in lost:
            if len(played.verdicts) < len(longer.verdicts) and total(played) > total(longer) + TOLERANCE:
                violations.add(
                    "ending",
                    f"{problem.id}: giving up after {len(played.verdicts)} turns scores {total(played):g}, "
                    f"playing {len(longer.verdicts)} scores {total(longer):g}",
                )


def check_junk(task: Task, violations: Violations) -> None:
    """Any text is a legal action: it costs the turn and nothing else."""
    for problem in spread(task.problems("train"), 3):
        for text in (*JUNK, *damaged(task.oracle(problem))):
            began = time.perf_counter()
            try:
                played = play(task, problem, [text] * task.max_turns)
            except Exception as error:  # whatever it is: it must not come out of an episode
                violations.add(
                    "junk", f"{text[:30]!r} raises {type(error).__name__}: {' '.join(str(error).split())[:100]}"
                )
                continue
            seconds = time.perf_counter() - began
            check_verdicts(task, played, violations)
            if seconds > SLOW_S * task.max_turns:
                violations.add("junk", f"{text[:30]!r} ({len(text)} characters) takes {seconds:.1f} s")
                return  # or the check would take as long as the task
            if text in JUNK and played.solved:
                violations.add("junk", f"{text[:30]!r} solves {problem.id}")
            if not played.done:
                violations.add("shape", f"{problem.id}: after {task.max_turns} turns (max_turns) the episode goes on")


def damaged(oracle: Sequence[str]) -> list[str]:
    """A right action, damaged as language models do: cut off, doubled, in capitals, reversed, without marks."""
    text = oracle[-1]
    unmarked = text.replace("#", "").replace("<", "")
    return [text[: len(text) // 2], text + text, text.upper(), text[::-1], unmarked]
