"""What is wrong with the input, in sentences with the fix: silence, losses, sensor. No ROS import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ros_nodes.losses import Losses
from ros_nodes.mailbox import Counts
from ros_nodes.transport import Link, fix, reliability

OK, WARN, ERROR = 0, 1, 2
NONE = Losses()
MOST = 0.5
"""A larger share of lost clouds is an error."""

MANY = 0.2
"""A larger share of clouds missing between stamps is a warning; the estimate is not exact."""


@dataclass(frozen=True)
class Thresholds:
    """The parameters that decide levels."""

    max_processing_ms: float = 100.0
    max_delay_s: float = 2.0
    input_timeout_s: float = 2.0
    max_drop_ratio: float = 0.2


@dataclass(frozen=True)
class Input:
    """What comes in.

    Attributes:
        silent_s: seconds since the last message or, without one, since activation.
        lost_in_transport: losses that the middleware counted since configuring.
        losses: those of the last seconds.
        gaps: clouds missing between the last stamps.
        warnings: sentences that hold now (sensor mismatches).
        details: further values to show (points, valid_ratio, layout ...).
    """

    topic: str
    link: Link
    rate_hz: float
    last_age_s: float
    silent_s: float
    lost_in_transport: int = 0
    losses: Losses = NONE
    gaps: Losses = NONE
    warnings: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


def input_findings(given: Input, limits: Thresholds) -> list[tuple[int, str]]:
    """Levels and sentences of an active node's input; empty where all is well."""
    transport = transport_finding(given, limits)
    found = [transport] if transport is not None else []
    if not given.link.offered:
        found.append((WARN, f"no publisher on {given.topic}; remap the input to the driver's topic"))
    return [*found, *((WARN, sentence) for sentence in given.warnings)]


def transport_finding(given: Input, limits: Thresholds) -> tuple[int, str] | None:
    """Level and sentence where clouds do not arrive: the first that holds of silence, losses, missing stamps."""
    link = given.link
    if given.silent_s > limits.input_timeout_s:
        silence = f"no input on {given.topic} for {given.silent_s:.1f} s"
        if not link.offered:
            return ERROR, f"{silence}: it has no publisher; remap the input to the driver's topic"
        if given.losses.lost:
            silence += f": {given.losses.text()} clouds were lost in transport"
        unsure = "" if given.losses.lost or not link.fits else "if the driver sends (its own log tells), "
        return ERROR, f"{silence} from {link.text()}; {unsure}{fix(link, bool(given.losses.lost))}"
    if given.losses.lost:
        level = ERROR if given.losses.share > MOST else WARN
        return level, f"{given.losses.text()} clouds were lost in transport from {link.text()}; {fix(link, True)}"
    if given.gaps.share > MANY and link.offered:
        return WARN, f"by their stamps {given.gaps.text()} clouds are missing from {link.text()}; {fix(link, True)}"
    return None


def input_values(given: Input, counts: Counts) -> dict[str, object]:
    """The values of the input's status."""
    return {
        "topic": given.topic,
        "publishers": len(given.link.offered),
        "reliability": reliability(given.link.reliable),
        "received": counts.received,
        "rate_hz": given.rate_hz,
        "last_age_s": given.last_age_s,
        "cloud_mb": 1e-6 * given.link.cloud_bytes,
        **given.details,
        "stamp_regressions": counts.stamp_regressions,
        "lost_in_transport": given.lost_in_transport,
        "missing_by_stamps": given.gaps.lost,
    }
