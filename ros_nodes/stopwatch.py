"""Times of the last frames: the worker writes, the diagnostics thread reads. No ROS import."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

FRAMES = 200
"""Percentiles are over the last so many frames."""


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile (0-1) of a few values; NaN without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@dataclass(frozen=True)
class Frame:
    """Times of one published frame in milliseconds; latency against the input's stamp."""

    total: float
    voxelize: float
    inference: float
    outside_network: float
    latency: float


@dataclass(frozen=True)
class Times:
    """What the last frames took.

    Attributes:
        slow_s: seconds from the first to the last of the newest unbroken run of frames that were too slow.
        last_at: monotonic second at which the newest frame ended; None before the first since activation.
    """

    frames: tuple[Frame, ...] = ()
    slow_s: float = 0.0
    last_at: float | None = None

    def values(self, name: str) -> list[float]:
        """One figure of every frame."""
        return [float(getattr(frame, name)) for frame in self.frames]


class Stopwatch:
    """Collects frames' times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all frames (at configure)."""
        with self._lock:
            self._frames: deque[Frame] = deque(maxlen=FRAMES)
        self.restart()

    def restart(self) -> None:
        """Begin a new run of frames (at activation): what was slow before is over."""
        with self._lock:
            self._slow_since: float | None = None
            self._last_at: float | None = None

    def add(self, frame: Frame, now: float, max_processing_ms: float) -> None:
        """Take in the times of one frame that ended ``now``."""
        with self._lock:
            self._frames.append(frame)
            self._last_at = now
            if frame.total <= max_processing_ms:
                self._slow_since = None
            elif self._slow_since is None:
                self._slow_since = now

    def times(self) -> Times:
        """The last frames at this moment."""
        with self._lock:
            slow = self._slow_since is not None and self._last_at is not None
            slow_s = self._last_at - self._slow_since if slow else 0.0  # type: ignore[operator]
            return Times(tuple(self._frames), slow_s, self._last_at)
