"""How a person asked for caches to be built."""

from __future__ import annotations

from dataclasses import dataclass

from kd_seg.core.progress import Progress, silent
from kd_seg.core.shard import WHOLE, Shard


@dataclass(frozen=True)
class Work:
    """How caches are built.

    Attributes:
        fix_command: the command that builds them, for messages.
        progress: tells a person how far it is, in scans.
        shard: (i, n): do the i-th of n parts, i from 1.
        workers: processes side by side.
        rebuild: throw away what is there.
        device: name of the torch device that teachers run on.
    """

    fix_command: str
    progress: Progress = silent
    shard: Shard = WHOLE
    workers: int = 1
    rebuild: bool = False
    device: str = "cpu"
