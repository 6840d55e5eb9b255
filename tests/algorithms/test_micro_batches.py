"""Micro-batches hold every rollout once, and as little padding as can be."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.micro_batches import by_length, by_rows, by_tokens


def test_rows_outside_the_loss_take_no_place_in_micro_batches() -> None:
    lengths, trained = torch.tensor([3, 1, 4, 1, 2, 1]), torch.tensor([1, 0, 1, 0, 1, 0])
    completions = (torch.arange(4) < lengths[:, None]).long()
    whole = {
        "prompt_mask": torch.ones(6, 2, dtype=torch.long),
        "completion_mask": completions,
        "tool_mask": completions * trained[:, None],
        "advantages": lengths.float(),
    }
    parts = [{key: tensor[rows] for key, tensor in whole.items()} for rows in (slice(3), slice(3, 6))]
    halves = by_length(parts, by_rows)
    assert [part["advantages"].tolist() for part in halves] == [[2, 3], [4]]
    assert [part["completion_mask"].shape for part in halves] == [(2, 3), (1, 4)]
    rows = by_length([{key: tensor[row : row + 1] for key, tensor in whole.items()} for row in range(6)], by_tokens)
    assert [part["advantages"].tolist() for part in rows] == [[1], [1], [1], [2], [3], [4]]


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9).map(sorted), parts=st.integers(1, 9))
def test_no_other_cut_has_fewer_tokens_in_its_largest_part(lengths: list[int], parts: int) -> None:
    parts = min(parts, len(lengths))

    def largest(counts: tuple[int, ...]) -> int:
        ends = list(itertools.accumulate(counts))
        return max(count * lengths[end - 1] for count, end in zip(counts, ends, strict=True))

    counts = by_tokens(lengths, parts)
    assert len(counts) == parts
    assert sum(counts) == len(lengths)
    assert min(counts) > 0
    places = itertools.combinations(range(1, len(lengths)), parts - 1)
    cuts = (tuple(b - a for a, b in itertools.pairwise([0, *place, len(lengths)])) for place in places)
    assert largest(tuple(counts)) == min(map(largest, cuts))
