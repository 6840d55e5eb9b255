"""A CUDA device for rehearsals: it says that it is `cuda:0`, computes on the CPU, and refuses what CUDA refuses.

A `CudaTensor` holds a tensor of the CPU and claims the device `cuda:0`; a dispatch mode makes them wherever one is
asked for, and runs every operation on what they hold. It raises, in CUDA's words,

- where operands lie on two devices (a CPU tensor without dimensions may meet others, and CPU indices may index);
- where `.numpy()` is asked of what was not moved to the CPU (torch does that itself);
- where something is drawn on the device from a generator of the CPU;
- where a tensor on the device is to be pinned.

The device has a random generator of its own, and autocast to bfloat16 is torch's own for CUDA. What it cannot show:
kernels that only CUDA has (fused attention, Triton, bitsandbytes), streams that run beside the host, memory, speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

GIB = 2**30
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default, torch.ops.aten.copy.default}
PIN = torch.ops.aten._pin_memory.default
INDEXED = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_}
WIDE_PRODUCTS = {
    *(torch.ops.aten.mm.dtype, torch.ops.aten.mm.dtype_out),
    *(torch.ops.aten.addmm.dtype, torch.ops.aten.addmm.dtype_out),
}


class CudaTensor(torch.Tensor):
    """A tensor of the CPU that claims to be on the device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> CudaTensor:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="cuda:0",
            requires_grad=False,
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    # What safetensors and transformers tell tensors apart by, and what torch does not do for subclasses.

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"cuda:{self.held!r}"


class Device(TorchDispatchMode):
    """While it is entered, there is such a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Generator:
    """The device's random generator: a state that takes the place of the CPU's while something is drawn."""

    def __init__(self) -> None:
        self.seed(0)

    def seed(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed + 1).get_state()

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.state)
        yield
        self.state = torch.default_generator.get_state()
        torch.default_generator.set_state(before)


generator = Generator()


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of torch, on what the tensors hold."""
    tensors: list[torch.Tensor] = []
    held_args, held_kwargs = held(args, tensors), {name: held(value, tensors) for name, value in kwargs.items()}
    on_cuda = any(isinstance(each, CudaTensor) for each in tensors)
    device = kwargs.get("device")
    goes_to_cuda = on_cuda if device is None else torch.device(device).type == "cuda"
    if func is PIN and not on_cuda:
        return args[0].clone()
    if not on_cuda and not goes_to_cuda:
        return func(*args, **kwargs)
    refuse(func, args, kwargs, tensors, goes_to_cuda)
    if device is not None and goes_to_cuda:
        held_kwargs["device"] = torch.device("cpu")
    random = torch.Tag.nondeterministic_seeded in func.tags and goes_to_cuda
    with generator.drawing() if random else contextlib.nullcontext():
        kernel = wide_product if func in WIDE_PRODUCTS else func
        out = kernel(*held_args, **held_kwargs)
    if func._schema.is_mutable:
        # What was written to is what is returned, and it is the same tensor as before.
        return kwargs.get("out", args[0]) if func._schema.returns else out
    return wrapped(out) if goes_to_cuda else out


def wide_product(*args: Any, out: torch.Tensor | None = None, beta: float = 1, alpha: float = 1) -> torch.Tensor:
    """cuBLAS's product of narrow matrices in wide numbers, which the CPU has not: (added,) one, other, dtype."""
    *added, one, other, dtype = args
    found = alpha * (one.to(dtype) @ other.to(dtype))
    found = found + beta * added[0] if added else found
    return found if out is None else out.copy_(found)


def held(value: Any, tensors: list[torch.Tensor]) -> Any:
    """An argument with what its tensors hold; puts the tensors into a list."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return value.held if isinstance(value, CudaTensor) else value
    return type(value)(held(each, tensors) for each in value) if type(value) in (list, tuple) else value


def wrapped(value: Any) -> Any:
    """A result with its tensors on the device."""
    if isinstance(value, torch.Tensor):
        return CudaTensor(value)
    return type(value)(map(wrapped, value)) if type(value) in (list, tuple) else value


def refuse(func: Any, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor], goes_to_cuda: bool) -> None:
    """Raise what CUDA raises."""
    drawn_from = kwargs.get("generator")
    if goes_to_cuda and drawn_from is not None and drawn_from.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if func is PIN and isinstance(args[0], CudaTensor):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    if func in COPIES:
        return
    if func.overloadpacket in INDEXED and isinstance(args[0], CudaTensor):
        tensors = [args[0], *(each for each in args[2:] if isinstance(each, torch.Tensor))]
    cuda = any(isinstance(each, CudaTensor) for each in tensors)
    if cuda and any(not isinstance(each, CudaTensor) and each.dim() > 0 for each in tensors):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )


def build_guard(folder: Path) -> None:
    """Make torch's C++ side believe in the device, once per process and for good; takes a C++ compiler."""
    if torch._C._accelerator_getAccelerator() is not None:
        return
    torch_folder, library = Path(torch.__file__).parent, folder / "guard.so"
    source = Path(__file__).parent / "guard.cpp"
    command = ["c++", "-O0", "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder}/include", str(source)]
    command += [f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu", "-o", str(library)]
    subprocess.run(command, check=True, timeout=120)
    ctypes.CDLL(str(library))


def moved(plain: Any, module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """`Module.to` for the device: torch would put what a CudaTensor says of itself into the old parameter, without what
    it holds. Parameters that several modules share stay shared."""
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    if device is None or device.type != "cuda":
        return plain(module, *args, **kwargs)  # type: ignore[no-any-return]
    known: dict[int, torch.Tensor] = {}

    def there(tensor: torch.Tensor) -> torch.Tensor:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        if tensor.is_cuda and tensor.dtype == wanted:
            return tensor
        if id(tensor) not in known:
            new = tensor.detach().to(device, wanted)
            parameter = isinstance(tensor, torch.nn.Parameter)
            known[id(tensor)] = torch.nn.Parameter(new, tensor.requires_grad) if parameter else new
        return known[id(tensor)]

    for each in module.modules():
        for tensors in (each._parameters, each._buffers):
            tensors.update({name: there(tensor) for name, tensor in tensors.items() if tensor is not None})
    return module


class OnDevice(contextlib.nullcontext):  # type: ignore[type-arg]
    """`torch.cuda.device(0)`."""

    def __init__(self, _: Any) -> None:
        super().__init__()


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything that asks for CUDA finds the device."""
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "device": OnDevice,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda **_: True,
        "get_device_name": lambda *_: "a rehearsal",
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: SimpleNamespace(uuid="none", total_memory=80 * GIB, major=9, minor=0),
        "mem_get_info": lambda *_: (70 * GIB, 80 * GIB),
        "max_memory_allocated": lambda *_: GIB,
        "memory_reserved": lambda *_: GIB,
        "memory_allocated": lambda *_: GIB,
        "get_rng_state": lambda *_: generator.state.clone(),
        "set_rng_state": lambda state, *_: setattr(generator, "state", state.clone()),
        "manual_seed": generator.seed,
        "manual_seed_all": generator.seed,
        "_initialized": True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda *_: None)
    # The mode is of this thread.
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    plain = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *args, **kwargs: moved(plain, module, *args, **kwargs))
    # torch.tensor(..., device="cuda") makes its tensor on the CPU, and sends it to the device where a mode can see it.
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with Device():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
