"""The last few outputs of a teacher, as neighbouring scans share pictures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from kd_seg.images.projection.cameras import Shot

T = TypeVar("T")


class Remembering(Generic[T]):
    """Calls a function of a picture once, while the picture is among the last ``size`` asked for."""

    def __init__(self, function: Callable[[Shot], T], size: int = 16) -> None:
        self.function, self.size = function, size
        self._kept: OrderedDict[tuple[str, int, str], T] = OrderedDict()

    def __call__(self, shot: Shot) -> T:
        """The function's value for a picture."""
        if shot.key not in self._kept:
            self._kept[shot.key] = self.function(shot)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shot.key)
        return self._kept[shot.key]
