"""Call the installed ``kd-seg`` program as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def kd_seg(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the console script beside this Python; asserts its exit code and that no traceback was shown."""
    script = Path(sys.executable).parent / "kd-seg"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [script, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment, cwd=cwd
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def kd_seg_json(*arguments: object) -> Any:
    """The JSON answer, which must be all that stands on stdout."""
    return json.loads(kd_seg(*arguments, "--json").stdout)
