"""The one place that imports Open3D: late, with its system libraries preloaded if unpacked beside the venv."""

from __future__ import annotations

import ctypes
import importlib
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from kd_seg.core.errors import MissingDependencyError

SYSTEM_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libudev.so.1": "libudev1",
    "libgomp.so.1": "libgomp1",
}
"""Shared libraries that Open3D 0.19 needs at import, and the Debian packages that hold them."""


def library_folder() -> Path:
    """Where ``make setup`` unpacks system libraries: ``kd_seg_libs`` in the environment's prefix."""
    return Path(sys.prefix) / "kd_seg_libs"


@lru_cache
def open3d() -> ModuleType:
    """The open3d module; MissingDependencyError names what is missing and how to install it."""
    preload(library_folder())
    try:
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:  # Open3D loads its library with ctypes, which raises OSError
        missing = [package for name, package in SYSTEM_LIBRARIES.items() if name in str(error)]
        fix = f"install the system package {missing[0]}" if missing else "run pip install open3d==0.19.0"
        raise MissingDependencyError(f"Open3D cannot be imported ({error}); {fix}, or run make setup.") from None


def preload(folder: Path) -> None:
    """Load every unpacked library globally; their order is unknown, so repeat until no more succeeds."""
    waiting = sorted(folder.glob("*.so*")) if folder.is_dir() else []
    progress = True
    while waiting and progress:
        progress = False
        for path in list(waiting):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            waiting.remove(path)
            progress = True
