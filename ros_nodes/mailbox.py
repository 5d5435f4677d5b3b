"""One slot between the subscription and the worker, newest wins, with counters that always add up. No ROS import.

In every snapshot: received = published + dropped + rejected + in_flight, in_flight = (slot occupied) + (worker busy).
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

RECENT = 100
"""Fates of the last so many clouds make the drop ratio."""


@dataclass(frozen=True)
class Received:
    """A message and the monotonic second it arrived at."""

    message: Any
    arrived: float


@dataclass(frozen=True)
class Counts:
    """All counters at one moment.

    Attributes:
        dropped_newer: replaced in the slot by a newer message.
        dropped_deactivated: cleared from the slot, or finished too late, at deactivation.
        reasons: rejected clouds by reason; their sum is ``rejected``.
        consecutive_errors: inference errors since the last published cloud.
    """

    received: int = 0
    published: int = 0
    dropped_newer: int = 0
    dropped_deactivated: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    in_flight: int = 0
    all_invalid: int = 0
    stamp_regressions: int = 0
    consecutive_errors: int = 0
    drop_ratio: float = 0.0

    @property
    def dropped(self) -> int:
        """Clouds that were received and never answered, through no fault of their own."""
        return self.dropped_newer + self.dropped_deactivated

    @property
    def rejected(self) -> int:
        """Clouds that could not be labelled."""
        return sum(count for _, count in self.reasons)

    @property
    def balanced(self) -> bool:
        """The conservation law."""
        return self.received == self.published + self.dropped + self.rejected + self.in_flight

    def text(self) -> str:
        """One line for the log."""
        reasons = "".join(f", rejected_{reason} {count}" for reason, count in self.reasons)
        return (
            f"received {self.received}, published {self.published}, dropped {self.dropped} "
            f"(newer {self.dropped_newer}, deactivated {self.dropped_deactivated}), rejected {self.rejected}{reasons}, "
            f"in_flight {self.in_flight}"
        )


class Mailbox:
    """The slot, the active flag and the counters, all under one lock and condition.

    Nothing is computed or published under the lock. The worker calls ``take``, then exactly one of ``published``,
    ``rejected`` and ``discarded`` for what it took.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._active = False
        self._slot: Received | None = None
        self._busy = False
        self.reset()

    def reset(self) -> None:
        """All counters to 0 (at configure)."""
        with self._condition:
            self._received = self._published = self._dropped_newer = self._dropped_deactivated = 0
            self._all_invalid = self._regressions = self._errors = 0
            self._reasons: Counter[str] = Counter()
            self._fates: deque[bool] = deque(maxlen=RECENT)
            self._last_stamp: int | None = None

    @property
    def active(self) -> bool:
        """Whether messages are taken in."""
        with self._condition:
            return self._active

    def activate(self) -> None:
        """Begin to take messages in."""
        with self._condition:
            self._active = True

    def deactivate(self) -> None:
        """Stop taking messages in, empty the slot and wake the worker, which then ends."""
        with self._condition:
            self._active = False
            if self._slot is not None:
                self._slot = None
                self._dropped_deactivated += 1
            self._condition.notify_all()

    def put(self, message: Any, arrived: float) -> bool:
        """Receive a message; an older one still in the slot is dropped. False, and not counted, while inactive."""
        with self._condition:
            if not self._active:
                return False
            self._received += 1
            if self._slot is not None:
                self._dropped_newer += 1
                self._fates.append(True)
            self._slot = Received(message, arrived)
            self._condition.notify_all()
            return True

    def take(self) -> Received | None:
        """Wait for a message and become busy with it; None when deactivated."""
        with self._condition:
            while self._active and self._slot is None:
                self._condition.wait()
            if not self._active:
                return None
            received, self._slot = self._slot, None
            self._busy = True
            return received

    def stamped(self, nanoseconds: int) -> None:
        """Note the stamp of the message in hand; one that is not later than the last counts as a regression."""
        with self._condition:
            if self._last_stamp is not None and nanoseconds <= self._last_stamp:
                self._regressions += 1
            self._last_stamp = nanoseconds

    def published(self, all_invalid: bool = False) -> None:
        """The segmentation cloud of the message in hand is out."""
        with self._condition:
            self._busy = False
            self._published += 1
            self._all_invalid += all_invalid
            self._errors = 0
            self._fates.append(False)

    def rejected(self, reason: str) -> None:
        """The message in hand cannot be answered."""
        with self._condition:
            self._busy = False
            self._reasons[reason] += 1
            self._errors = self._errors + 1 if reason == "inference_error" else self._errors
            self._fates.append(False)

    def discarded(self) -> None:
        """The message in hand is answered too late: the node is no longer active."""
        with self._condition:
            self._busy = False
            self._dropped_deactivated += 1

    def counts(self) -> Counts:
        """All counters at this moment."""
        with self._condition:
            return Counts(
                received=self._received,
                published=self._published,
                dropped_newer=self._dropped_newer,
                dropped_deactivated=self._dropped_deactivated,
                reasons=tuple(sorted(self._reasons.items())),
                in_flight=int(self._slot is not None) + int(self._busy),
                all_invalid=self._all_invalid,
                stamp_regressions=self._regressions,
                consecutive_errors=self._errors,
                drop_ratio=sum(self._fates) / len(self._fates) if self._fates else 0.0,
            )
