"""Resuming a deterministic search by giving it the same answers again."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Sequence
from typing import Any


def digest(*parts: Any) -> str:
    """A short name for a question that the engine asks."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class ReplayLog:
    """What gepa's engine was answered in a run that was interrupted, in order.

    The engine's own state would be a pickle. But it is deterministic: a new engine that is given the same answers comes
    to the same state, and nothing is played, or charged, again.

    Args:
        log: pairs of a question (its `digest`) and what was answered.
    """

    def __init__(self, log: Sequence[Any]) -> None:
        self._answers = deque(log)

    def __bool__(self) -> bool:
        return bool(self._answers)

    def recall(self, asked: str) -> Any:
        """The answer to a question; None after the last one.

        Raises:
            RuntimeError: another question was asked in its place: the engine took another way.
        """
        if not self._answers:
            return None
        question, answer = self._answers.popleft()
        if question != asked:
            raise RuntimeError(
                "gepa cannot resume: its engine does not ask what it asked before; force=true starts afresh"
            )
        return answer
