"""The rules for tasks: episodes played by the oracle, by the oracles of other problems, and with junk."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.checking.findings import Finding, Notes
from benchmarks.config.plugins import import_file
from benchmarks.running.evaluation import spread
from tasks.api import SPLITS, FeedbackLevel, Message, Problem, Task, Verdict
from tasks.errors import BadInput

LOOKED_AT = 24
"""Problems that are played with wrong actions."""
JUNK = (
    "", " ", "\n\n", "\0", "a", "I do not know.", "\u2063\ufffd\U0001f40d", "\ud800", "#### ", "#### nan",
    "#### 1e999999", "#### 1/0", "9" * 5000, "((((((((((1+", "1=" * 2000, "<think>" * 500,
    "<think></think><guess></guess>",
    "<guess>zzzzz</guess>", "</s><|end|><|user|>", "{}%s%n{0.__class__}", "a" * 20_000, "(" * 3000 + ")" * 3000,
)  # fmt: skip
"""Texts that nobody should have to think of."""
SLOW_S = 2.0
TOLERANCE = 1e-9
LEAKING = 0.25
"""Share of the problems whose feedback may hold a word of the answer by chance (say, a small number)."""


@dataclass(frozen=True, slots=True)
class Played:
    """One episode: what was done, what was said of it, and how it ended."""

    actions: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    messages: tuple[Message, ...]
    knowledge: str
    done: bool

    @property
    def solved(self) -> bool:
        return bool(self.verdicts) and self.verdicts[-1].solved


def play_findings(found: type[Any], config: Any) -> list[Finding]:
    """Play a task and say which rules it breaks."""
    if "feedback" in {field.name for field in fields(config)}:
        config = replace(config, feedback=FeedbackLevel.diagnostic)
    notes, task = Notes(), found(config)
    with guarded("shape", notes):
        check_shape(task, notes)
    with guarded("splits", notes):
        check_splits(task, notes)
    if notes.findings:  # the rest would stumble over these
        return notes.findings
    with guarded("stable", notes):
        check_stable(found, config, task, notes)
    with guarded("oracle", notes):
        check_oracle(task, notes)
    check_junk(task, notes)
    with guarded("junk", notes):
        check_episodes(task, notes)
    return notes.findings


@contextmanager
def guarded(rule: str, notes: Notes) -> Iterator[None]:
    """What a stranger's task raises is a finding, and no end of the check."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        notes.add(rule, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def check_shape(task: Task, notes: Notes) -> None:
    """Look at what a task states of itself."""
    for name in ("max_turns", "max_action_tokens"):
        value = getattr(task, name, None)
        if not (isinstance(value, int) and value >= 1):
            notes.add("shape", f"{name} is {value!r}; it must be a whole number, 1 or more")
    if not isinstance(getattr(task, "instructions", None), str):
        notes.add("shape", "instructions must be a text")
    names = [component.name for component in getattr(task, "components", ())]
    if not names or len(set(names)) < len(names):
        notes.add("shape", f"components are {names}; there must be one at least, and each name once")
    for component in getattr(task, "components", ()):
        if not -math.inf < component.low <= component.high < math.inf:
            notes.add("shape", f"component {component.name} has the range {component.low} to {component.high}")


def check_splits(task: Task, notes: Notes) -> None:
    """No id twice, no problem under another split, no problem that is the same as one of another split."""
    ids: dict[str, str] = {}
    contents: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        problems = task.problems(split)
        if not problems:
            notes.add("splits", f"there are no {split} problems")
        for problem in problems:
            if problem.split != split:
                notes.add("splits", f"{problem.id} is listed under {split} and says {problem.split}")
            if problem.id in ids:
                notes.add("splits", f"the id {problem.id} is there twice ({ids[problem.id]}, {split})")
            ids[problem.id] = split
            content = repr((task.start(problem).messages, task.oracle(problem)))
            other, where = contents.setdefault(content, (problem.id, split))
            if where != split:
                notes.add("splits", f"{problem.id} ({split}) asks and answers the same as {other} ({where})")


