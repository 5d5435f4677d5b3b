"""Waits that fit the load of the computer."""

from __future__ import annotations

import os


def patience() -> float:
    """How much longer everything takes where more processes than cores want to run; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
