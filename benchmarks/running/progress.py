"""Showing a run while it runs: one live line in a terminal, plain lines elsewhere, and a tracker's copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from benchmarks.running.tracking import Tracker


class Progress:
    """What a run is doing: phase, cost against the budget, train reward, last evaluation, time left.

    Args:
        console: where to; its `is_terminal` decides between a live line and plain ones.
        title: the run's name.
        every_s: least time between two plain lines about updates.
    """

    def __init__(self, console: Console, title: str, every_s: float = 5.0) -> None:
        self.console, self.title, self.every_s = console, title, every_s
        self.live: Live | None = None
        self.now = "loading"
        self.share = 0.0
        self.update = 0
        self.reward: float | None = None
        self.solved: float | None = None
        self.tracker: Tracker | None = None
        self._said = 0.0

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live = Live(get_renderable=self._line, console=self.console, refresh_per_second=4, transient=True)
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.__exit__(kind, error, trace)
            self.live = None
        if self.tracker:
            self._track(self.tracker.close)

    def follow(self, tracker: Tracker | None) -> None:
        """Send a copy of what is shown to a tracker."""
        self.tracker = tracker

    def phase(self, name: str) -> None:
        """What is being done now."""
        self.now = name

    def step(self, update: int, share: float, spent: Mapping[str, float | None], metrics: Mapping[str, float]) -> None:
        """One update is done; `share` of the budget is spent."""
        self.update, self.share, self.seconds = update, share, spent["seconds"] or 0.0
        self.reward = metrics.get("reward", self.reward)
        self._copy("train", metrics, spent)
        if not self.live and time.monotonic() - self._said >= self.every_s:
            self._said = time.monotonic()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """A point of the learning curve."""
        self.solved = metrics["solved"]
        self._copy("val", metrics, {})
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "/" not in name)
        self.say(f"val after {self.share:4.0%} of the budget: {numbers}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(text), highlight=False, soft_wrap=True)

    def _copy(self, what: str, metrics: Mapping[str, float], spent: Mapping[str, float | None]) -> None:
        tracker = self.tracker
        if tracker:
            named = {f"{what}/{name}": value for name, value in metrics.items()}
            costs = {f"spent/{name}": value for name, value in spent.items()}
            self._track(lambda: tracker.log({**named, **costs}, self.update))

    def _track(self, send: Callable[[], None]) -> None:
        """A tracker that fails, a server's say, does not take the run with it."""
        name = self.tracker.name if self.tracker else ""
        try:
            send()
        except Exception as error:
            self.tracker = None
            self.say(f"tracking={name} failed and gets no more: {type(error).__name__}: {str(error)[:200]}")

    def _line(self) -> Text:
        parts = [f"{self.title}  {self.now}  update {self.update}  budget {min(self.share, 1):.0%}"]
        if self.reward is not None:
            parts.append(f"train reward {self.reward:+.3f}")
        if self.solved is not None:
            parts.append(f"val solved {self.solved:.1%}")
        if 0 < self.share < 1:
            parts.append(f"about {self.seconds * (1 - self.share) / self.share:.0f} s of improving left")
        return Text("  ".join(parts), no_wrap=True, overflow="ellipsis")
