"""Continuous batching: no step is spent on a finished action, no token is read twice.

Every sequence has a slot of the KV cache, kept over its turns. Slots are kept in this order:

    writing     one token each per step
    reading     fed and waiting: what was said to them is read in one pass as soon as they are enough to be worth it
    parents     forked, kept until the last fork has its copy

An action that ends leaves the first part, so that a step runs over a whole prefix of the cache and nothing else. Places
left free go to sequences that have not begun. What all that begin together begin with, their instructions say, is read
once, and so is a prompt that several of them have; the cache is copied.

Every sequence draws from a random stream of its own, so what it becomes does not depend on which others run beside it.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from policies.api import Sampling
from policies.decoder import build_decoder
from policies.sampler import Action, check_room, draw, learned_positions

READ_AT = 0.25
"""Share of the running sequences that must wait before they are read; all of them where none writes."""
WORTH_COPYING = 512
"""Tokens that must be saved for what prompts begin with to be read in a pass of its own."""
PLACES_PER_PASS = 16_384
"""Tokens, paddings included, of one reading pass; a matter of memory only."""


@dataclass(slots=True, eq=False)
class Row:
    """One sequence."""

    key: int
    chances: random.Random
    block: list[int]
    """What it has yet to read."""
    length: int = 0
    """Tokens in the cache."""
    slot: int = -1
    """Where they are; -1 where nothing is."""
    ids: list[int] = field(default_factory=list)
    """The action so far; its last token is not in the cache yet."""
    logprobs: list[float] = field(default_factory=list)
    hidden: torch.Tensor | None = None
    parent: Row | None = None
    """Whose cache it takes a copy of."""
    pending_forks: int = 0
    """Forks that have no copy yet."""

    @property
    def end(self) -> int:
        """Tokens in the cache once the block is read."""
        return self.length + len(self.block)


class BatchedSampler:
    """See `policies.sampler.Sampler`."""

    def __init__(
        self,
        model: Any,
        *,
        pad: int,
        ends: Sequence[int],
        limit: int,
        sampling: Sampling,
        seed: int,
        first: int = 0,
    ) -> None:
        self.decoder = build_decoder(model)
        self.device, self.positions = model.device, learned_positions(model)
        self.pad, self.ends, self.limit, self.sampling, self.seed = pad, frozenset(ends), limit, sampling, seed
        self.keys = itertools.count(first)
        self.queue: deque[Row] = deque()
        self.writing: list[Row] = []
        self.reading: list[Row] = []
        self.parents: list[Row] = []
        self.yielded: Row | None = None

    # What the sampler's user calls.

    def add(self, ids: list[int]) -> int:
        row = self._row(list(ids))
        self.queue.append(row)
        return row.key

    def feed(self, key: int, ids: list[int]) -> None:
        row = self._take(key)
        row.block, row.ids, row.logprobs = [row.ids[-1], *ids], [], []
        self.reading.append(row)

    def fork(self, key: int, blocks: Sequence[list[int]]) -> list[int]:
        parent = self._take(key)
        children = [self._row([parent.ids[-1], *block], parent) for block in blocks]
        parent.pending_forks = len(children)
        self.parents.append(parent)
        # In front of all that waits: trees grow depth first, so that few of them are open at a time.
        self.queue.extendleft(reversed(children))
        return [child.key for child in children]

    def actions(self) -> Iterator[Action]:
        while True:
            self._enter()
            running = len(self.reading) + len(self.writing)
            if self.reading and (not self.writing or len(self.reading) >= READ_AT * running):
                ended = self._read()
            elif self.writing:
                ended = self._write()
            else:
                return
            for row in ended:
                self.yielded = row
                logprobs = row.logprobs if self.sampling.logprobs else None
                yield Action(row.key, row.ids, logprobs, row.hidden)
            self.yielded = None

    # How it works.

    def _row(self, block: list[int], parent: Row | None = None) -> Row:
        key = next(self.keys)
        return Row(key, random.Random(f"{self.seed} {key}"), block, parent.length if parent else 0, parent=parent)

    def _take(self, key: int) -> Row:
        row, self.yielded = self.yielded, None
        if row is None or row.key != key:
            raise ValueError(f"sequence {key} has no action that was just yielded")
        return row

    def _enter(self) -> None:
        """Let waiting sequences in while there is room."""
        while self.queue and len(self.reading) + len(self.writing) < self.sampling.batch_size:
            row = self.queue.popleft()
            if row.parent is not None:
                row.parent.pending_forks -= 1
                if row.parent.pending_forks == 0:
                    # The last one needs no copy.
                    self.parents.remove(row.parent)
                    row.slot, row.parent = row.parent.slot, None
            self.reading.append(row)

    def _arrange(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Give every sequence a slot in its part, moving as few caches as possible.

        Returns:
            Those that wait to read, in the order of their slots: the ones that have begun, the first of each prompt,
            and the others with the same prompts.
        """
        begun = [row for row in self.reading if row.length]
        fresh = [row for row in self.reading if not row.length]
        first = list({tuple(row.block): row for row in reversed(fresh)}.values())
        again = [row for row in fresh if row not in first]
        sources, targets, length, start = [], [], 0, 0
        for part in (self.writing, begun, first, again, self.parents):
            end = start + len(part)
            staying = {row.slot for row in part if start <= row.slot < end}
            free = (place for place in range(start, end) if place not in staying)
            for row in part:
                if start <= row.slot < end:
                    continue
                source, row.slot = (row.parent.slot if row.parent else row.slot), next(free)
                row.parent = None
                if row.length:
                    sources.append(source)
                    targets.append(row.slot)
                    length = max(length, row.length)
            part.sort(key=lambda row: row.slot)
            start = end
        self.decoder.slots.fit(start, length)
        if sources:
            self.decoder.slots.move(sources, targets, length)
        return begun, first, again

    @torch.no_grad()
    def _read(self) -> list[Row]:
        """Read what waits and draw first tokens; returns the actions that ended with them."""
        begun, first, again = self._arrange()
        drawn = [(rows, *self._pass(rows)) for rows in passes(begun)]
        if first:
            self._read_beginning(first, again)
            found = [self._pass(rows) for rows in passes(first)]
            hidden, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
            source = {tuple(row.block): number for number, row in enumerate(first)}
            which = [source[tuple(row.block)] for row in again]
            if again:
                slots, length = [first[number].slot for number in which], max(row.end for row in again)
                self.decoder.slots.move(slots, [row.slot for row in again], length)
            index = torch.tensor([*range(len(first)), *which], device=self.device)
            drawn.append((first + again, hidden[index], logits[index]))
        self.writing, self.reading = self.writing + begun + first + again, []
        ended: list[Row] = []
        for rows, hidden, logits in drawn:
            for number, row in enumerate(rows):
                row.length = row.end
                row.hidden = hidden[number].float() if self.sampling.hidden else None
            ended += self._draw(rows, logits)
        return ended

    def _read_beginning(self, first: Sequence[Row], again: Sequence[Row]) -> None:
        """Read what all these prompts begin with, once, where that is worth it; each row keeps the rest to read."""
        blocks = [row.block for row in first]
        least, most = min(blocks), max(blocks)
        alike = next((place for place, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
        alike = min(alike, *(len(block) - 1 for block in blocks))
        if alike * (len(first) - 1) < WORTH_COPYING:
            return
        self.decoder.slots.fit(0, max(row.end for row in first) + self.limit)
        reader = replace(first[0], block=blocks[0][:alike])
        self._pass([reader])
        others = [row.slot for row in first[1:]]
        self.decoder.slots.move([reader.slot] * len(others), others, alike)
        for row in (*first, *again):
            row.block, row.length = row.block[alike:], alike

    def _pass(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the blocks of rows that lie side by side; the state and the logits after each."""
        width = max(len(row.block) for row in rows)
        length = max(row.length for row in rows) + width
        check_room(max(row.end for row in rows) + self.limit, self.positions)
        self.decoder.slots.fit(0, length + self.limit)
        ids = torch.tensor([row.block + [self.pad] * (width - len(row.block)) for row in rows], device=self.device)
        begin = torch.tensor([row.length for row in rows], device=self.device)
        last = torch.tensor([len(row.block) - 1 for row in rows], device=self.device)
        places = begin[:, None] + torch.arange(width, device=self.device)
        return self.decoder.forward(ids, places, last, rows[0].slot, length)

    @torch.no_grad()
    def _write(self) -> list[Row]:
        """One token more for every row that writes; returns the actions that ended with it."""
        self._arrange()
        rows = self.writing
        length = max(row.length for row in rows) + 1
        self.decoder.slots.fit(0, length)
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=self.device)
        places = torch.tensor([[row.length] for row in rows], device=self.device)
        _, logits = self.decoder.forward(ids, places, torch.zeros_like(places[:, 0]), 0, length)
        for row in rows:
            row.length += 1
        return self._draw(rows, logits)

    def _draw(self, rows: Sequence[Row], logits: torch.Tensor) -> list[Row]:
        """Append a token to each row's action; returns the rows whose action ended, which no longer write."""
        chances = torch.tensor([row.chances.random() for row in rows], dtype=torch.float64)
        tokens = draw(logits, self.sampling, chances)
        if self.sampling.logprobs:
            each = (logits / (self.sampling.temperature or 1.0)).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
            for row, logprob in zip(rows, each.tolist(), strict=True):
                row.logprobs.append(logprob)
        ended = []
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.ids.append(token)
            if token in self.ends or len(row.ids) == self.limit:
                ended.append(row)
        if ended:
            over = {row.key for row in ended}
            self.writing = [row for row in self.writing if row.key not in over]
        return ended


def passes(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows side by side, as many as one pass may read."""
    chosen: list[Row] = []
    width = 0
    for row in rows:
        width = max(width, len(row.block))
        if chosen and (len(chosen) + 1) * width > PLACES_PER_PASS:
            yield chosen
            chosen, width = [], len(row.block)
        chosen.append(row)
    if chosen:
        yield chosen
