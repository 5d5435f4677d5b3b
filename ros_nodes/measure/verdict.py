"""What trials of the transport mean, each in one sentence. No ROS import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH = 0.98
"""A transport that delivers at least this share of the clouds is good."""

RAISE_BUFFER = "sudo sysctl -w net.core.rmem_max=2147483647"


@dataclass(frozen=True)
class Trial:
    """Clouds sent from one process to another.

    Attributes:
        setting: what the trial adds to the terminal's own settings, as a command or a few words; "" = nothing.
        ms: median milliseconds from stamp to callback; NaN without any cloud.
        failure: last line of a process that ended early; "" = none.
    """

    setting: str
    sent: int
    received: int
    ms: float
    rmw: str
    failure: str = ""

    @property
    def delivers(self) -> bool:
        """Whether enough clouds arrived."""
        return self.sent > 0 and self.received >= ENOUGH * self.sent

    def count(self) -> str:
        """Such as "21 of 80 arrived"."""
        return f"{self.received} of {self.sent} arrived"


def verdict(trials: Sequence[Trial], megabytes: float, rate: float) -> str:
    """One sentence on the first trial, this terminal's own settings, and the first of the others that delivers."""
    first, others = trials[0], trials[1:]
    clouds = f"clouds of {megabytes:g} MB at {rate:g} Hz over {first.rmw}"
    if first.delivers:
        return f"This machine delivers {clouds}: {first.count()}, {first.ms:.1f} ms each."
    found = f"This machine does not deliver {clouds} ({first.failure or first.count()})"
    for trial in others:
        if trial.delivers:
            return f"{found}; {trial.setting} does it: {trial.count()}."
    tried = "".join(f"; with {trial.setting} {trial.failure or trial.count()}" for trial in others)
    return f"{found}{tried}; run {RAISE_BUFFER} and measure again, or send smaller clouds less often."


def lost_on_the_way(sent: int, received: int) -> str | None:
    """A sentence where a node received too few of the clouds that a process sent; None where it has enough."""
    if received >= ENOUGH * sent:
        return None
    what_to_do = "ros2 run kd_seg check_transport, in this terminal, says what to set"
    return f"{sent - received} of {sent} clouds did not reach the node; {what_to_do}."
