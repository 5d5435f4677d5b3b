"""Compiled code that an older version left on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from typing import NamedTuple

import numpy as np

from kd_seg.core.kernels import kernel


class {name}(NamedTuple):
    factor: float


@kernel
def scaled(values, settings):
    return values * settings.factor


print(scaled(np.ones(2), {name}(3.0)).tolist())
"""


def test_a_renamed_argument_class_is_compiled_anew(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for name in ("Before", "Before", "After1"):
        (tmp_path / "kernels_of_mine.py").write_text(MODULE.format(name=name))
        done = subprocess.run(
            [sys.executable, "-c", "import kernels_of_mine"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[3.0, 3.0]\n"
    assert list((tmp_path / "cache").rglob("*.nbi"))
