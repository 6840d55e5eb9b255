"""Warm starts: supervised fine-tuning before any algorithm begins, made once and shared by all runs that ask for it.

A warm start is a folder that `load_policy` reads like any other, in `.warmstarts` beside the records. Its name is a
hash of all that decides what is in it: the base policy's files, the transcripts, the instructions, the settings, the
libraries. `warmstart.json` holds the hash of every other file, and one that is not whole is made again. What it cost
stands there too, and is booked to the phase `warmstart` of every run that starts from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.records.disk import open_file, remove_folder, replace_file, settle_files, sync_folder
from benchmarks.records.reading import is_number
from benchmarks.running.ledger import METERED, Ledger
from policies import ranks
from policies.source import Source, fingerprint
from tasks.api import Message, Task
from tasks.errors import BadInput, require
from tasks.files import read_file

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig

FOLDER, ABOUT = ".warmstarts", "warmstart.json"
LARGEST_ABOUT = 2**20
LIBRARIES = ("torch", "transformers", "trl", "peft")
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A finished warm start."""

    source: Source
    costs: dict[str, float]
    """What making it took: amounts, and seconds and joules where they were measured."""
    made: bool
    """Whether it was made just now."""
    state: str = ""
    """Hash of its weights."""


def transcripts(task: Task, count: int, seed: int) -> list[list[Message]]:
    """Chats of train problems well played, in shuffled passes over them."""
    rng = random.Random(f"warm start {seed}")
    chats: list[list[Message]] = []
    while len(chats) < count:
        deck = list(task.problems("train"))
        rng.shuffle(deck)
        chats += [task.demonstration(problem, rng) for problem in deck[: count - len(chats)]]
    return chats


