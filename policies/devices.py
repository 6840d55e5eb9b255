"""Where a policy computes, in which numbers, and which random generators that draws from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.errors import BadInput, require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, then mps, then cpu.

    Raises:
        BadInput: the device that was asked for is not there, or the name is none of these.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in there if there[kind]))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    require(device.type in there, f"policy.device={name}: use auto, cpu, mps, cuda or cuda:N")
    kind = device.type.upper()
    require(there[device.type], f"policy.device={name}: torch sees no {kind} device here; use policy.device=cpu")
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; every CPU can, if slowly."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def choose_dtype(name: str, device: torch.device, *, trained: bool = True) -> torch.dtype:
    """What the weights are held in.

    `auto` is float32, but bfloat16 on cuda for weights that stay as they are: trained ones need float32, since a
    bfloat16 has 8 bits of mantissa and a step of Adam at learning rates of 1e-5 is lost in its rounding.

    Raises:
        BadInput: unknown name, or bfloat16 on a device without it.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and not trained and has_bf16(device) else torch.float32
    if name not in DTYPES:
        raise BadInput(f"policy.dtype={name}: use auto, {', '.join(DTYPES)}")
    if name == "bfloat16" and not has_bf16(device):
        name = torch.cuda.get_device_name(device)
        raise BadInput(f"policy.dtype=bfloat16: {name} does not compute in it; use policy.dtype=float32")
    return DTYPES[name]


def trains_in_bf16(name: str, device: torch.device) -> bool:
    """Whether gradients are computed in bfloat16: on cuda, where it is there and dtype does not say otherwise."""
    return device.type == "cuda" and name in ("auto", "bfloat16") and has_bf16(device)


def generator_states(device: torch.device) -> list[torch.Tensor]:
    """The states of torch's global generators: the CPU's and, where that is another, the device's."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_device_module(device).get_rng_state()
    return [torch.get_rng_state(), own]


def put_generator_states(device: torch.device, states: list[torch.Tensor]) -> None:
    """The inverse of `generator_states`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators as they are found."""
    states = generator_states(device)
    try:
        yield
    finally:
        put_generator_states(device, states)
