"""Ctrl-C while training: the step in hand is finished, and files that belong together are written together."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Literal

Mode = Literal["step", "write", "wait"]


class Interrupts:
    """Holds SIGINT back as long as it would leave things half done.

    In a "step" the first Ctrl-C is remembered, and ``check`` raises it once the step is whole; a second one ends the
    step at once. In "write" all are remembered. In "wait", while nothing of the run changes, the first is raised at
    once. Outside the main thread, where Python delivers no signals, nothing is held back.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mode: Mode = "step"
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.mode == "wait" or (self.mode == "step" and self.count > 1):
            raise KeyboardInterrupt
        if self.count == 1:
            logging.getLogger("kd_seg.training").warning("stopping after this step; press Ctrl-C again to stop at once")

    @contextmanager
    def during(self, mode: Mode) -> Iterator[None]:
        """Within it another mode holds."""
        before, self.mode = self.mode, mode
        try:
            yield
        finally:
            self.mode = before

    def check(self) -> None:
        """Raise a Ctrl-C that was held back."""
        if self.count:
            raise KeyboardInterrupt
