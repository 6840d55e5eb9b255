"""Several processes that make one run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from processes import ended, started

from policies import ranks
from tasks.errors import BadInput


def test_alone_everything_is_ones_own() -> None:
    value = torch.zeros(1)
    with ranks.joined():
        assert (ranks.rank(), ranks.count(), ranks.is_first()) == (0, 1, True)
        assert ranks.gather(value)[0] is value
        assert ranks.first(value) is value
        assert ranks.share(7) == range(7)


@pytest.mark.parametrize("pieces", [0, 1, 2, 3, 8, 113])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_even_and_are_the_whole_in_order(pieces: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for rank in range(count):
        monkeypatch.setattr(ranks, "_here", ranks.Place(rank, count))
        shares.append(ranks.share(pieces))
    assert [piece for share in shares for piece in share] == list(range(pieces))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_processes_know_what_the_others_have_and_do_what_the_first_says() -> None:
    for code, said in ended(started(2, [__file__, "exchange"])):
        assert (code, said) == (0, "")


def test_what_ends_one_process_ends_the_other_which_learns_why() -> None:
    (first, told), (second, said) = ended(started(2, [__file__, "fail in the second"]))
    assert (first, second) == (3, 1)
    assert told == "process 1: BadInput of one process\n"
    assert said == ""


def test_a_fault_that_all_processes_find_is_told_once() -> None:
    (first, told), (second, said) = ended(started(2, [__file__, "fail in both"]))
    assert first == 3
    assert "nothing can be done" in told
    assert (second, said) == (1, "")


def exchange() -> None:
    """What every process does."""
    mine = {"rank": ranks.rank(), "tensor": torch.full((2,), float(ranks.rank()))}
    found = ranks.gather(mine)
    assert [each["rank"] for each in found] == [0, 1]
    assert [each["tensor"].tolist() for each in found] == [[0.0, 0.0], [1.0, 1.0]]
    assert found[ranks.rank()] is mine
    assert ranks.first(ranks.rank()) == 0
    done: list[int] = []
    assert ranks.once(lambda: done.append(1) or "done") == "done"
    assert len(done) == (1 if ranks.is_first() else 0)


def fail(everywhere: bool) -> None:
    """One process, or each of them, finds something wrong."""
    if everywhere:
        raise BadInput("nothing can be done")
    if ranks.rank() == 1:
        raise BadInput("BadInput of one process")
    ranks.gather(0)


def main(what: str) -> None:
    """One of the processes; exit code 3 where it is left to say what happened."""
    try:
        with ranks.joined():
            try:
                exchange() if what == "exchange" else fail(what == "fail in both")
            except RuntimeError:
                print(ranks.ended_by())
                raise
    except (RuntimeError, BadInput) as error:
        if isinstance(error, BadInput):
            print(error)
        sys.exit(3)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    main(sys.argv[1])
