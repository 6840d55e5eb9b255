"""Micro-batches hold every row once, and as little padding as can be."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from rollouts import batch_of, rollout

from algorithms.micro_batches import Row, by_rows, by_tokens, micro_batches, rollout_rows

CPU = torch.device("cpu")


def row(prompt: int, completion: int, advantage: float = 1.0) -> Row:
    """A row whose ids count up, with every other token of the completion in the loss."""
    mask = [place % 2 for place in range(completion)]
    return Row(list(range(1, prompt + 1)), list(range(1, completion + 1)), mask, [advantage] * completion)


def test_rows_of_like_length_stand_together_and_paddings_are_masked() -> None:
    parts = micro_batches([row(2, 5, 5.0), row(3, 1, 1.0), row(1, 2, 2.0)], 2, by_rows, 9, CPU)
    assert [part["advantages"].tolist() for part in parts] == [[[2, 2], [1, 0]], [[5, 5, 5, 5, 5]]]
    short = parts[0]
    assert short["prompt_ids"].tolist() == [[9, 9, 1], [1, 2, 3]]
    assert short["prompt_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert short["completion_ids"].tolist() == [[1, 2], [1, 9]]
    assert short["completion_mask"].tolist() == [[1, 1], [1, 0]]
    assert short["tool_mask"].tolist() == [[0, 1], [0, 0]]


def test_where_there_are_fewer_rows_than_parts_masked_ones_fill_up() -> None:
    parts = micro_batches([row(2, 3)], 3, by_tokens, 9, CPU)
    assert [int(part["tool_mask"].sum()) for part in parts] == [0, 0, 1]
    assert all(len(part["completion_ids"]) == 1 for part in parts)


def test_a_rollouts_row_has_its_tokens_mask_and_advantages() -> None:
    batch = batch_of(rollout((1, 0), (0, 1)), rollout((0, 0)), group_size=2)
    first, second = rollout_rows(batch, torch.tensor([2.0, 0.0]))
    assert (first.prompt, first.completion) == ([1], [5, 6, 7, 8, 5, 6, 7, 8])
    assert (first.mask, first.advantages) == ([1, 1, 1, 0, 1, 1, 1, 0], [2.0] * 8)
    assert (len(second), second.tokens) == (5, 3)
    assert (first.has_gradient, second.has_gradient) == (True, False)
    outside = rollout_rows(batch, (~batch.action_mask).float())
    assert not any(each.has_gradient for each in outside)


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
