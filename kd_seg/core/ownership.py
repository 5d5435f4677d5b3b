"""Files that kd_seg wrote carry its name; no command replaces one that does not."""

from __future__ import annotations

import os
from pathlib import Path

from kd_seg.core.errors import UsageError

MARK = "kd_seg"
_LOOKED_AT = 1 << 16


def check_replaceable(path: Path, mark: str = MARK) -> None:
    """UsageError where something is at ``path`` that kd_seg did not write: a folder, or a file without ``mark``."""
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise UsageError(f"{path} is in the way and no file; choose another --out.")
    with open(path, "rb") as file:
        head = file.read(_LOOKED_AT)
        file.seek(max(0, path.stat().st_size - _LOOKED_AT))
        tail = file.read()
    if head and mark.encode() not in head and mark.encode() not in tail:
        raise UsageError(f"{path} exists and kd-seg did not write it; choose another --out, or delete it first.")
