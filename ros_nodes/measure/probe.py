"""What ``replay_latency`` listens with: answers paired by stamp, the node's own times, its counters, CPU and memory."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64

from kd_seg.core.errors import KdSegError
from ros_nodes.qos import quality
from ros_nodes.stopwatch import percentile

FIGURES = ("since_reception", "total", "network", "outside_network", "publish")
"""Times of every frame that the node publishes while somebody listens."""

SAMPLE_S = 1.0
"""Memory goes up and down by a tenth within a frame, so that a few samples decide nothing."""

SHOWN = 10
"""Of so many samples one is reported."""

SETTLED_S = 300.0
"""From here on memory must not grow; in shorter runs from the first quarter on."""


class Probe(Node):
    """Sends, listens, and pairs by (sec, nanosec).

    Attributes:
        latencies: monotonic second of every answer, and milliseconds since its cloud was sent.
        figures: milliseconds of every frame by name, as the node measured them.
        counters: newest values of the node's diagnostics.
    """

    def __init__(self, topic: str, target: str, reliable: bool, depth: int) -> None:
        super().__init__("replay_latency")
        self.sent: dict[tuple[int, int], float] = {}
        self.latencies: list[tuple[float, float]] = []
        self.figures: dict[str, list[float]] = {name: [] for name in FIGURES}
        self.counters: dict[str, str] = {}
        self._tasks = {f"{target.lstrip('/')}: {task}" for task in ("lifecycle", "input", "inference")}
        self._lock = threading.Lock()
        self.cloud_publisher = self.create_publisher(PointCloud2, topic, quality(depth, reliable))
        self.create_subscription(PointCloud2, f"{target}/output/segmentation", self._answer, quality(5, True))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, quality(10, True))
        for name in FIGURES:
            time_topic = f"{target}/debug/processing_time/{name}_ms"
            self.create_subscription(Float64, time_topic, self._keep(self.figures[name]), quality(50, False))

    def send(self, message: PointCloud2) -> None:
        """Publish with the present moment as stamp."""
        message.header.stamp = self.get_clock().now().to_msg()
        key = (message.header.stamp.sec, message.header.stamp.nanosec)
        with self._lock:
            self.sent[key] = time.monotonic()
        self.cloud_publisher.publish(message)

    def wait_until_active(self, seconds: float, running: Callable[[], bool]) -> None:
        """Return once the node says it is active and listens; KdSegError if it ends or time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and running():
            if self.counters.get("state") == "active" and self.cloud_publisher.get_subscription_count():
                return
            time.sleep(0.1)
        raise KdSegError(f"the node did not become active; it said: {self.counters.get('last_error') or 'nothing'}")

    @staticmethod
    def _keep(box: list[float]) -> Callable[[Float64], None]:
        return lambda message: box.append(float(message.data))

    def _answer(self, message: PointCloud2) -> None:
        now = time.monotonic()
        with self._lock:
            sent = self.sent.pop((message.header.stamp.sec, message.header.stamp.nanosec), None)
            if sent is not None:
                self.latencies.append((now, 1e3 * (now - sent)))

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in self._tasks:
                self.counters.update({pair.key: pair.value for pair in status.values})


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of some times."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: percentile(values, share) for name, share in shares.items()}


def first_frame(values: Sequence[float]) -> dict[str, float]:
    """The first frame's time and the median of the next 50."""
    following = values[1:51]
    return {
        "ms": values[0] if values else float("nan"),
        "median_of_next_50_ms": median(following) if following else float("nan"),
    }


def process_figures(pid: int) -> tuple[float, float]:
    """CPU seconds used and resident MiB of a process, from /proc; NaN where it is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return float("nan"), float("nan")
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(stat[11]) + int(stat[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Course:
    """CPU time and memory of a process over a measurement; process 0 is none."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._started = self._sampled = time.monotonic()
        self._cpu_s, self._first_mb = process_figures(pid)
        self._seen: list[tuple[float, float]] = []

    def sample(self) -> None:
        """Note the memory, every second."""
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_S:
            self._sampled = now
            self._seen.append((round(now - self._started, 1), round(process_figures(self._pid)[1], 1)))

    def cpu_s(self) -> float:
        """CPU seconds since the start."""
        return process_figures(self._pid)[0] - self._cpu_s

    def memory(self) -> dict[str, object]:
        """Resident MiB at start, end and in between.

        ``growth_percent``: mean of the last tenth of the course against that of the tenth after five minutes.
        ``peak_growth_percent``: the same of the largest values.
        """
        length = self._seen[-1][0] if self._seen else 0.0
        settled = [mb for at, mb in self._seen if at >= min(SETTLED_S, length / 4)]
        part = max(1, len(settled) // 10)
        first, last = settled[:part], settled[-part:]
        end = process_figures(self._pid)[1]
        return {
            "start": self._first_mb,
            "end": end,
            "growth_percent": 100 * (fmean(last) / fmean(first) - 1) if settled else float("nan"),
            "peak_growth_percent": 100 * (max(last) / max(first) - 1) if settled else float("nan"),
            "course": self._seen[::SHOWN],
        }
