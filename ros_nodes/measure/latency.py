"""Send clouds to a running node at a fixed rate, pair its answers by stamp, and report latency and losses as JSON.

Example: ros2 run kd_seg replay_latency --start --scans sequences/00/velodyne --rate 10 --duration 60

With ``--play`` it only plays a bag's clouds at the bag's own pace, for machines without rosbag2.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2

from kd_seg.core.errors import KdSegError, UsageError
from kd_seg.scans import read_points
from kd_seg.serving.bag_io import cloud_connections, open_bag
from kd_seg.serving.labeller import MadeUpMessage, made_up_message
from kd_seg.serving.pointcloud2 import Field, Packed, to_array
from kd_seg.serving.segmenter import made_up_cloud
from ros_nodes import compat
from ros_nodes.measure.probe import Course, Probe, first_frame, spread
from ros_nodes.measure.started_node import StartedNode, node_pid
from ros_nodes.measure.verdict import lost_on_the_way
from ros_nodes.stopwatch import percentile
from ros_nodes.transport import largest_receive_buffer

KEPT = 8
"""Different clouds that are sent in turn."""

SETTLE_S = 3.0
"""Wait for answers after the last cloud."""

START_S = 300.0
"""Longest wait for a node of our own to become active."""


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
    parser.add_argument(
        "--pid", type=int, nargs="+", help="process id of the node; may be left out for a node on this machine"
    )
    parser.add_argument("--start", action="store_true", help="start a node for the measurement and stop it after")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME:=VALUE", help="parameter of the --start node"
    )
    parser.add_argument("--depth", type=int, default=5, help="clouds that the transport may hold on either side")
    parser.add_argument("--play", action="store_true", help="only play the bag, with its stamps, at its own pace")
    parser.add_argument("--speed", type=float, default=1.0, help="of --play")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds before the first cloud, for discovery")
    asked = parser.parse_args(list(args))
    if not (asked.rate > 0 and asked.duration > 0 and asked.speed > 0 and asked.points > 0 and asked.depth > 0):
        parser.error("--rate, --duration, --speed, --points and --depth must be above 0")
    return asked


def bag_clouds(path: Path, topic: str) -> Iterator[tuple[int, Any]]:
    """Bag time and message of every cloud on a topic."""
    with open_bag(path) as reader:
        for connection, time_ns, raw in reader.messages(cloud_connections(reader, topic, path)):
            yield time_ns, reader.deserialize(raw, connection.msgtype)


def to_message(cloud: Any) -> PointCloud2:
    """A ROS message from a bag's or a made-up one, stamps included where it has some."""
    fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
    size, steps = (cloud.height, cloud.width), (cloud.point_step, cloud.row_step)
    packed = Packed(*size, fields, cloud.is_bigendian, *steps, to_array(cloud.data), cloud.is_dense)
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


def measure(probe: Probe, clouds: list[PointCloud2], asked: argparse.Namespace, pid: int) -> dict[str, Any]:
    """Send at the rate asked for; returns the report."""
    course = Course(pid)
    before = dict(probe.counters)
    start, number = time.monotonic(), 0
    while time.monotonic() - start < asked.duration and rclpy.ok():
        probe.send(clouds[number % len(clouds)])
        number += 1
        course.sample()
        time.sleep(max(0.0, start + number / asked.rate - time.monotonic()))
    elapsed = time.monotonic() - start
    time.sleep(SETTLE_S)
    arrived, latencies = [at - start for at, _ in probe.latencies], [value for _, value in probe.latencies]
    early = [value for at, value in zip(arrived, latencies, strict=True) if at < elapsed / 4]
    late = [value for at, value in zip(arrived, latencies, strict=True) if at > 0.75 * elapsed]
    answered = len(latencies)
    return {
        "sent": number,
        "answered": answered,
        "lost": number - answered,
        "seconds": round(elapsed, 2),
        "answers_per_second": round(answered / elapsed, 3),
        "ms": {
            **spread(latencies),
            "p95_first_quarter": percentile(early, 0.95),
            "p95_last_quarter": percentile(late, 0.95),
        },
        "node_ms": {name: spread(values) for name, values in probe.figures.items()},
        "first_frame": first_frame(probe.figures["since_reception"]),
        "node_cpu_s_per_frame": course.cpu_s() / answered if answered else float("nan"),
        "node_rss_mb": course.memory(),
        "counters_before": before,
        "counters": dict(probe.counters),
        "rmem_max": largest_receive_buffer(),
        "load_average": os.getloadavg()[0],
    }


def gmacs(checkpoint: str, path: Path | None) -> float:
    """Multiply-adds, in thousands of millions, of a checkpoint's network on the first scan of a folder."""
    if path is None:
        return float("nan")
    from kd_seg.networks import collate, encode
    from kd_seg.networks.work import multiply_adds
    from kd_seg.serving.segmenter import Segmenter

    student = Segmenter(checkpoint or None, "cpu")
    encoding = student.spec.encoding
    encoded = encode(read_points(sorted(path.glob("*.bin"))[0]), None, encoding)
    return 1e-9 * multiply_adds(student.network, collate([encoded], encoding.grid))


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
    probe = Probe(asked.topic, asked.node, asked.reliable, asked.depth)
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
    spinner.start()
    try:
        if asked.play:
            play(probe, asked)
            return 0
        report = _measured(probe, asked)
    except KdSegError as error:
        print(f"replay_latency: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()
        spinner.join(2.0)
    print(json.dumps(_without_nan(report)))
    before, after = (int(report[name].get("received", 0)) for name in ("counters_before", "counters"))
    warning = lost_on_the_way(report["sent"], after - before)
    if warning is not None:
        print(f"replay_latency: {warning}", file=sys.stderr)
    return 0 if report["answered"] else 1


def _measured(probe: Probe, asked: argparse.Namespace) -> dict[str, Any]:
    """The report on a running node, or on one of its own that is stopped again."""
    clouds = sources(asked)
    if not asked.start:
        time.sleep(asked.wait)
        return measure(probe, clouds, asked, node_pid(asked.pid or [], probe.counters, socket.gethostname()))
    node = StartedNode(asked.node, asked.topic, own_parameters(asked))
    try:
        probe.wait_until_active(START_S, node.running)
        time.sleep(asked.wait)
        report = measure(probe, clouds, asked, node.pid)
        report["end"] = node.end(report["sent"])
    finally:
        node.kill()
    given = dict(text.split(":=", 1) for text in asked.parameter)
    report["gmacs"] = gmacs(given.get("checkpoint", ""), asked.scans)
    return report


def own_parameters(asked: argparse.Namespace) -> list[str]:
    """Parameters of a node of our own, as NAME:=VALUE; those asked for come last and win."""
    unit = ["input.intensity_range:=unit"] if asked.scans is not None else []
    reliable = ["input_reliable:=true"] if asked.reliable else []
    return ["autostart:=true", f"qos_depth:={asked.depth}", *unit, *reliable, *asked.parameter]


def _spin(executor: SingleThreadedExecutor) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        return


if __name__ == "__main__":
    sys.exit(main())
