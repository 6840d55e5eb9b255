"""What of a session is saved after an update, so that another process can resume from there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.records.reading import is_number
from benchmarks.resume.state import Saved, StateStore, pack, unpack
from policies import ranks
from tasks.errors import RunFailed, require

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
        self._logged = 0
        self.saved = saved = states.newest(self._restore) if states else None
        self.damage = list(states.damage) if states else []
        self.resumed_after = saved.updates if saved else None
        """Updates that an earlier process made; None in a run that starts."""
        self._ask: Callable[[], State | None] | None = None
        self._weights = True
        self._pending: list[dict[str, Any]] = []
        self._when = float("-inf")
        self._last = saved.updates if saved else 0

    def _restore(self, saved: Saved) -> None:
        """Take a saved session over, all of it or, where something is not as `save` writes it, nothing.

        Raises:
            Exception: something is not; states come from disks, and from others.
        """
        session, about = self.session, saved.about
        rows, log = [entry["row"] for entry in saved.log], [each for entry in saved.log for each in entry["log"]]
        curve, counts = about["curve"], (about["plays"], about["next_checkpoint"])
        if not all(type(count) is int and count >= 0 for count in counts) or len(rows) != saved.updates:
            raise ValueError("its counters are not what they can be")
        ledger = {name: dict(about["ledger"][name]) for name in ("totals", "booked")}
        costs = [value for table in ledger.values() for value in table.values()]
        points = [value for point in curve for value in point.values() if value is not None]
        if not all(map(is_number, [*costs, *points])):
            raise ValueError("its costs or its curve hold what is no finite number")
        if not all(value is None or isinstance(value, int | float) for row in rows for value in row.values()):
            raise ValueError("its ledger holds what is no number")
        if not isinstance(about["instructions"], str):
            raise TypeError("its instructions are no text")
        version, numbers, gauss = about["rng"]
        random.Random().setstate((version, tuple(numbers), gauss))
        session.rng.setstate((version, tuple(numbers), gauss))
        session.ledger.restore(ledger, rows)
        session.curve, session.log = curve, log
        session.plays, session.next_checkpoint = counts
        self._logged = len(log)

    def resumable(self, ask: Callable[[], State | None], weights: bool) -> State | None:
        """See `algorithms.api.Session`."""
        from policies.weights import all_finite, put_weights

        self._ask, self._weights = ask, weights
        saved, self.saved = self.saved, None
        if saved is None or not saved.updates:
            return None
        if weights:
            named = {name: tensor for name, tensor in saved.tensors.items() if name.startswith(WEIGHTS)}
            found = {name.removeprefix(WEIGHTS): tensor for name, tensor in named.items()}
            try:
                require(all_finite(found), "they hold NaN or infinity")
                put_weights(self.session.policy, found)
            except ValueError as error:
                unfit = f"the weights saved after update {saved.updates} cannot be used ({error})"
                raise RunFailed(f"{unfit}; force=true makes the run again from its start") from None
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
        if self.states is not None and not self.states.folder.is_dir():
            return "no state is kept"
        return f"the state after update {self._last} is kept, and the same command resumes from it"
