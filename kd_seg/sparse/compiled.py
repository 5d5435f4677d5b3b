"""Compiled kernels whose cache on disk knows every file that they are made of.

Numba asks only whether the file of the function itself has changed. The kernels here are made of several files, and
inline each other; so what is cached carries a digest of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from kd_seg.core.kernels import CACHING, FunctionCache, kernel

F = TypeVar("F", bound=Callable[..., Any])


@lru_cache
def version() -> str:
    """Digest of the sources of this package."""
    return digest(Path(__file__).parent)


def digest(folder: Path) -> str:
    """Digest of the Python files of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


class VersionedCache(FunctionCache):
    """Numba's cache with the version of the kernels in every key."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), version())


def versioned_kernel(function: F) -> F:
    """Compile a serial kernel that calls kernels of other files."""
    compiled: Any = kernel(function)
    if CACHING:
        compiled._cache = VersionedCache(compiled.py_func)
    made: F = compiled
    return made
