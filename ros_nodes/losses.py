"""Clouds that were sent and did not arrive, by the middleware's count and by gaps between stamps. No ROS import."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

WINDOW_S = 30.0
KEPT_STAMPS = 60
LEAST_GAPS = 10
"""With fewer distances between stamps nothing is concluded."""


@dataclass(frozen=True)
class Losses:
    """``lost`` of ``expected`` clouds."""

    lost: int = 0
    expected: int = 0

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.lost / self.expected if self.expected else 0.0

    def text(self) -> str:
        """Such as "116 of 136"."""
        return f"{self.lost} of {self.expected}"


class LossWatch:
    """Losses of the last ``WINDOW_S`` seconds, from two counters that only grow."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, received: int, lost: int) -> Losses:
        """Take in both counters at a monotonic second; counters that fell begin again."""
        if self._seen and (received < self._seen[-1][1] or lost < self._seen[-1][2]):
            self._seen.clear()
        self._seen.append((now, received, lost))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_S:
            self._seen.popleft()
        _, received_before, lost_before = self._seen[0]
        fresh = lost - lost_before
        return Losses(fresh, received - received_before + fresh)


class StampGaps:
    """What is missing between the stamps of the last clouds, for middlewares that count no losses.

    A sensor's stamps are one period apart, so a distance of three periods is two clouds that never came. Too low where
    so many are lost that no two neighbours arrive; wrong for a sensor without a period.
    """

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=KEPT_STAMPS)

    def note(self, nanoseconds: int) -> None:
        """Take in a cloud's stamp; one that does not advance begins again."""
        if self._stamps and nanoseconds <= self._stamps[-1]:
            self._stamps.clear()
        self._stamps.append(nanoseconds)

    def clear(self) -> None:
        """Forget all stamps: what was not listened for is not missing."""
        self._stamps.clear()

    def missing(self) -> Losses:
        """Missing and expected clouds between the first and the last of the kept stamps."""
        stamps = list(self._stamps)
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        if len(gaps) < LEAST_GAPS:
            return Losses()
        period = sorted(gaps)[len(gaps) // 10]
        steps = sum(max(1, round(gap / period)) for gap in gaps)
        return Losses(steps - len(gaps), steps + 1)
