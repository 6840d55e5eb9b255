"""An algorithm that costs nothing and goes on until it is stopped: what sweeps are made of that are broken off."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.api import Algorithm, Session
from tasks.api import Task

if TYPE_CHECKING:
    from policies.language_model import LanguageModel


@dataclass(kw_only=True)
class IdleConfig:
    """Its settings."""

    name: str = "idle"
    deaf: bool = False
    """Whether it hears no SIGTERM, as in the middle of a long call of torch."""


class Idle(Algorithm):
    """Updates that change nothing, twenty a second."""

    Config = IdleConfig

    def improve(self, policy: LanguageModel, task: Task, session: Session) -> None:
        if self.config.deaf:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        session.resumable(lambda: {}, weights=False)
        while session.open():
            time.sleep(0.05)
            session.step({})