def check_stable(found: type[Any], config: Any, task: Task, notes: Notes) -> None:
    """Make the task again, here and in a process with another PYTHONHASHSEED."""
    if listed(found(config)) != listed(task):
        notes.add("stable", "made twice, it has other problems or another order")
        return
    try:
        made = pickle.dumps((found, config))
    except (pickle.PicklingError, AttributeError) as error:
        raise BadInput(f"{found.__name__}: define the task at the top level of a module: {error}") from None
    module = sys.modules[found.__module__]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
    }
    code = f"from benchmarks.checking.task_checks import main; main({module.__name__!r}, {module.__file__!r})"
    done = subprocess.run([sys.executable, "-c", code], input=made, capture_output=True, env=environment)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        notes.add("stable", f"in a second process it cannot be made: {reason}")
    elif done.stdout.decode().strip() != listed(task):
        notes.add("stable", "another process has other problems or another order: is there a set, or hash(), in it?")


def main(module: str, file: str) -> None:
    """In the second process: make the task that comes over stdin and print what it lists."""
    if module.startswith("grpo_bench_file_"):
        import_file(Path(file))
    found, config = pickle.load(sys.stdin.buffer)
    print(listed(found(config)))


def listed(task: Task) -> str:
    """Hash of everything that a task asks, in its order."""
    digest = hashlib.sha256(task.fingerprint().encode())
    for split in SPLITS:
        for problem in task.problems(split):
            digest.update(
                f"{problem.id} {task.start(problem).messages} {task.oracle(problem)}".encode(errors="replace")
            )
    return digest.hexdigest()


def check_oracle(task: Task, notes: Notes) -> None:
    """Every problem's oracle solves it, within the turns, with rewards in their ranges."""
    for split in SPLITS:
        for problem in task.problems(split):
            actions = task.oracle(problem)
            played = play(task, problem, actions)
            check_verdicts(task, played, notes)
            if not (played.solved and played.done and len(played.verdicts) == len(actions)):
                notes.add("oracle", f"{problem.id}: {str(actions)[:80]} does not solve it")


