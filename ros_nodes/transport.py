"""How clouds come to the node: what publishers offer, what the machine allows, what to set. No ROS import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SMALL_BUFFER = 2 * 2**20
"""Bytes of socket buffer below which large clouds get lost."""

FAST_DDS, CYCLONE_DDS = ("rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp"), ("rmw_cyclonedds_cpp",)
RELIABLE = "use a reliable driver with input_reliable:=true"
LESS_OR_LONGER = "give the computer less to do, or driver and node (qos_depth) longer queues"
"""Reliable clouds get lost where newer ones replace them before they are through."""


@dataclass(frozen=True)
class Link:
    """The connection of a topic's publishers to the node.

    Attributes:
        rmw: the middleware's name.
        offered: for each publisher, whether it sends reliably.
        reliable: whether the node's subscription is.
        cloud_bytes: size of the newest cloud; 0 before the first.
    """

    rmw: str = "unknown"
    offered: tuple[bool, ...] = ()
    reliable: bool = False
    cloud_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Whether the node subscribes as the publishers offer."""
        return not self.offered or self.reliable == all(self.offered)

    def text(self) -> str:
        """Publishers, middleware and size, such as "1 publisher (best effort) over rmw_x, clouds of 2.7 MB"."""
        count = len(self.offered)
        kinds = {reliability(one) for one in self.offered}
        publishers = f"{count} publisher{'s' if count > 1 else ''} ({' and '.join(sorted(kinds))})"
        size = f", clouds of {1e-6 * self.cloud_bytes:.1f} MB" if self.cloud_bytes else ""
        return f"{publishers} over {self.rmw}{size}"


def reliability(reliable: bool) -> str:
    """The QoS policy in words."""
    return "reliable" if reliable else "best effort"


def decide(asked: bool | str, offered: Sequence[bool], now: bool) -> bool:
    """Whether to subscribe reliably.

    Args:
        asked: the parameter ``input_reliable``. "auto": reliably where every publisher offers it, because a reliable
            subscription hears nothing from a best-effort publisher.
        offered: for each publisher, whether it sends reliably; without any the subscription stays as it is.
        now: whether it is reliable.
    """
    if isinstance(asked, bool):
        return asked
    return all(offered) if offered else now


def fix(link: Link, lost: bool) -> str:
    """What to set where clouds of matched publishers do not arrive; ``lost``: some are known to have been sent."""
    if not link.fits and link.reliable:
        return "a reliable input hears nothing from a best-effort driver: set input_reliable to auto"
    if not link.fits:
        return "the driver is reliable: set input_reliable to auto"
    if link.reliable and not lost:
        return "check that driver and node share RMW_IMPLEMENTATION"
    instead = LESS_OR_LONGER if link.reliable else RELIABLE
    if link.rmw in CYCLONE_DDS:
        return f"raise net.core.rmem_max and give driver and node the profile cyclonedds.xml, or {instead}"
    if link.rmw in FAST_DDS and not link.reliable:
        return f"give the driver's terminal the profile fastdds.xml, or {instead}"
    return instead


def profile_setting(rmw: str, folder: Path) -> tuple[str, str] | None:
    """Environment variable and value that give a process the shipped profile; None for an unknown middleware.

    Args:
        folder: where ``fastdds.xml`` and ``cyclonedds.xml`` lie.
    """
    if rmw in FAST_DDS:
        return "FASTRTPS_DEFAULT_PROFILES_FILE", str(folder / "fastdds.xml")
    if rmw in CYCLONE_DDS:
        return "CYCLONEDDS_URI", f"file://{folder / 'cyclonedds.xml'}"
    return None


def largest_receive_buffer() -> int | None:
    """``net.core.rmem_max`` in bytes; None where the system does not tell."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return None


def buffer_warning() -> str | None:
    """A sentence where the receive buffer is too small for large clouds."""
    size = largest_receive_buffer()
    if size is None or size >= SMALL_BUFFER:
        return None
    return f"net.core.rmem_max is {size}; large clouds get lost below {SMALL_BUFFER}, see docs/vehicle.md"
