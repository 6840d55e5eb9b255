"""The cache's table: sequences change slots, and room grows, without a number lost."""

from __future__ import annotations

import torch

from policies.kv_slots import LEAST, Slots


def filled(slots: int, places: int) -> Slots:
    """A table of random numbers, two layers of three heads."""
    table = Slots(2, 3, 4, torch.float32, torch.device("cpu"))
    table.fit(slots, places)
    table.data.copy_(torch.randn(table.data.shape, generator=torch.Generator().manual_seed(0)))
    return table


def test_caches_change_places_and_are_copied_all_at_once() -> None:
    table = filled(5, 8)
    before = table.data.clone()
    table.move([0, 3, 1, 1], [3, 0, 2, 4], 6)
    for target, source in enumerate([3, 1, 1, 0, 1]):
        assert torch.equal(table.data[:, :, target, :, :6], before[:, :, source, :, :6])
    assert torch.equal(table.data[:, :, :, :, 6:], before[:, :, :, :, 6:])


def test_what_is_there_stays_when_room_is_made_and_the_rest_holds_numbers() -> None:
    table = filled(2, LEAST)
    before = table.data.clone()
    table.fit(3, LEAST + 1)
    assert table.data.shape[2:5] == (3, 3, 2 * LEAST)
    assert torch.equal(table.data[:, :, :2, :, :LEAST], before)
    assert not table.data[:, :, 2:].any()
    assert not table.data[:, :, :, :, LEAST:].any()
    same = table.data
    table.fit(1, 1)
    assert table.data is same
