"""Send clouds to a running node at a fixed rate, pair its answers by stamp, and report latency and losses as JSON.

Example: ros2 run kd_seg replay_latency --rate 10 --duration 60 --pid $(pgrep -f segmentation_node)

With ``--play`` it only plays a bag's clouds at the bag's own pace, for machines without rosbag2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from kd_seg.bag_files import cloud_connections, open_bag
from kd_seg.errors import KdSegError, UsageError
from kd_seg.labelling import MadeUpMessage, made_up_message
from kd_seg.pointcloud2 import Field, Packed
from kd_seg.scans import read_points
from kd_seg.segmenter import made_up_cloud
from ros_nodes import compat
from ros_nodes.descriptors import quality
from ros_nodes.health import percentile

KEPT = 8
"""Different clouds that are sent in turn."""

SETTLE_S = 3.0
"""Wait for answers after the last cloud."""


def options(args: Sequence[str]) -> argparse.Namespace:
    """Parse the command line (without ROS's part)."""
    parser = argparse.ArgumentParser(prog="replay_latency", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--bag", type=Path, help="bag whose clouds are sent")
    source.add_argument("--scans", type=Path, help="folder of .bin files that are sent (intensity 0..1)")
    parser.add_argument("--topic", default="/points", help="where the node listens; also the bag's topic")
    parser.add_argument("--node", default="/segmentation", help="the node's full name")
    parser.add_argument("--rate", type=float, default=10.0, help="clouds a second")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds")
    parser.add_argument("--points", type=int, default=120_000, help="points of a made-up cloud")
    parser.add_argument("--reliable", action="store_true", help="publish reliably; the node needs input_reliable")
    parser.add_argument("--pid", type=int, default=0, help="process id of the node, for its CPU time and memory")
    parser.add_argument("--play", action="store_true", help="only play the bag, with its stamps, at its own pace")
    parser.add_argument("--speed", type=float, default=1.0, help="of --play")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds before the first cloud, for discovery")
    return parser.parse_args(list(args))


def bag_clouds(path: Path, topic: str) -> Iterator[tuple[int, Any]]:
    """Bag time and message of every cloud on a topic."""
    with open_bag(path) as reader:
        for connection, time_ns, raw in reader.messages(cloud_connections(reader, topic, path)):
            yield time_ns, reader.deserialize(raw, connection.msgtype)


def to_message(cloud: Any) -> PointCloud2:
    """A ROS message from a bag's or a made-up one, stamps included where it has some."""
    fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
    size, steps = (cloud.height, cloud.width), (cloud.point_step, cloud.row_step)
    packed = Packed(*size, fields, cloud.is_bigendian, *steps, cloud.data, cloud.is_dense)
    return compat.cloud_message(PointCloud2().header if isinstance(cloud, MadeUpMessage) else cloud.header, packed)


def sources(asked: argparse.Namespace) -> list[PointCloud2]:
    """The clouds to send in turn; UsageError where there are none."""
    clouds: list[Any] = []
    if asked.bag is not None:
        for _, message in bag_clouds(asked.bag, asked.topic):
            clouds.append(message)
            if len(clouds) == KEPT:
                break
    elif asked.scans is not None:
        clouds = [made_up_message(read_points(path)) for path in sorted(asked.scans.glob("*.bin"))[:KEPT]]
    else:
        for seed in range(KEPT):
            points = made_up_cloud(asked.points, seed)
            points[:, 3] *= 255
            clouds.append(made_up_message(points))
    if not clouds:
        raise UsageError(f"{asked.bag or asked.scans} holds no clouds to send.")
    return [to_message(cloud) for cloud in clouds]


def process_figures(pid: int) -> tuple[float, float]:
    """CPU seconds used and resident MiB of a process, from /proc; NaN where it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return float("nan"), float("nan")
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(stat[11]) + int(stat[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Probe(Node):
    """Sends, listens, and pairs by (sec, nanosec)."""

    def __init__(self, asked: argparse.Namespace) -> None:
        super().__init__("replay_latency")
        self.sent: dict[tuple[int, int], float] = {}
        self.latencies: list[tuple[float, float]] = []
        self.counters: dict[str, str] = {}
        self._inference = f"{asked.node.lstrip('/')}: inference"
        self._lock = threading.Lock()
        self.cloud_publisher = self.create_publisher(PointCloud2, asked.topic, quality(5, asked.reliable))
        self.create_subscription(PointCloud2, f"{asked.node}/output/segmentation", self._answer, quality(5, True))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, quality(10, True))

    def send(self, message: PointCloud2) -> None:
        """Publish with the present moment as stamp."""
        message.header.stamp = self.get_clock().now().to_msg()
        key = (message.header.stamp.sec, message.header.stamp.nanosec)
        with self._lock:
            self.sent[key] = time.monotonic()
        self.cloud_publisher.publish(message)

    def _answer(self, message: PointCloud2) -> None:
        now = time.monotonic()
        with self._lock:
            sent = self.sent.pop((message.header.stamp.sec, message.header.stamp.nanosec), None)
            if sent is not None:
                self.latencies.append((now, 1e3 * (now - sent)))

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in (self._inference, self._inference.replace("inference", "input")):
                self.counters.update({pair.key: pair.value for pair in status.values})


def measure(probe: Probe, clouds: list[PointCloud2], asked: argparse.Namespace) -> dict[str, Any]:
    """Send at the rate asked for; returns the report."""
    time.sleep(asked.wait)
    cpu_before, memory_before = process_figures(asked.pid)
    before = dict(probe.counters)
    memory: list[tuple[float, float]] = []
    start, number = time.monotonic(), 0
    while time.monotonic() - start < asked.duration and rclpy.ok():
        probe.send(clouds[number % len(clouds)])
        number += 1
        if number % max(1, int(asked.rate * 10)) == 0:
            memory.append((round(time.monotonic() - start, 1), round(process_figures(asked.pid)[1], 1)))
        time.sleep(max(0.0, start + number / asked.rate - time.monotonic()))
    elapsed = time.monotonic() - start
    time.sleep(SETTLE_S)
    cpu_after, memory_after = process_figures(asked.pid)
    latencies = [value for _, value in probe.latencies]
    quarter = elapsed / 4
    early = [value for at, value in probe.latencies if at - start < quarter]
    late = [value for at, value in probe.latencies if at - start > elapsed - quarter]
    answered = len(latencies)
    report = {
        "sent": number,
        "answered": answered,
        "lost": number - answered,
        "seconds": round(elapsed, 2),
        "answers_per_second": round(answered / elapsed, 3),
        "ms": {
            **{name: percentile(latencies, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
            "max": max(latencies, default=float("nan")),
            "p95_first_quarter": percentile(early, 0.95),
            "p95_last_quarter": percentile(late, 0.95),
        },
        "node_cpu_s_per_frame": (cpu_after - cpu_before) / answered if answered else float("nan"),
        "node_rss_mb": {"start": memory_before, "end": memory_after, "course": memory},
        "counters_before": before,
        "counters": probe.counters,
        "rmem_max": _rmem_max(),
    }
    return _without_nan(report)


def _rmem_max() -> int | None:
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return None


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if value != value else round(value, 3)
    return value


def play(probe: Probe, asked: argparse.Namespace) -> None:
    """Publish a bag's clouds as recorded, at the recorded distances of time."""
    if asked.bag is None:
        raise UsageError("--play needs --bag.")
    time.sleep(asked.wait)
    start, first = time.monotonic(), None
    for time_ns, message in bag_clouds(asked.bag, asked.topic):
        first = time_ns if first is None else first
        wait = start + (time_ns - first) * 1e-9 / asked.speed - time.monotonic()
        time.sleep(max(0.0, wait))
        if not rclpy.ok():
            return
        probe.cloud_publisher.publish(to_message(message))
    time.sleep(SETTLE_S)


def main(args: list[str] | None = None) -> int:
    """Entry point; the report goes to stdout. Exit codes: 0, 1 without a single answer, 2 wrong usage."""
    given = sys.argv[1:] if args is None else args
    asked = options(rclpy.utilities.remove_ros_args(["replay_latency", *given])[1:])
    rclpy.init(args=given)
    probe = Probe(asked)
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
    spinner.start()
    try:
        if asked.play:
            play(probe, asked)
            return 0
        report = measure(probe, sources(asked), asked)
    except KdSegError as error:
        print(f"replay_latency: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()
        spinner.join(2.0)
    print(json.dumps(report))
    return 0 if report["answered"] else 1


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


if __name__ == "__main__":
    sys.exit(main())
