"""A Python process that does not find some installed packages, as where they are not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import kd_seg

SITE = """
import sys


class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


def without(hidden: Iterable[str], folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` in an environment where the packages ``hidden`` cannot be imported."""
    (folder / "sitecustomize.py").write_text(f"HIDDEN = {set(hidden)!r}\n{SITE}")
    path = os.pathsep.join([str(folder), str(Path(kd_seg.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)
