"""The subscription to the driver's clouds: how reliable it is, when it was last heard of, what got lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import PointCloud2

from ros_nodes import compat
from ros_nodes.losses import StampGaps
from ros_nodes.qos import quality
from ros_nodes.transport import Link, decide, reliability

INPUT = "~/input/points"
CHECK_S = 0.5
"""With ``input_reliable: auto`` publishers are asked for what they offer so often."""


class CloudInput:
    """Listens while it is open.

    Args:
        receive: gets every cloud and the monotonic second it arrived at; False if it is not taken in.

    Attributes:
        lost: clouds that the middleware reported as lost since ``reset``.
        gaps: what is missing between the stamps.
    """

    def __init__(self, node: LifecycleNode, receive: Callable[[PointCloud2, float], bool]) -> None:
        self.topic: str = node.resolve_topic_name(INPUT)
        self.lost = 0
        self.gaps = StampGaps()
        self._node = node
        self._receive = receive
        self._asked: bool | str = "auto"
        self._depth = 1
        self._reliable = False
        self._cloud_bytes = 0
        self._heard = 0.0
        self._subscription: Any = None
        self._timer: Any = None

    def reset(self) -> None:
        """Forget losses and sizes (at configure)."""
        self.lost, self._cloud_bytes = 0, 0

    def open(self, asked: bool | str, depth: int) -> None:
        """Subscribe, as the publishers offer where ``asked`` is "auto", and say so."""
        self._asked, self._depth, self._heard = asked, depth, time.monotonic()
        self.gaps.clear()
        offered = self._offered()
        self._subscribe(decide(asked, offered, False))
        if not isinstance(asked, bool):
            # A clock that stands still, as simulated time may, must not keep this timer from running.
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = self._node.create_timer(CHECK_S, self._follow_publishers, clock=steady)
        doing = "listening to" if offered else "waiting for"
        self._node.get_logger().info(f"active: {doing} {self.topic} ({reliability(self._reliable)})")

    def close(self) -> None:
        """Stop listening; nothing where it is closed."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def link(self) -> Link:
        """The connection at this moment."""
        return Link(compat.rmw(), self._offered(), self._reliable, self._cloud_bytes)

    def silent_s(self, now: float) -> float:
        """Seconds since the last cloud or, without one, since opening."""
        return now - self._heard

    def _offered(self) -> tuple[bool, ...]:
        return compat.offered_reliability(self._node, self.topic)

    def _subscribe(self, reliable: bool) -> None:
        self._reliable = reliable
        self._subscription = compat.subscribe(
            self._node, INPUT, quality(self._depth, reliable), self._take, self._say_incompatible, self._count_lost
        )

    def _follow_publishers(self) -> None:
        """Subscribe again where the publishers changed what they offer."""
        wanted = decide(self._asked, self._offered(), self._reliable)
        if wanted == self._reliable or self._subscription is None:
            return
        self._node.destroy_subscription(self._subscription)
        self._subscribe(wanted)
        why = "every publisher is reliable" if wanted else "a publisher is best effort"
        self._node.get_logger().info(f"listening to {self.topic} ({reliability(wanted)}): {why}")

    def _take(self, message: PointCloud2) -> None:
        now = time.monotonic()
        if not self._receive(message, now):
            return
        self._heard, self._cloud_bytes = now, len(message.data)
        self.gaps.note(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)

    def _say_incompatible(self, policy: str) -> None:
        if policy == "RELIABILITY" and not isinstance(self._asked, bool):
            return  # the next look at the publishers resolves it
        self._node.get_logger().warning(
            f"a publisher on {self.topic} has an incompatible {policy} policy and sends nothing here; "
            f"set input_reliable to auto or change the driver's QoS"
        )

    def _count_lost(self, count: int) -> None:
        self.lost += count
