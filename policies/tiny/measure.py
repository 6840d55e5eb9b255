"""What tiny can do, and what moves it: `python -m policies.tiny.measure` prints the figures of its card.

temperatures   solved at each sampling temperature, and the form; nothing is trained
advice         solved under each sentence alone, under those that help, and under all
feedback       which of the clues that a guess broke the next guess respects: those that feedback named, and those
               that it did not; how often it breaks none, after its own lines, another secret's, and none
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig
from policies.tiny.tokenizer import RETRY
from tasks.api import Task
from tasks.gsm_fields import GsmFields, GsmFieldsConfig
from tasks.gsm_synth import GsmSynth, GsmSynthConfig
from tasks.gsm_turns import GsmTurns, GsmTurnsConfig
from tasks.wordle import Wordle, WordleConfig, WordleEpisode, read_action
from tasks.wordle_turn import WordleTurn

TEMPERATURES = (1.0, 0.7, 0.5, 0.3, 0.0)
ADVISED = ("wordle", "wordle_turn", "gsm_synth")


def tasks() -> dict[str, Task]:
    """The tasks that tiny speaks."""
    found: list[Task] = [Wordle(WordleConfig()), WordleTurn(WordleConfig()), GsmSynth(GsmSynthConfig())]
    found += [GsmFields(GsmFieldsConfig()), GsmTurns(GsmTurnsConfig())]
    return {task.name: task for task in found}


def solved(
    policy: LanguageModel, task: Task, advice: Sequence[str], temperature: float, samples: int
) -> dict[str, float]:
    """The task's metrics on the test problems under the seed instructions and some advice."""
    policy.instructions = " ".join([task.instructions, *advice])
    rollouts, _ = policy.play(
        task, task.problems("test"), samples if temperature else 1, Sampling(temperature=temperature), seed=1
    )
    rows = [task.metrics(rollout.verdicts) for rollout in rollouts]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def helping(task: Task) -> list[str]:
    """The sentences that speak to a fault."""
    return list(dict.fromkeys(several[0] for several in task.advice.values()))


@dataclass(frozen=True, slots=True)
class Fault:
    """A guess that broke two clues or more, and where it was made."""

    prompt: list[int]
    """Token ids of the game up to where the guess was written."""
    attempt: list[int]
    episode: WordleEpisode
    """The game before the guess."""
    lines: list[str]
    """What is to be said of it."""
    secret: str


def faults(policy: LanguageModel, task: Wordle, rollouts: Sequence[Rollout]) -> list[Fault]:
    """The guesses of some games that broke two clues or more."""
    found = []
    for rollout in rollouts:
        episode = task.start(rollout.problem)
        for turn in rollout.turns:
            guess = read_action(turn.action).guess
            lines = episode.clues.judge(guess)[1] if guess else []
            if len(lines) >= 2:
                fresh = task.start(rollout.problem)
                for earlier in rollout.turns[: rollout.turns.index(turn)]:
                    fresh.step(earlier.action)
                prompt = rollout.prompt_ids + rollout.completion_ids[: turn.start]
                attempt = rollout.completion_ids[turn.start : turn.end]
                found.append(Fault(prompt, attempt, fresh, lines, rollout.problem.id))
            episode.step(turn.action)
    return found


def retried(policy: LanguageModel, task: Task, found: Sequence[Fault], said: Sequence[Sequence[str]]) -> list[str]:
    """The guess that follows each fault after some lines; '' where none can be read."""
    contexts = []
    for fault, lines in zip(found, said, strict=True):
        ended = fault.attempt[-1] == policy.tokenizer.eos_token_id
        words = policy.chat.after_action({"role": "user", "content": "\n".join(lines)}, ended=ended)
        contexts.append(fault.prompt + fault.attempt + words)
    actions, _ = policy.sample(contexts, policy.action_limit(task), Sampling(), seed=2)
    return [read_action(policy.chat.text(action)).guess for action in actions]


def heard(policy: LanguageModel, task: Wordle, samples: int) -> dict[str, list[bool]]:
    """What feedback does to the guess that follows a faulty one, in games on the test secrets.

    Returns:
        Of feedback that names some of a guess's faults, for every fault whether the next guess mends it: `named` and
        `not named`. And for every guess whether the next one breaks no clue: after `nothing`, after its `own` faults,
        after those of `another` secret.
    """
    policy.instructions = task.instructions
    rollouts, _ = policy.play(task, task.problems("test"), samples, Sampling(), seed=3)
    found = faults(policy, task, rollouts)
    rng = random.Random(0)
    some = [rng.sample(fault.lines, rng.randint(1, len(fault.lines) - 1)) for fault in found]
    measured: dict[str, list[bool]] = {"named": [], "not named": []}
    for fault, named, guess in zip(found, some, retried(policy, task, found, some), strict=True):
        still = fault.episode.clues.judge(guess)[1] if guess else fault.lines
        for line in fault.lines:
            measured["named" if line in named else "not named"].append(line not in still)
    strangers = [[other for other in found if other.secret != fault.secret] for fault in found]
    said = {
        "nothing": [[RETRY]] * len(found),
        "own": [fault.lines for fault in found],
        "another": [rng.choice(others).lines for others in strangers],
    }
    for name, lines in said.items():
        guesses = retried(policy, task, found, lines)
        measured[name] = [
            bool(guess) and not fault.episode.clues.judge(guess)[1] for fault, guess in zip(found, guesses, strict=True)
        ]
    return measured


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--part", default="all", help="temperatures, advice, feedback or all")
    words = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_policy(PolicyConfig(name="tiny", path=str(words.weights), max_action_tokens=400, device="cpu"))
    known = tasks()
    if words.part in ("all", "temperatures"):
        for name, task in known.items():
            for temperature in TEMPERATURES:
                found = solved(policy, task, (), temperature, words.samples)
                shown = " ".join(f"{key} {value:.3f}" for key, value in found.items())
                print(f"{name} T={temperature:g}: {shown}", flush=True)
    if words.part in ("all", "advice"):
        for name in ADVISED:
            task = known[name]
            for temperature in TEMPERATURES:
                found = solved(policy, task, helping(task), temperature, words.samples)
                print(f"{name} T={temperature:g}, advice that helps: solved {found['solved']:.3f}", flush=True)
            base = solved(policy, task, (), 1.0, words.samples)["solved"]
            everything = solved(policy, task, task.sentences, 1.0, words.samples)["solved"]
            print(f"{name} T=1, all advice: solved {everything:.3f}", flush=True)
            for sentence in task.sentences:
                gain = solved(policy, task, [sentence], 1.0, words.samples)["solved"] - base
                print(f"{name} T=1, {sentence!r}: {100 * gain:+.1f} points", flush=True)
    if words.part in ("all", "feedback"):
        task = known["wordle"]
        assert isinstance(task, Wordle)
        for name, hits in heard(policy, task, words.samples).items():
            print(f"feedback, {name}: {100 * sum(hits) / len(hits):.1f}% of {len(hits)}")


if __name__ == "__main__":
    main()
