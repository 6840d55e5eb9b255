"""Log-probabilities of what-ifs: many continuations of one token sequence, scored in one forward pass.

A *branch* leaves its trunk after `at` tokens, adds a context of its own and asks how probable a target is after it. All
branches of a trunk share its row; the attention mask lets a branch see its part of the trunk and itself, and positions
are counted as if nothing else were there. So a trunk is read once, however many branches it has. The places from which
targets are predicted stand last in every row, and the output head is computed for those alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

    def __len__(self) -> int:
        """Tokens that are read beside the trunk's: of the target all but the last."""
        return len(self.context) + len(self.target) - 1


def branch_of(trunk: Sequence[int], context: Sequence[int], target: list[int]) -> Branch:
    """The branch that asks for `target` after `context`, and leaves `trunk` where the two begin to differ."""
    alike = (a == b for a, b in zip(trunk, context[:-1], strict=False))
    at = sum(1 for _ in itertools.takewhile(bool, alike))
    return Branch(at, list(context[at:]), target)


@torch.no_grad()
def score_branches(
    policy: LanguageModel, trunks: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> tuple[list[list[torch.Tensor]], float]:
    """Score the branches of trunks under the policy as it is; the processes of a run share the passes.

    Args:
        trunks: token ids, one row each; read as far as a branch sees them.
        branches: the branches of each trunk.
        temperature: what logits are divided by.

    Returns:
        Per trunk and branch the log-probability of each token of the target, float32 [tokens], and the model FLOPs
        that the branches need. A trunk was read when it was sampled, with the same weights: reading it again is the
        engine's doing, and not counted (see policies/flops.py).
    """
    stems = [trunk[: max((b.at for b in own), default=0)] for trunk, own in zip(trunks, branches, strict=True)]
    sizes = [len(stem) + sum(map(len, own)) for stem, own in zip(stems, branches, strict=True)]
    mine: dict[int, list[torch.Tensor]] = {}
    with policy.playing():
        for rows in list(passes(sizes))[ranks.rank() :: ranks.count()]:
            scored = _score(policy, [stems[row] for row in rows], [branches[row] for row in rows], temperature)
            mine |= dict(zip(rows, scored, strict=True))
    found = {row: scores for part in ranks.gather(mine) for row, scores in part.items()}
    forward = policy.shape.forward
    flops = sum(forward(len(b), context=b.at, heads=len(b.target)) for own in branches for b in own)
    return [found.get(row, []) for row in range(len(trunks))], flops


def passes(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Rows by size, in passes of at most PLACES_PER_PASS places (or one row); empty rows are in none."""
    chosen: list[int] = []
    for row in sorted((row for row, size in enumerate(sizes) if size), key=sizes.__getitem__):
        if chosen and (len(chosen) + 1) * sizes[row] > PLACES_PER_PASS:
            yield chosen
            chosen = []
        chosen.append(row)
    if chosen:
        yield chosen


def _score(
    policy: LanguageModel, stems: Sequence[list[int]], branches: Sequence[Sequence[Branch]], temperature: float
) -> list[list[torch.Tensor]]:
    layout, attention = lay_out(stems, branches, policy.device), attention_of(policy.model.config)
    targets = [[token for branch in own for token in branch.target] for own in branches]
    width = max(map(len, targets))
    logits = policy.model(
        input_ids=layout.ids,
        attention_mask=attention.masks(lambda window: layout.additive_mask(policy.model.dtype, window)),
        position_ids=layout.positions,
        use_cache=False,
        logits_to_keep=width,
    ).logits
    wanted = torch.tensor([[0] * (width - len(own)) + own for own in targets], device=policy.device)
    logprobs = (logits.float() / temperature).log_softmax(-1).gather(2, wanted[:, :, None])[:, :, 0]
    return [
        list(row[width - len(own) :].split([len(branch.target) for branch in branched]))
        for row, own, branched in zip(logprobs, targets, branches, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of a trunk and its branches, left-padded: all tensors int64 [rows, places]."""

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
        trunk = (self.segment[:, None, :] == 0) & (self.positions[:, None, :] < self.sees[:, :, None])
        seen = own | trunk
        if window is not None:
            seen &= self.positions[:, None, :] > self.positions[:, :, None] - window
        mask = torch.zeros(own.shape, dtype=dtype, device=self.ids.device)
        return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]


Place = tuple[int, int, int, int]
"""id, position, segment, sees: in the order of `Layout`."""


def lay_out(stems: Sequence[list[int]], branches: Sequence[Sequence[Branch]], device: torch.device) -> Layout:
    """Put each trunk and its branches into one row: the trunk, the contexts, the places that predict targets."""
    rows: list[list[Place]] = []
    for stem, own in zip(stems, branches, strict=True):
        contexts: list[Place] = []
        predicting: list[Place] = []
        for number, branch in enumerate(own, start=1):
            read = [*branch.context, *branch.target[:-1]]
            places = [(token, branch.at + place, number, branch.at) for place, token in enumerate(read)]
            contexts += places[: len(branch.context) - 1]
            predicting += places[len(branch.context) - 1 :]
        rows.append([*((token, place, 0, 0) for place, token in enumerate(stem)), *contexts, *predicting])
    width = max(map(len, rows))
    filled = [[(0, 0, -1, 0)] * (width - len(row)) + row for row in rows]
    return Layout(*torch.tensor(filled, device=device).permute(2, 0, 1))
