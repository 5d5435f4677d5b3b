"""What the machine allows the transport. No ROS import."""

from __future__ import annotations

from pathlib import Path

SMALL_BUFFER = 2 * 2**20
"""Bytes of socket buffer below which large clouds get lost."""


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
