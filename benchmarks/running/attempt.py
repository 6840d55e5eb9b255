"""How an attempt at a run begins and ends in the record: what it resumes from, and why it ended early."""

from __future__ import annotations

import contextlib
import errno
import traceback
from typing import TYPE_CHECKING, Any

from benchmarks.records.record import Record
from benchmarks.records.redaction import redact
from benchmarks.resume.interruption import ignore_interruptions, unstoppable
from benchmarks.running.distributed import reason
from benchmarks.running.out_of_memory import is_out_of_memory, smaller
from benchmarks.running.progress import Progress
from benchmarks.running.session import RunSession
from policies import ranks
from tasks.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from benchmarks.config.schema import RunConfig

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def known(record: Record) -> dict[str, Any]:
    """The manifest of the attempts before; empty where it cannot be read."""
    try:
        about = record.read_json("manifest.json")
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def update_manifest(record: Record, fresh: dict[str, Any], updates: int | None) -> dict[str, Any]:
    """The manifest of a run: as it is now, or as it was when it began with what is different now under `resumed`.

    Args:
        record: of the run.
        fresh: the manifest, as if it began now.
        updates: after which it resumes; None if it begins now.

    Raises:
        BadInput: it began with other weights, so that what is saved is no use.
    """
    if updates is None:
        return fresh
    first = known(record) or fresh
    if first.get("policy_state") != fresh["policy_state"]:
        raise BadInput(f"{record.name} began with other weights than the policy has now; force=true starts it afresh")
    halvings = {"out_of_memory": fresh["out_of_memory"]} if fresh.get("out_of_memory") else {}
    always = ("started", "command")
    here = {key: value for key, value in fresh.items() if key in always or first.get(key) != value}
    here = {"after_update": updates, **{key: value for key, value in here.items() if key not in halvings}}
    return {**first, **halvings, "resumed": [*first.get("resumed", []), here]}


def say_where(progress: Progress, session: RunSession) -> None:
    """Say what the run resumes from, and what could not be used."""
    for damage in session.saving.damage:
        progress.say(f"not used: {damage}")
    if session.saving.resumed_after:
        progress.say(f"resumed after update {session.saving.resumed_after}")


def ended(
    config: RunConfig, record: Record, session: RunSession | None, fresh: dict[str, Any], caught: BaseException
) -> str:
    """What to do about an attempt that ended early.

    Args:
        config: of the attempt.
        record: of the run.
        session: of the attempt, if it came so far.
        fresh: the manifest, which names the next attempt's micro-batches where there is one.
        caught: what ended it.

    Returns:
        What to tell the user before the next attempt.

    Raises:
        BaseException: why the run ends, after it was put on record.
    """
    if ranks.count() > 1:
        ignore_interruptions()  # The launcher sends them as soon as it sees one process end.
    error = reason(caught)
    size = smaller(config) if is_out_of_memory(error) else None
    if size is None:
        with unstoppable():
            message = end(record, session, error)
        raise message from error
    halving = {"after_update": len(session.ledger.rows) if session else 0, "micro_batch_size": size}
    fresh["out_of_memory"] = [*fresh.get("out_of_memory", []), halving]
    return f"out of memory; again with algo.micro_batch_size={size}"


def end(record: Record, session: RunSession | None, error: BaseException) -> BaseException:
    """Put an early end on record. A full disk may prevent that: the record then says `running` and can be resumed.

    Returns:
        What is to be raised.
    """
    interrupted = isinstance(error, KeyboardInterrupt)
    if is_out_of_memory(error):
        left = session.saving.left() if session else "nothing was done yet"
        hint = "lower algo.micro_batch_size, or say budget.on_oom=halve"
        error = RunFailed(
            f"out of memory: {(str(error).splitlines() or ['no more is known'])[0][:200]}; {hint}; {left}"
        )
    elif isinstance(error, OSError) and (error.errno in DISK_FULL or not record.folder.is_dir()):
        left = session.saving.left() if session else "nothing was done yet"
        error = RunFailed(f"{record.folder}: {error.strerror}; {left}")
    reason = f"{error}\n" if isinstance(error, RunFailed) else "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        if not interrupted:
            record.write("error.txt", redact(reason).encode(errors="backslashreplace"))
        if session is not None:
            session.save()
    with contextlib.suppress(OSError):
        record.write_status("interrupted" if interrupted else "failed")
    return error
