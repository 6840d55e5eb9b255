"""Log-probabilities of what-ifs: many continuations of one token sequence, scored in one forward pass.

A *branch* leaves its trunk after `at` tokens, adds a context of its own and asks how probable a target is after it. All
branches of a trunk lie behind it in one row; the attention mask lets a branch see its part of the trunk and itself,
and positions are counted as if nothing else were there. So a trunk is read once, however many branches it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from policies import ranks
from policies.attention import attention_of

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

PLACES_PER_PASS = 16_384
"""Tokens, paddings included, of one forward pass; a matter of memory only."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A continuation of a trunk."""

    at: int
    """Tokens of the trunk that it sees."""
    context: list[int]
    """What is inserted before the target; at least one token."""
    target: list[int]
    """The tokens whose probability is asked for."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-probabilities of one row."""

    trunk: torch.Tensor
    """float32 [tokens of the trunk]: of each token after those before it; the first one's is 0."""
    branches: list[torch.Tensor]
    """One per branch, float32 [tokens of its target]."""


@torch.no_grad()
def score_branches(
    policy: LanguageModel, trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> tuple[list[Scores], float]:
    """Score trunks and their branches under the policy as it is; the processes of a run share the passes.

    Args:
        trunks: token ids, one row each.
        branches: the branches of each trunk.
        temperature: what logits are divided by.

    Returns:
        Scores in the order of `trunks`, and the model FLOPs that they took.
    """
    sizes = [
        len(trunk) + sum(len(b.context) + len(b.target) for b in own)
        for trunk, own in zip(trunks, branches, strict=True)
    ]
    mine: dict[int, Scores] = {}
    training = policy.model.training
    policy.model.eval()
    try:
        for rows in list(passes(sizes))[ranks.rank() :: ranks.count()]:
            scored = _score(policy, [trunks[row] for row in rows], [branches[row] for row in rows], temperature)
            mine |= dict(zip(rows, scored, strict=True))
    finally:
        policy.model.train(training)
    found = {row: scores for part in ranks.gather(mine) for row, scores in part.items()}
    return [found[row] for row in range(len(trunks))], sum(policy.shape.forward(size, heads=size) for size in sizes)


def passes(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Rows by size, in passes of at most PLACES_PER_PASS places (or one row)."""
    chosen: list[int] = []
    for row in sorted(range(len(sizes)), key=sizes.__getitem__):
        if chosen and (len(chosen) + 1) * sizes[row] > PLACES_PER_PASS:
            yield chosen
            chosen = []
        chosen.append(row)
    if chosen:
        yield chosen


def _score(
    policy: LanguageModel, trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> list[Scores]:
    layout, attention = lay_out(trunks, branches, policy.device), attention_of(policy.model.config)
    logits = policy.model(
        input_ids=layout.ids,
        attention_mask=attention.masks(lambda window: layout.additive_mask(policy.model.dtype, window)),
        position_ids=layout.positions,
        use_cache=False,
    ).logits
    logprobs = (logits.float() / temperature).log_softmax(-1)
    # [rows, places]: of the token at each place, after the place that `before` names.
    rows = torch.arange(len(trunks), device=policy.device)[:, None]
    own = logprobs[rows, layout.before, layout.ids]
    scores = []
    for row, (trunk, branched) in enumerate(zip(trunks, branches, strict=True)):
        first = own[row, : len(trunk)].clone()
        first[0] = 0.0
        targets, place = [], len(trunk)
        for branch in branched:
            start = place + len(branch.context)
            place = start + len(branch.target)
            targets.append(own[row, start:place])
        scores.append(Scores(first, targets))
    return scores


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of trunk and branches, right-padded: all tensors int64 [rows, places]."""

    ids: torch.Tensor
    positions: torch.Tensor
    segment: torch.Tensor
    """0 on the trunk, n on the n-th branch, -1 on padding."""
    sees: torch.Tensor
    """How much of the trunk a place sees beside its own segment."""
    before: torch.Tensor
    """The place whose prediction a token is."""

    def additive_mask(self, dtype: torch.dtype, window: int | None) -> torch.Tensor:
        """[rows, 1, places, places]: 0 where a place may look, the least number of `dtype` elsewhere; through a window,
        at the last so many positions."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        same = self.segment[:, :, None] == self.segment[:, None, :]
        own = same & (places[None, :] <= places[:, None])
        trunk = (self.segment[:, None, :] == 0) & (places < self.sees[:, :, None])
        seen = own | trunk
        if window is not None:
            seen &= self.positions[:, None, :] > self.positions[:, :, None] - window
        mask = torch.zeros(own.shape, dtype=dtype, device=self.ids.device)
        return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def lay_out(trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], device: torch.device) -> Layout:
    """Put each trunk and its branches into one row."""
    columns: dict[str, list[list[int]]] = {"ids": [], "positions": [], "segment": [], "sees": [], "before": []}
    for trunk, own in zip(trunks, branches, strict=True):
        length = len(trunk)
        row: dict[str, list[int]] = {
            "ids": list(trunk),
            "positions": list(range(length)),
            "segment": [0] * length,
            "sees": [0] * length,
            "before": [max(place - 1, 0) for place in range(length)],
        }
        for number, branch in enumerate(own, start=1):
            place, size = len(row["ids"]), len(branch.context) + len(branch.target)
            row["ids"] += branch.context + branch.target
            row["positions"] += range(branch.at, branch.at + size)
            row["segment"] += [number] * size
            row["sees"] += [branch.at] * size
            row["before"] += range(place - 1, place + size - 1)
        for name, values in row.items():
            columns[name].append(values)
    width = max(map(len, columns["ids"]))
    filler: dict[str, int] = {"ids": 0, "positions": 0, "segment": -1, "sees": 0, "before": 0}
    tensors: dict[str, Any] = {
        name: torch.tensor([row + [filler[name]] * (width - len(row)) for row in rows], device=device)
        for name, rows in columns.items()
    }
    return Layout(**tensors)
