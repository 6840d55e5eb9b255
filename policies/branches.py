"""Log-probabilities of what-ifs: many continuations of one token sequence, scored in one forward pass.

A *branch* leaves its trunk after `at` tokens, adds a context of its own and asks how probable a target is after it. All
branches of a trunk lie behind it in one row; the attention mask lets a branch see its part of the trunk and itself,
and positions are counted as if nothing else were there. So a trunk is read once, however many branches it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
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
    """Tokens of the trunk that it sees; none of a trunk that no branch sees is read."""
    context: list[int]
    """What is inserted before the target; at least one token."""
    target: list[int]
    """The tokens whose probability is asked for."""


@torch.no_grad()
def score_branches(
    policy: LanguageModel, trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> tuple[list[list[torch.Tensor]], float]:
    """Score the branches of trunks under the policy as it is; the processes of a run share the passes.

    Args:
        trunks: token ids, one row each.
        branches: the branches of each trunk.
        temperature: what logits are divided by.

    Returns:
        For each trunk, and each of its branches, float32 [tokens of the target]: their log-probabilities. And the model
        FLOPs that they take: a trunk up to where its last branch leaves it, the branches, the head at the targets.
    """
    trunks = [trunk[: max((b.at for b in own), default=0)] for trunk, own in zip(trunks, branches, strict=True)]
    sizes = [
        len(trunk) + sum(len(b.context) + len(b.target) for b in own)
        for trunk, own in zip(trunks, branches, strict=True)
    ]
    mine: dict[int, list[torch.Tensor]] = {row: [] for row, size in enumerate(sizes) if not size}
    training = policy.model.training
    policy.model.eval()
    try:
        for rows in list(passes(sizes))[ranks.rank() :: ranks.count()]:
            scored = _score(policy, [trunks[row] for row in rows], [branches[row] for row in rows], temperature)
            mine |= dict(zip(rows, scored, strict=True))
    finally:
        policy.model.train(training)
    found = {row: scores for part in ranks.gather(mine) for row, scores in part.items()}
    flops = sum(policy.shape.forward(len(trunk), heads=0) for trunk in trunks)
    for branch in (branch for own in branches for branch in own):
        size = len(branch.context) + len(branch.target)
        flops += policy.shape.forward(size, context=branch.at, heads=len(branch.target))
    return [found[row] for row in range(len(trunks))], flops


def passes(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Rows by size, in passes of at most PLACES_PER_PASS places (or one row); empty ones are left out."""
    chosen: list[int] = []
    for row in sorted((row for row, size in enumerate(sizes) if size), key=sizes.__getitem__):
        if chosen and (len(chosen) + 1) * sizes[row] > PLACES_PER_PASS:
            yield chosen
            chosen = []
        chosen.append(row)
    if chosen:
        yield chosen


def _score(
    policy: LanguageModel, trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> list[list[torch.Tensor]]:
    layout, attention = lay_out(trunks, branches, policy.device), attention_of(policy.model.config)
    targets: list[list[range]] = []
    for trunk, branched in zip(trunks, branches, strict=True):
        ends = islice(accumulate((len(b.context) + len(b.target) for b in branched), initial=len(trunk)), 1, None)
        targets.append([range(end - len(b.target), end) for b, end in zip(branched, ends, strict=True)])
    # A target's token is predicted at the place before it, which is its branch's own.
    wanted = sorted({place - 1 for own in targets for target in own for place in target})
    logits = policy.model(
        input_ids=layout.ids,
        attention_mask=attention.masks(lambda window: layout.additive_mask(policy.model.dtype, window)),
        position_ids=layout.positions,
        use_cache=False,
        logits_to_keep=torch.tensor(wanted, device=policy.device),
    ).logits
    logprobs = (logits.float() / temperature).log_softmax(-1)
    column = {place: number for number, place in enumerate(wanted)}
    return [
        [_of_target(logprobs[row], layout.ids[row], target, column) for target in own]
        for row, own in enumerate(targets)
    ]


def _of_target(logprobs: torch.Tensor, ids: torch.Tensor, target: range, column: dict[int, int]) -> torch.Tensor:
    """Log-probabilities [tokens] of a row's places in `target`, out of [columns, vocabulary]."""
    if not target:
        return logprobs.new_zeros(0)
    first = column[target.start - 1]
    found = logprobs[first : first + len(target)].gather(1, ids[target.start : target.stop, None])
    return found[:, 0]


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of trunk and branches, right-padded: all tensors int64 [rows, places]."""

    ids: torch.Tensor
    positions: torch.Tensor
    segment: torch.Tensor
    """0 on the trunk, n on the n-th branch, -1 on padding."""
    sees: torch.Tensor
    """How much of the trunk a place sees beside its own segment."""

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
    columns: dict[str, list[list[int]]] = {"ids": [], "positions": [], "segment": [], "sees": []}
    for trunk, own in zip(trunks, branches, strict=True):
        length = len(trunk)
        row: dict[str, list[int]] = {
            "ids": list(trunk),
            "positions": list(range(length)),
            "segment": [0] * length,
            "sees": [0] * length,
        }
        for number, branch in enumerate(own, start=1):
            size = len(branch.context) + len(branch.target)
            row["ids"] += branch.context + branch.target
            row["positions"] += range(branch.at, branch.at + size)
            row["segment"] += [number] * size
            row["sees"] += [branch.at] * size
        for name, values in row.items():
            columns[name].append(values)
    width = max(map(len, columns["ids"]))
    filler: dict[str, int] = {"ids": 0, "positions": 0, "segment": -1, "sees": 0}
    tensors: dict[str, Any] = {
        name: torch.tensor([row + [filler[name]] * (width - len(row)) for row in rows], device=device)
        for name, rows in columns.items()
    }
    return Layout(**tensors)
