"""The device itself: it computes what the CPU computes, and refuses what CUDA refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

pytestmark = pytest.mark.usefixtures("cuda")

CUDA = torch.device("cuda")


def test_it_computes_and_differentiates_as_the_cpu_does() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(4, 3)
    moved = torch.nn.Linear(4, 3)
    moved.load_state_dict(plain.state_dict())
    moved.to("cuda")
    x = torch.randn(5, 4)
    plain(x).square().sum().backward()
    y = moved(x.to("cuda"))
    y.square().sum().backward()
    assert y.device == torch.device("cuda:0")
    assert moved.weight.grad is not None
    assert moved.weight.grad.is_cuda
    assert torch.equal(moved.weight.grad.cpu(), plain.weight.grad)
    optimizer = torch.optim.AdamW(moved.parameters(), lr=0.1)
    optimizer.step()
    assert not torch.equal(moved.weight.detach().cpu(), plain.weight)


def test_views_share_what_they_show() -> None:
    whole = torch.zeros(3, 4, device="cuda")
    whole[1, 2:] = 5
    part = whole[1]
    part += 1
    assert whole.tolist()[1] == [1.0, 1.0, 6.0, 6.0]


def test_autocast_computes_in_bfloat16() -> None:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert (torch.ones(2, 2, device=CUDA) @ torch.ones(2, 2, device=CUDA)).dtype == torch.bfloat16


def test_it_draws_from_a_generator_of_its_own() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.rand(4, device=CUDA)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert torch.equal(first.cpu(), torch.rand(4, device=CUDA).cpu())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: torch.ones(3, device=CUDA) + torch.ones(3), "at least two devices, cuda:0 and cpu"),
        (lambda: torch.ones(3) * torch.tensor(2.0, device=CUDA), "at least two devices"),
        (lambda: torch.arange(3)[torch.tensor([1], device=CUDA)], "at least two devices"),
        (lambda: torch.ones(3, 3, device=CUDA).gather(1, torch.zeros(3, 1, dtype=torch.long)), "at least two devices"),
        (lambda: torch.cat([torch.ones(3, device=CUDA), torch.ones(3)]), "at least two devices"),
        (lambda: torch.nn.functional.embedding(torch.tensor([1]), torch.ones(3, 3, device=CUDA)), "two devices"),
        (lambda: torch.ones(3, device=CUDA).numpy(), "convert|numpy"),
        (
            lambda: torch.rand(3, device=CUDA, generator=torch.Generator()),
            "Expected a 'cuda' device type for generator",
        ),
        (lambda: torch.ones(2, 2, device=CUDA).multinomial(1, generator=torch.Generator()), "Expected a 'cuda'"),
        (lambda: torch.ones(3, device=CUDA).pin_memory(), "only dense CPU tensors can be pinned"),
        (lambda: torch.ones(2, 2, device=CUDA) @ torch.ones(2, 2, device=CUDA).bfloat16(), "same dtype|dtype"),
    ],
)
def test_it_refuses_what_cuda_refuses(fault: Callable[[], object], message: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=message):
        fault()


def test_it_allows_what_cuda_allows() -> None:
    ones = torch.ones(3, 3, device=CUDA)
    assert (ones * torch.tensor(2.0)).tolist()[0] == [2.0] * 3
    assert ones[torch.tensor([0, 1])].shape == (2, 3)
    ones[torch.tensor([0])] = 4
    ones.copy_(torch.zeros(3, 3))
    assert float(ones.sum()) == 0
    assert torch.ones(3).pin_memory().is_cpu
