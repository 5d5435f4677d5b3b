"""The one place that chooses what computes sparse convolutions.

- ``spconv`` on CUDA devices, and on the CPU only where it is asked for;
- ``numba``: this package's kernels, for float32 on the CPU;
- ``torch``: index_select, mm and index_add; any device and precision. CUDA without spconv, and the oracle of tests.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from kd_seg.core.errors import MissingDependencyError, UsageError

BACKENDS = ("spconv", "numba", "torch")
VARIABLE = "KD_SEG_BACKEND"

_CHOSEN: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def using(name: str) -> Iterator[None]:
    """Within it all convolutions of this thread take the backend ``name``, whatever the environment holds."""
    token = _CHOSEN.set(_known(name))
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def choose(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The backend for features of a device and type; UsageError or MissingDependencyError where it cannot serve."""
    return explain(device, dtype)[0]


def explain(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[str, str]:
    """The backend, and the reason for it in a few words."""
    asked = _CHOSEN.get() or os.environ.get(VARIABLE) or None
    if asked is not None:
        return _checked(_known(asked), device, dtype), f"{VARIABLE} asks for it"
    if device.type == "cuda":
        if has_spconv():
            return "spconv", "spconv is installed and the device is CUDA"
        return "torch", "spconv is not installed"
    if device.type == "cpu" and dtype == torch.float32:
        return "numba", "the device is the CPU"
    return "torch", f"the numba backend computes float32 on the CPU only, not {str(dtype)[6:]} on {device.type}"


def has_spconv() -> bool:
    """Whether spconv is installed (not whether it can be imported)."""
    return importlib.util.find_spec("spconv") is not None


def _known(name: str) -> str:
    if name not in BACKENDS:
        raise UsageError(f"{VARIABLE} is {name!r}; use {', '.join(BACKENDS)}, or unset it.")
    return name


def _checked(name: str, device: torch.device, dtype: torch.dtype) -> str:
    if name == "numba" and device.type != "cpu":
        raise UsageError(f"{VARIABLE}=numba computes on the CPU, the device is {device}; unset it or set torch.")
    if name == "spconv" and not has_spconv():
        raise MissingDependencyError(f"{VARIABLE}=spconv, but spconv is not installed; unset it or install spconv.")
    return "torch" if name == "numba" and dtype != torch.float32 else name
