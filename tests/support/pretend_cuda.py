"""A CUDA device that is only pretended, so that mix-ups of devices are found on a machine without one.

Within ``pretend_cuda()`` a tensor that was made on, or moved to, "cuda" says ``device.type == "cuda"`` and keeps its
numbers in ordinary memory. Every function of torch that Python calls is watched: one that is given such a tensor beside
an ordinary one raises what CUDA would raise, and so does a conversion to NumPy. What CUDA allows passes: copies,
scalars in element-wise functions, an ordinary index into a CUDA tensor. Backward passes run as they are.

What it is to a tensor to lie on the device is a mark on its storage; so views, parameters and gradients carry it along.

It cannot see what goes on below Python (CUDA kernels, NCCL, streams), half precision under autocast, which has no
effect here, orders of summation, or speed. Sparse convolutions are computed by the CPU's kernels, after a check that
features, coordinates and weights lie on one device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from kd_seg.losses import supervised
from kd_seg.losses.lovasz import LovaszSoftmax
from kd_seg.networks import cylinder, minkunet, spv, unet
from kd_seg.sparse import Down, Submanifold, Up, numba_backend

CUDA = torch.device("cuda", 0)

SCALARS_REFUSED = {
    "bincount", "bmm", "cat", "concat", "cross_entropy", "dot", "gather", "hstack", "index_add", "index_add_",
    "index_copy_", "index_select", "isin", "matmul", "__matmul__", "mm", "scatter", "scatter_", "scatter_add_",
    "scatter_reduce", "scatter_reduce_", "searchsorted", "stack", "take_along_dim", "vstack",
}  # fmt: skip
"""Functions of several tensors in which CUDA refuses an ordinary one even if it is a scalar."""

COPIES = {"copy_", "set data", "_has_compatible_shallow_copy_type", "result_type", "type_as"}
"""Functions in which both kinds may meet."""

RANDOM = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like"}


class DevicesMixed(RuntimeError):
    """What CUDA would have refused."""


class PretendCuda(TorchFunctionMode):
    """The watch; use ``pretend_cuda()``, which also makes ``torch.cuda`` play along."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
        self.marks: dict[int, StorageWeakRef] = {}

    # ------------------------------------------------------------------ marks

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the pretended device."""
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self.marks

    def keep(self, tensor: Tensor) -> Tensor:
        """Mark a tensor; a weak reference keeps its storage's address from being used again, not its memory."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            if storage._cdata not in self.marks:
                self.marks[storage._cdata] = StorageWeakRef(storage)
        return tensor

    # ------------------------------------------------------------------ the watch

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = _name(func), dict(kwargs or {})
        if name in _PLAIN:
            return _PLAIN[name](self, func, args)
        if name in ("to", "cuda", "cpu"):
            return self._move(name, func, args, kwargs)
        given = [*_tensors(args), *_tensors(kwargs)]
        self._check(name, args, given)
        wanted = self._wanted(name, kwargs)
        here = any(self.holds(t) for t in given) if wanted is None else wanted
        ordinary = [t.untyped_storage()._cdata for t in given if not self.holds(t)]
        result = func(*args, **kwargs)
        if not here:
            return result
        if wanted and isinstance(result, Tensor) and result.untyped_storage()._cdata in ordinary:
            result = result.clone()  # as_tensor of an ordinary tensor
        for made in _tensors(result):
            if made.untyped_storage()._cdata not in ordinary:
                self.keep(made)
        return result

    def _wanted(self, name: str, kwargs: dict[str, Any]) -> bool | None:
        """Whether the device asked for is the pretended one, None if none is; the call is then made on the CPU."""
        if kwargs.get("device") is None:
            return None
        wanted = torch.device(kwargs["device"]).type == "cuda"
        if wanted:
            kwargs["device"] = "cpu"
            if kwargs.get("generator") is not None:
                raise DevicesMixed(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
            if name in RANDOM:
                kwargs["generator"] = self.generator
        return wanted

    def _check(self, name: str, args: tuple[Any, ...], given: list[Tensor]) -> None:
        on = [self.holds(t) for t in given]
        if all(on) or not any(on) or name in COPIES:
            return
        if name == "__getitem__" and self.holds(args[0]):
            return  # an ordinary index is copied
        if name == "__setitem__" and self.holds(args[0]):
            written = [t for t in _tensors(args[2]) if not self.holds(t) and t.dim() > 0]
            if not written or not _tensors(args[1]):
                return  # an ordinary index, a scalar, or a copy into a slice
        off = [t for t, here in zip(given, on, strict=True) if not here]
        if name not in SCALARS_REFUSED and all(t.dim() == 0 for t in off):
            return
        shapes = ", ".join(str(list(t.shape)) for t in off)
        raise DevicesMixed(f"{name}: expected all tensors to be on the same device, cuda:0; on the CPU: {shapes}")

    def _move(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        tensor, rest = args[0], args[1:]
        here = self.holds(tensor)
        if name != "to":
            wanted, changes = name == "cuda", {}
        elif rest and isinstance(rest[0], Tensor):
            wanted, changes = self.holds(rest[0]), {"dtype": rest[0].dtype}
        else:
            device, dtype, _, _ = torch._C._nn._parse_to(*rest, **{k: v for k, v in kwargs.items() if k != "copy"})
            wanted = here if device is None else device.type == "cuda"
            changes = {} if dtype is None else {"dtype": dtype}
        moved: Tensor = tensor.to("cpu", copy=wanted != here or kwargs.get("copy", False), **changes)
        return self.keep(moved) if wanted else moved

    # ------------------------------------------------------------------ what needs no check

    def _device(self, func: Any, args: tuple[Any, ...]) -> torch.device:
        return CUDA if self.holds(args[0]) else func(*args)

    def _is_cuda(self, func: Any, args: tuple[Any, ...]) -> bool:
        return self.holds(args[0])

    def _is_cpu(self, func: Any, args: tuple[Any, ...]) -> bool:
        return not self.holds(args[0])

    def _grad(self, func: Any, args: tuple[Any, ...]) -> Tensor | None:
        """A gradient is made below Python, where its tensor is."""
        grad: Tensor | None = func(*args)
        return self.keep(grad) if grad is not None and self.holds(args[0]) else grad

    def _numpy(self, func: Any, args: tuple[Any, ...]) -> Any:
        if self.holds(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
        return func(*args)

    def _iterate(self, func: Any, args: tuple[Any, ...]) -> Iterator[Tensor]:
        made = list(func(*args))
        return iter([self.keep(t) for t in made] if self.holds(args[0]) else made)


_PLAIN: dict[str, Callable[[PretendCuda, Any, tuple[Any, ...]], Any]] = {
    "get device": PretendCuda._device,
    "get is_cuda": PretendCuda._is_cuda,
    "get is_cpu": PretendCuda._is_cpu,
    "get grad": PretendCuda._grad,
    "get _grad": PretendCuda._grad,
    "numpy": PretendCuda._numpy,
    "__array__": PretendCuda._numpy,
    "__iter__": PretendCuda._iterate,
}


def _name(func: Any) -> str:
    """Name of a function; of a property "get NAME" or "set NAME"."""
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__"):
        return f"{name[2:5]} {func.__self__.__name__}"
    return name


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a value, inside lists, tuples and dicts too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, (list, tuple)) else []


# ---------------------------------------------------------------- torch.cuda and the sparse layers play along


@contextlib.contextmanager
def pretend_cuda() -> Iterator[PretendCuda]:
    """Within it there is one CUDA device, which is the CPU; yields the watch."""
    mode = PretendCuda()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _runtime(mode).items():
            patch.setattr(torch.cuda, name, value)
        for layer in (Submanifold, Down, Up):
            patch.setattr(layer, "forward", _on_the_cpu(mode, layer.forward))
        for network in (unet, cylinder, minkunet, spv):
            patch.setattr(network, "sparse_tensor", _sparse_tensor(mode, network.sparse_tensor))
        patch.setattr(supervised, "_sorts_by_kernel", lambda probabilities: True)
        apply = _unwatched(LovaszSoftmax.apply)
        patch.setattr(LovaszSoftmax, "apply", lambda rows, target: _as(mode, rows, apply(rows, target)))
        patch.setattr(LovaszSoftmax, "backward", staticmethod(_unwatched(LovaszSoftmax.backward)))
        backward = numba_backend._Convolution.backward
        patch.setattr(numba_backend._Convolution, "backward", staticmethod(_unwatched(backward)))
        with mode:
            yield mode


def _runtime(mode: PretendCuda) -> dict[str, Any]:
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "device": lambda device: contextlib.nullcontext(),
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda device=None: 0,
        "get_device_name": lambda device=None: "pretended",
        "get_rng_state": lambda device=None: mode.generator.get_state(),
        "set_rng_state": lambda state, device=None: mode.generator.set_state(state),
        "manual_seed_all": lambda seed: mode.generator.manual_seed(seed) and None,
    }


def _as(mode: PretendCuda, like: Tensor, made: Tensor) -> Tensor:
    """``made``, on the device that ``like`` is on."""
    return mode.keep(made) if mode.holds(like) else made


def _unwatched(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return run


def _sparse_tensor(mode: PretendCuda, make: Callable[..., Any]) -> Callable[..., Any]:
    def run(features: Tensor, coordinates: Tensor, *shape: Any) -> Any:
        if mode.holds(features) != mode.holds(coordinates):
            raise DevicesMixed("a sparse tensor's features and coordinates are on two devices")
        with torch._C.DisableTorchFunction():
            made = make(features, coordinates, *shape)
        if mode.holds(coordinates):
            mode.keep(made.indices)
        return made

    return run


def _on_the_cpu(mode: PretendCuda, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(layer: Any, x: Any, *wraps: Any) -> Any:
        on = {mode.holds(t) for t in (x.features, x.indices, layer.convolution.weight)}
        if len(on) > 1:
            raise DevicesMixed("a sparse convolution's features, coordinates and weight are not on one device")
        with torch._C.DisableTorchFunction():
            out = forward(layer, x, *wraps)
        if on == {True}:
            mode.keep(out.features)
            mode.keep(out.indices)
        return out

    return run
