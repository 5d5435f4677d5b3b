"""The one way kernels are compiled: serial, without the GIL, cached on disk where any folder can hold the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def _writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or in the nearest parent of it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _find_cache() -> None:
    """Give Numba a temporary cache folder where it would find none of its own and fail at import.

    Numba caches beside the source, else in the user's cache folder; on a read-only install without a writable home
    neither exists. The folder carries the user's id, so that users of one machine do not share compiled code.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    beside = Path(__file__).resolve().parent / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache") / "numba"
    if _writable(beside) or _writable(home):
        return
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"kd_seg_numba_{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


_find_cache()

import numba  # noqa: E402  (NUMBA_CACHE_DIR is read when numba is imported)


def kernel(function: F) -> F:
    """Compile a serial kernel: ``numba.njit(cache=True, nogil=True)``; safe in threads and forked workers."""
    compiled: F = numba.njit(cache=True, nogil=True)(function)  # type: ignore[assignment]
    return compiled
