"""One end of a transport trial as a process: ``send`` or ``receive`` clouds of a size, and print what became of them.

Run by ``check_transport``: python -m ros_nodes.measure.one_way send /topic 2700000 10 50 best_effort
"""

from __future__ import annotations

import array
import json
import sys
import time
from typing import Any

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2, PointField

from ros_nodes import compat
from ros_nodes.qos import quality
from ros_nodes.stopwatch import percentile

POINT_STEP = 20
MEET_S = 60.0
"""Longest wait for the other end."""

SETTLE_S = 2.0
"""The receiver waits so long after the last cloud, or after the sender has gone."""


def cloud(size: int) -> PointCloud2:
    """A cloud with ``size`` bytes of data, rounded down to whole points."""
    points = max(1, size // POINT_STEP)
    names = ("x", "y", "z", "intensity", "time")
    message = PointCloud2(height=1, width=points, point_step=POINT_STEP, row_step=points * POINT_STEP, is_dense=True)
    message.fields = [PointField(name=name, offset=4 * k, datatype=7, count=1) for k, name in enumerate(names)]
    message.data = array.array("B", bytes(points * POINT_STEP))
    return message


def send(node: Node, topic: str, size: int, rate: float, count: int, reliable: bool) -> dict[str, Any]:
    """Publish ``count`` clouds once somebody listens; returns how many were sent and what a publish call took."""
    publisher = node.create_publisher(PointCloud2, topic, quality(5, reliable))
    message, took = cloud(size), []
    met = time.monotonic() + MEET_S
    while not publisher.get_subscription_count() and time.monotonic() < met:
        rclpy.spin_once(node, timeout_sec=0.05)
    time.sleep(1.0)
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        began = time.monotonic()
        publisher.publish(message)
        took.append(1e3 * (time.monotonic() - began))
    time.sleep(SETTLE_S)
    return {"sent": count, "publish_ms": percentile(took, 0.5)}


def receive(node: Node, topic: str, size: int, rate: float, count: int, reliable: bool) -> dict[str, Any]:
    """Count clouds until all came or the sender has gone; returns how many, lost events, and milliseconds from stamp
    to callback.
    """
    ages: list[float] = []
    lost = 0

    def take(message: PointCloud2) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        ages.append(1e-6 * (node.get_clock().now().nanoseconds - stamp_ns))

    def count_lost(number: int) -> None:
        nonlocal lost
        lost += number

    # Held until the end: a subscription that nothing refers to is gone.
    subscription = compat.subscribe(node, topic, quality(5, reliable), take, lambda policy: None, count_lost)
    ends, met = time.monotonic() + MEET_S, False
    while len(ages) < count and time.monotonic() < ends:
        rclpy.spin_once(node, timeout_sec=0.05)
        if not met and node.count_publishers(topic):
            met, ends = True, time.monotonic() + MEET_S + count / rate
        if met and not node.count_publishers(topic):
            ends = min(ends, time.monotonic() + SETTLE_S)
    node.destroy_subscription(subscription)
    return {"received": len(ages), "met": met, "lost_events": lost, "ms": percentile(ages, 0.5)}


def main() -> int:
    """Run one end; its result is one line of JSON on stdout."""
    role, topic, size, rate, count, reliable = sys.argv[1:7]
    rclpy.init()
    node = rclpy.create_node(f"check_transport_{role}")
    run = send if role == "send" else receive
    found = run(node, topic, int(size), float(rate), int(count), reliable == "reliable")
    print(json.dumps({**found, "rmw": compat.rmw()}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
