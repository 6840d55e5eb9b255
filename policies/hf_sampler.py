"""The plain way to sample: transformers' `generate` on everything that waits, reading every sequence anew each turn.

Simple enough to be believed, so the other backend is tested against it. Its draws come from torch's global generator,
as in a training script of one's own: seeded alike, they are the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from policies.api import Sampling
from policies.devices import generator_states, kept_generators, put_generator_states
from policies.sampler import Action, check_room, learned_positions


class HFSampler:
    """See `policies.sampler.Sampler`."""

    def __init__(self, model: Any, *, pad: int, ends: Sequence[int], limit: int, sampling: Sampling, seed: int) -> None:
        self.model, self.pad, self.ends, self.limit, self.sampling = model, pad, list(ends), limit, sampling
        self.positions = learned_positions(model)
        self.keys = itertools.count()
        self.read: dict[int, list[int]] = {}
        """Every sequence so far, by its key."""
        self.waiting: list[int] = []
        with kept_generators(model.device):
            torch.manual_seed(seed)
            self.states = generator_states(model.device)

    def add(self, ids: list[int]) -> int:
        key = next(self.keys)
        self.read[key] = list(ids)
        self.waiting.append(key)
        return key

    def feed(self, key: int, ids: list[int]) -> None:
        self.read[key] = self.read[key] + ids
        self.waiting.append(key)

    def fork(self, key: int, blocks: Sequence[list[int]]) -> list[int]:
        return [self.add(self.read[key] + block) for block in blocks]

    def actions(self) -> Iterator[Action]:
        while self.waiting:
            keys, self.waiting = self.waiting[: self.sampling.batch_size], self.waiting[self.sampling.batch_size :]
            for action in self._generate(keys):
                self.read[action.key] += action.ids
                yield action
                if action.key not in self.waiting:
                    del self.read[action.key]

    @torch.no_grad()
    def _generate(self, keys: Sequence[int]) -> list[Action]:
        width = max(len(self.read[key]) for key in keys)
        check_room(width + self.limit, self.positions)
        rows = [[self.pad] * (width - len(self.read[key])) + self.read[key] for key in keys]
        real = [[0] * (width - len(self.read[key])) + [1] * len(self.read[key]) for key in keys]
        temperature = self.sampling.temperature
        drawing: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            drawing = {"do_sample": True, "temperature": temperature, "top_p": self.sampling.top_p, "top_k": 0}
        with kept_generators(self.model.device):
            put_generator_states(self.model.device, self.states)
            output = self.model.generate(
                input_ids=torch.tensor(rows, device=self.model.device),
                attention_mask=torch.tensor(real, device=self.model.device),
                max_new_tokens=self.limit,
                eos_token_id=self.ends,
                pad_token_id=self.pad,
                return_dict_in_generate=True,
                output_hidden_states=self.sampling.hidden,
                output_logits=self.sampling.logprobs,
                **drawing,
            )
            self.states = generator_states(self.model.device)
        written = output.sequences[:, width:]
        logprobs = None
        if self.sampling.logprobs:
            logits = torch.stack(output.logits, 1).float() / (temperature or 1.0)
            logprobs = logits.log_softmax(-1).gather(-1, written[:, :, None])[:, :, 0].tolist()
        found = []
        for row, (key, ids) in enumerate(zip(keys, written.tolist(), strict=True)):
            length = next((place + 1 for place, id_ in enumerate(ids) if id_ in self.ends), len(ids))
            hidden = output.hidden_states[0][-1][row, -1].float() if self.sampling.hidden else None
            found.append(Action(key, ids[:length], logprobs[row][:length] if logprobs else None, hidden))
        return found
