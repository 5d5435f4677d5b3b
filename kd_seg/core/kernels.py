"""The one place that imports Numba, and the ways in which kernels are compiled.

Kernels are serial and without the GIL: safe in threads and in forked workers. Compiled code is kept on disk: beside the
source, else in the user's cache folder, else in a folder of the user's own below the system's temporary folder.
"""

from __future__ import annotations

import logging
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import cgutils, types
from numba.core import config as numba_config
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "CACHING",
    "FunctionCache",
    "cgutils",
    "contracting_kernel",
    "intrinsic",
    "kernel",
    "numba_config",
    "types",
]


def _find_cache() -> bool:
    """Give Numba a folder for compiled code where it has none of its own; False where no folder can be written.

    Without one Numba fails when a kernel is declared, so at import: as on a read-only install without a writable home.
    """
    if numba_config.CACHE_DIR:  # type: ignore[attr-defined]
        return True
    beside = Path(__file__).resolve().parent / "__pycache__"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache") / "numba"
    if _writable(beside) or _writable(home):
        return True
    try:
        folder = _temporary_folder()
    except OSError as error:
        logging.getLogger("kd_seg").warning(
            "compiled kernels cannot be kept on disk (%s), so every start compiles again; set NUMBA_CACHE_DIR", error
        )
        return False
    logging.getLogger("kd_seg").debug("compiled kernels are kept in %s", folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)  # for the processes that this one starts
    numba_config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True


def _writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or in the nearest parent of it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _temporary_folder() -> Path:
    """A folder that nobody else can write to: Numba runs what lies in it."""
    root = Path(tempfile.gettempdir())
    folder = root / f"kd_seg_numba_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="kd_seg_numba_", dir=root))


CACHING = _find_cache()
"""Whether compiled code is kept on disk."""


def kernel(function: F) -> F:
    """Compile a kernel."""
    compiled: F = _outliving(numba.njit(cache=CACHING, nogil=True)(function))
    return compiled


def contracting_kernel(function: F) -> F:
    """Compile a kernel in which a product and the sum it goes into may be one instruction (rounded once)."""
    compiled: F = _outliving(numba.njit(cache=CACHING, nogil=True, fastmath={"contract"})(function))
    return compiled


def _outliving(compiled: Any) -> Any:  # a dispatcher, which Numba does not type
    """Let a kernel outlive code of an older version on disk: what can no longer be read is compiled again.

    Numba's index names the classes of arguments (named tuples); one that was renamed since would fail the first call.
    """
    if CACHING:
        index = compiled._cache._cache_file
        load = index._load_index

        def load_what_is_readable() -> Any:
            try:
                return load()
            except (AttributeError, ImportError, EOFError, pickle.UnpicklingError) as error:
                logging.getLogger("kd_seg").debug("%s is compiled again (%s)", compiled.py_func.__qualname__, error)
                return {}

        index._load_index = load_what_is_readable
    return compiled
