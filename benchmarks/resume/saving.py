"""What of a session is saved after an update, so that another process can go on from there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.resume.state import Saved, StateStore, pack, unpack
from policies import ranks
from tasks.errors import RunFailed

if TYPE_CHECKING:
    from algorithms.api import State
    from policies.language_model import LanguageModel

WEIGHTS = "weights/"
ALGORITHM = "algorithm"


class Session(Protocol):
    """What of a session is saved."""

    policy: LanguageModel
    ledger: Any
    curve: list[dict[str, float | None]]
    log: list[Any]
    plays: int
    next_checkpoint: int
    rng: random.Random


class Saving:
    """Saves one session.

    Args:
        session: whose state it is.
        states: where to; None saves nothing.
        every_s: least seconds between two states; 0 saves after every update.
    """

    def __init__(self, session: Session, states: StateStore | None, every_s: float) -> None:
        self.session, self.states, self.every_s = session, states, every_s
        self.saved = saved = states.newest() if states else None
        self.damage = list(states.damage) if states else []
        self.resumed_after = saved.updates if saved else None
        """Updates that an earlier process made; None in a run that starts."""
        self._ask: Callable[[], State | None] | None = None
        self._weights = True
        self._pending: list[dict[str, Any]] = []
        self._logged = 0
        self._when = float("-inf")
        self._last = saved.updates if saved else 0
        if saved:
            self._take_back(saved)

    def _take_back(self, saved: Saved) -> None:
        session, about = self.session, saved.about
        session.ledger.restore(about["ledger"], [entry["row"] for entry in saved.log])
        session.curve = about["curve"]
        session.log = [each for entry in saved.log for each in entry["log"]]
        session.plays, session.next_checkpoint = about["plays"], about["next_checkpoint"]
        version, numbers, gauss = about["rng"]
        session.rng.setstate((version, tuple(numbers), gauss))
        self._logged = len(session.log)

    def resumable(self, ask: Callable[[], State | None], weights: bool) -> State | None:
        """See `algorithms.api.Session`."""
        from policies.weights import put_weights

        self._ask, self._weights = ask, weights
        saved, self.saved = self.saved, None
        if saved is None or not saved.updates:
            return None
        if weights:
            found = {name: tensor for name, tensor in saved.tensors.items() if name.startswith(WEIGHTS)}
            put_weights(self.session.policy, {name.removeprefix(WEIGHTS): each for name, each in found.items()})
        self.session.policy.instructions = saved.about["instructions"]
        state: State = unpack(saved.about[ALGORITHM], saved.tensors)
        return state

    def update_done(self, *, last: bool) -> None:
        """An update is done: save it, unless the last state is younger than `every_s` and more updates follow.

        Raises:
            RunFailed: the weights are not finite, or the disk is full or refuses; older states are as they were.
        """
        if self.states is None or self._ask is None:
            return
        log = self.session.log
        self._pending.append({"row": self.session.ledger.rows[-1], "log": log[self._logged :]})
        self._logged = len(log)
        if ranks.first(last or time.monotonic() - self._when >= self.every_s):
            state = self._ask()
            if state is not None:
                self.save(state)

    def save(self, state: State | None = None) -> None:
        """Save the session, and what the algorithm says of itself (None before its first update)."""
        from policies.weights import all_finite, trained_weights

        if self.states is None:
            return
        session, updates = self.session, len(self.session.ledger.rows)
        tensors = {}
        if state is not None and self._weights:
            weights = trained_weights(session.policy)
            if not all_finite(weights):
                raise RunFailed(f"the weights hold NaN or infinity after update {updates}; {self.left()}")
            tensors = {WEIGHTS + name: tensor for name, tensor in weights.items()}
        about = {
            "ledger": session.ledger.state(),
            "curve": session.curve,
            "plays": session.plays,
            "next_checkpoint": session.next_checkpoint,
            "rng": session.rng.getstate(),
            "instructions": session.policy.instructions,
            ALGORITHM: pack(state, tensors, ALGORITHM),
        }
        try:
            self.states.save(updates, about, tensors, self._pending)
        except OSError as error:
            raise RunFailed(f"update {updates} cannot be saved: {error.strerror or error}; {self.left()}") from None
        self._pending, self._when, self._last = [], time.monotonic(), updates

    def left(self) -> str:
        """What a run that ends here leaves, for a message."""
        return f"the state after update {self._last} is kept, and the same command goes on from it"