def key_of(config: RunConfig, source: Source, task: Task, chats: Sequence[list[Message]]) -> str:
    """A hash of all that decides what comes of a warm start."""
    from benchmarks.running.manifest import package_version

    assert config.warmstart is not None
    settings = {key: value for key, value in asdict(config.warmstart).items() if key not in ("name", "charge")}
    about = {
        "policy": fingerprint(source),
        "where": [config.policy.device, config.policy.dtype, config.policy.threads, config.policy.max_action_tokens],
        "task": [task.instructions, task.max_action_tokens],
        "chats": chats,
        "settings": settings,
        "libraries": {name: package_version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def find_or_make(config: RunConfig, source: Source, task: Task, say: Say) -> WarmStart:
    """The warm start of a run: the one that is there and whole, or a new one. Who asks while another makes it, waits.

    Raises:
        BadInput: the policy cannot be loaded, or may not write as long actions as the transcripts have; several
            processes would make it; or a link is where it would be.
    """
    from filelock import FileLock

    assert config.warmstart is not None
    chats = transcripts(task, config.warmstart.transcripts, config.warmstart.seed)
    folder = config.results.folder / FOLDER / key_of(config, source, task, chats)
    lock = folder.with_suffix(".lock")
    for path in (folder.parent, lock):
        require(not path.is_symlink(), f"{path}: is a symbolic link, and is not written to; remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        about = whole(folder)
        if made := about is None:
            only_one = (
                f"warmstart=sft: {folder.name} is to be made by one process; run +algo=base with one, then resume"
            )
            require(ranks.count() == 1, f"{only_one} with {ranks.count()}")
            if os.path.lexists(folder):
                say(f"warm start {folder.name}: not whole, and made again")
            unfinished = folder.with_suffix(".unfinished")
            remove_folder(unfinished)
            about = _make(config, source, task, chats, unfinished, say)
            settle_files(unfinished)
            about["sha256"] = _hashes(unfinished)
            replace_file(unfinished / ABOUT, (json.dumps(about, indent=2, allow_nan=False) + "\n").encode())
            remove_folder(folder)
            unfinished.rename(folder)
            sync_folder(folder.parent)
    assert about is not None
    if not made:
        say(f"warm start {folder.name}: found, {_summary(about)}")
    weights = sorted((file, hash_) for file, hash_ in about["sha256"].items() if file.endswith(".safetensors"))
    state = hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:16]
    label = f"{source.label}, warm-started ({folder.name})"
    return WarmStart(Source(str(folder), None, label), about["costs"], made, state)


def whole(folder: Path) -> dict[str, Any] | None:
    """What `warmstart.json` says; None where a file is gone, new, another than when it was made, or a link."""
    try:
        if folder.is_symlink():
            return None
        about = json.loads(read_file(folder / ABOUT, LARGEST_ABOUT, follow=False))
        numbers = [*about["costs"].values(), *(about[name] for name in ("lessons", "first_loss", "last_loss"))]
        sound = about["sha256"] == _hashes(folder) and all(map(is_number, numbers))
        known = {*METERED, "trained_tokens", "flops"} >= about["costs"].keys() >= {"flops", "wall_s"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return about if sound and known else None


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but `warmstart.json`.

    Raises:
        OSError: one of them is a link, or no regular file.
    """
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != ABOUT and not path.name.startswith("."):
            with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
                found[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _make(
    config: RunConfig, source: Source, task: Task, chats: Sequence[list[Message]], folder: Path, say: Say
) -> dict[str, Any]:
    """Fine-tune the policy on the transcripts and save it. Returns what that took."""
    from benchmarks.running.machine import meters
    from benchmarks.running.preflight import refuse_unfit_warm_start
    from policies.adapter import AdapterConfig
    from policies.imitation import encode, fitting, imitate
    from policies.language_model import load_policy

    warm = config.warmstart
    assert warm is not None
    if not source.gguf:  # a GGUF takes seconds to read, and those we know are small
        refuse_unfit_warm_start(config, source, task)
    adapter = None if warm.lora_rank is None else AdapterConfig(rank=warm.lora_rank, alpha=2 * warm.lora_rank)
    policy = load_policy(config.policy, source, adapter, warm.seed)
    policy.instructions = policy.instructions or task.instructions
    lessons = fitting([encode(policy, chat) for chat in chats], policy.action_limit(task))
    left_out = len(chats) - len(lessons)
    say(
        f"warm start {folder.stem}: imitating {len(lessons)} transcripts of {task.name}"
        + (f" ({left_out} left out: an action longer than {policy.action_limit(task)} tokens)" if left_out else "")
    )
    clock = Ledger(meters=meters(policy.device))
    with clock.phase("warmstart"):
        found = imitate(policy, lessons, warm)
    if adapter is not None:
        policy.model = policy.model.float().merge_and_unload()
    policy.save(folder)
    clock.charge("warmstart", {name: found[name] for name in ("trained_tokens", "flops")})
    costs = {name: value for name, value in clock.by_phase()["warmstart"].items() if value is not None}
    about = {
        "policy": source.label,
        "task": task.name,
        "lessons": len(lessons),
        "left_out": left_out,
        "first_loss": found["first_loss"],
        "last_loss": found["last_loss"],
        "costs": {name: value for name, value in costs.items() if name in (*METERED, "trained_tokens", "flops")},
    }
    say(f"warm start {folder.stem}: {_summary(about)}")
    return about


def _summary(about: dict[str, Any]) -> str:
    return (
        f"{about['lessons']} transcripts, loss per token {about['first_loss']:.3f} to {about['last_loss']:.3f}, "
        f"{about['costs']['flops']:.1e} FLOPs, {about['costs']['wall_s']:.0f} s"
    )


def book(config: RunConfig, warm: WarmStart, ledger: Ledger, *, resumed: bool) -> None:
    """Book a warm start's cost; against the budget where the configuration says so.

    Args:
        config: of the run.
        warm: what it starts from.
        ledger: of the run.
        resumed: whether the run resumes, and the cost stands in what was taken back of its ledger.

    Raises:
        BadInput: it is charged, and leaves nothing of the budget.
    """
    assert config.warmstart is not None
    if not resumed:
        ledger.inherit("warmstart", warm.costs, out_of="load" if warm.made else None)
    if not config.warmstart.charge:
        return
    ledger.charged = ("warmstart",)
    if resumed:
        return
    share, limit = config.budget.share(ledger.spent())
    if share >= 1:
        spent, allowed = ledger.spent()[limit] or 0.0, config.budget.limits()[limit]
        raise BadInput(
            f"warmstart.charge=true: the warm start took {spent:.3g} {limit} and the budget is {allowed:.3g}; "
            f"raise budget.{limit}, or use warmstart.charge=false"
        )
