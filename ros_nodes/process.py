"""The process around a node: signals, the loop, the exit code."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

ONE_REQUEST_S = 1.0
"""Signals to stop that come this close together are one."""

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Numbers of the settings in malloc.h of glibc."""

KEPT_BYTES = 2**30
LARGEST_THRESHOLD = 2**25
"""The most that glibc takes for MMAP_THRESHOLD."""


def serve(make: Callable[[threading.Event], Any], args: list[str] | None) -> int:
    """Spin a node until it is to end; returns the exit code.

    0: stopped. 2: ROS refused the command line or ``make`` a parameter. Else the node's ``exit_code``, which it sets to
    end the process itself.

    Args:
        make: gives the node; the event it gets is set when the process is to end.
        args: the command line, ROS's part included; None = the process's own.
    """
    stop = threading.Event()
    _handle_signals(stop)
    _keep_memory()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make(stop)
    except Exception as error:
        print(f"segmentation node: {reason(error)}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while rclpy.ok() and not stop.is_set() and node.exit_code is None:
        executor.spin_once(timeout_sec=0.1)
    stop.set()
    ended = node.close()
    code = node.exit_code or 0
    executor.remove_node(node)
    if not ended:
        # The worker still holds the publishers: destroying them under it would crash, waiting for it has no end.
        sys.stderr.flush()
        os._exit(code)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return code


def reason(error: Exception) -> str:
    """The first line of an error, without the places in rcl's source that it names."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return re.sub(r", at \S+:\d+", "", text)


def _keep_memory() -> None:
    """Let freed memory serve the next frame, where the C library is glibc; elsewhere nothing changes.

    As it comes, glibc gives tens of megabytes back to the system within a frame and asks for them again: page faults
    by the thousand, and a process size that goes up and down. One arena, because the worker's own would still do so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(ARENA_MAX, 1)
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, LARGEST_THRESHOLD)


def _handle_signals(stop: threading.Event) -> None:
    """The first SIGINT or SIGTERM asks for an orderly end, a second ends at once with 130.

    What follows within ``ONE_REQUEST_S`` is the same request: systemd signals the whole group, of which ros2 launch is
    one that passes it on.
    """
    asked: list[float] = []

    def handler(number: int, frame: Any) -> None:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > ONE_REQUEST_S:
            os._exit(130)
        stop.set()

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