def check_episodes(task: Task, notes: Notes) -> None:
    """Play some problems with right and wrong actions."""
    for split in SPLITS:
        problems = spread(task.problems(split), LOOKED_AT // 3)
        leaks: list[str] = []
        for problem in problems:
            attempts = list(wrong(task, problem, problems))
            for actions in (task.oracle(problem), *attempts):
                played = play(task, problem, actions)
                if play(task, problem, actions) != played:
                    notes.add("deterministic", f"{problem.id}: {str(actions)[:80]} was judged in two ways")
                check_verdicts(task, played, notes)
                check_messages(played, problem, notes)
            leaks += leaked(task, problem, problems, attempts)
            check_ending(task, problem, attempts, notes)
        if len(leaks) > max(1.0, LEAKING * len(problems)):
            notes.add("feedback", f"it holds the answer in {len(leaks)} of {len(problems)} problems, as in: {leaks[0]}")


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


def check_verdicts(task: Task, played: Played, notes: Notes) -> None:
    """Ranges of rewards, spans and metrics."""
    ranges = {component.name: component for component in task.components}
    for action, verdict in zip(played.actions, played.verdicts, strict=False):
        if set(verdict.rewards) != set(ranges):
            notes.add("ranges", f"rewards are {sorted(verdict.rewards)}, components are {sorted(ranges)}")
            continue
        for name, reward in verdict.rewards.items():
            if not ranges[name].low - TOLERANCE <= reward <= ranges[name].high + TOLERANCE:
                low, high = ranges[name].low, ranges[name].high
                notes.add("ranges", f"{name} is {reward:g} for {action[:40]!r}; its range is {low:g} to {high:g}")
        for name, (start, end) in verdict.spans.items():
            if name not in ranges or not 0 <= start <= end <= len(action):
                notes.add("ranges", f"the span {name} {start}:{end} does not fit {action[:40]!r}")
        for name, value in verdict.metrics.items():
            if not -TOLERANCE <= value <= 1 + TOLERANCE:
                notes.add("ranges", f"the metric {name} is {value:g}; metrics of a verdict are from 0 to 1")


def check_messages(played: Played, problem: Problem, notes: Notes) -> None:
    """Who speaks, and that feedback stays out of the chat."""
    roles = [message["role"] for message in played.messages]
    if "system" in roles or not roles or roles[0] != "user" or (not played.done and roles[-1] != "user"):
        notes.add("shape", f"{problem.id}: the chat's roles are {roles}; it starts with user, and so does every turn")
    shown = "\n".join(message["content"] for message in played.messages if message["role"] == "user")
    for verdict in played.verdicts:
        if len(verdict.feedback) >= 8 and verdict.feedback in shown:
            notes.add("feedback", f"{problem.id}: the chat shows the feedback {verdict.feedback[:60]!r}")


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


def check_ending(task: Task, problem: Problem, attempts: Sequence[list[str]], notes: Notes) -> None:
    """Solving at once scores best; an episode that ends unsolved before its turns are over scores least."""

    def total(played: Played) -> float:
        return sum(task.score(verdict) for verdict in played.verdicts)

    oracle = task.oracle(problem)
    best = total(play(task, problem, oracle))
    lost = [play(task, problem, actions) for actions in attempts]
    for played in lost:
        if total(played) >= best - TOLERANCE:
            action = str(list(played.actions))[:60]
            notes.add("ending", f"{problem.id}: {action} loses and scores {total(played):g}, solving scores {best:g}")
        later = play(task, problem, [*played.actions[:1], *oracle])
        if later.solved and total(later) > best + TOLERANCE:
            notes.add("ending", f"{problem.id}: solving a turn later scores {total(later):g}, at once {best:g}")
        for longer in lost:
            if len(played.verdicts) < len(longer.verdicts) and total(played) > total(longer) + TOLERANCE:
                notes.add(
                    "ending",
                    f"{problem.id}: giving up after {len(played.verdicts)} turns scores {total(played):g}, "
                    f"playing {len(longer.verdicts)} scores {total(longer):g}",
                )


def check_junk(task: Task, notes: Notes) -> None:
    """Any text is a legal action: it costs the turn and nothing else."""
    for problem in spread(task.problems("train"), 3):
        texts = [*JUNK, *broken(task.oracle(problem))]
        for text in texts:
            began = time.perf_counter()
            try:
                played = play(task, problem, [text] * task.max_turns)
            except Exception as error:  # whatever it is: it must not come out of an episode
                notes.add("junk", f"{text[:30]!r} raises {type(error).__name__}: {' '.join(str(error).split())[:100]}")
                continue
            seconds = time.perf_counter() - began
            check_verdicts(task, played, notes)
            if seconds > SLOW_S * task.max_turns:
                notes.add("junk", f"{text[:30]!r} ({len(text)} characters) takes {seconds:.1f} s")
                return  # or the check would take as long as the task
            if text in JUNK and played.solved:
                notes.add("junk", f"{text[:30]!r} solves {problem.id}")
            if not played.done:
                notes.add("shape", f"{problem.id}: after {task.max_turns} turns (max_turns) the episode goes on")


def broken(oracle: Sequence[str]) -> list[str]:
    """A right action, spoilt in the ways of language models: cut off, doubled, in capitals, inside out."""
    action = oracle[-1]
    edits: tuple[Callable[[str], str], ...] = (
        lambda text: text[: len(text) // 2],
        lambda text: text + text,
        str.upper,
        lambda text: text[::-1],
        lambda text: text.replace("#", "").replace("<", ""),
    )
    return [edit(action) for edit in edits]
