"""The diagnostics thread: a snapshot of the node every period, in every state, configuring included."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode

from kd_seg.serving.labeller import summary
from ros_nodes import compat
from ros_nodes.cloud_input import CloudInput
from ros_nodes.health import Life, Model, Snapshot, report
from ros_nodes.input_health import Input, Thresholds, transport_finding
from ros_nodes.losses import LossWatch
from ros_nodes.mailbox import Counts, Mailbox
from ros_nodes.node_parameters import NodeParameters
from ros_nodes.outputs import NodeOutputs
from ros_nodes.qos import quality
from ros_nodes.stopwatch import Stopwatch
from ros_nodes.worker import Seen

REPEAT_S = 60.0
"""Trouble of the transport that stays is logged so often; other trouble, with a fix of its own, at once."""

LOOK_S = 1.0
"""A changed period counts from so many seconds on."""


@dataclass
class Condition:
    """What the node's transitions tell the diagnostics; each field is written by the executor's thread alone."""

    last_transition: str = ""
    last_error: str = ""
    warming_up: bool = False
    model: Model | None = None


@dataclass(frozen=True)
class Watched:
    """The parts of a node that its diagnostics show; ``seen`` gives the newest labelled cloud's figures."""

    mailbox: Mailbox
    stopwatch: Stopwatch
    condition: Condition
    outputs: NodeOutputs
    parameters: NodeParameters
    input: CloudInput
    seen: Callable[[], Seen | None]


class Reporter:
    """Publishes the diagnostics of a node from a plain publisher, so that they continue while the executor is busy."""

    def __init__(self, node: LifecycleNode, watched: Watched) -> None:
        self._node, self._watched = node, watched
        self._started = time.monotonic()
        self._host = socket.gethostname()
        self._losses = LossWatch()
        self._closing = threading.Event()
        self._logged_at: dict[str, float] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", quality(10, True))
        self._thread = threading.Thread(target=self._run, name="kd_seg diagnostics", daemon=True)

    def start(self) -> None:
        """Begin; parameters must be declared."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        node, mailbox = self._node, self._watched.mailbox
        before, at = Counts(), time.monotonic()
        while not self._closed_within_period():
            counts, now = mailbox.counts(), time.monotonic()
            try:
                snapshot = self._snapshot(counts, before, at, now)
                stamp = node.get_clock().now().to_msg()
                self._publisher.publish(compat.diagnostic_message(stamp, report(snapshot)))
                self._log_transport(snapshot, now)
            except Exception as error:
                if self._closing.is_set() or self._watched.outputs.stopping():
                    return
                node.get_logger().error(f"diagnostics failed: {summary(error)}")
            before, at = counts, now

    def _closed_within_period(self) -> bool:
        """Wait for the next report; True if there is none. The period may be changed meanwhile."""
        began = time.monotonic()
        while True:
            period_s = float(self._node.get_parameter("diagnostics_period_s").value)
            left_s = began + period_s - time.monotonic()
            if left_s <= 0.0 or self._closing.wait(min(left_s, LOOK_S)):
                return self._closing.is_set()

    def _log_transport(self, snapshot: Snapshot, now: float) -> None:
        """Say once for each fix, and again after a while, that clouds do not arrive."""
        found = transport_finding(snapshot.input, snapshot.thresholds) if snapshot.life.state == "active" else None
        if found is None:
            return
        fix = found[1].rpartition("; ")[2]
        if now - self._logged_at.get(fix, -REPEAT_S) >= REPEAT_S:
            self._logged_at[fix] = now
            self._node.get_logger().warning(found[1])

    def _snapshot(self, counts: Counts, before: Counts, at: float, now: float) -> Snapshot:
        watched = self._watched
        values = watched.parameters.values()
        fresh = counts.received - before.received if counts.received >= before.received else counts.received
        return Snapshot(
            node=self._node.get_fully_qualified_name().lstrip("/"),
            life=self._life(bool(values["autostart"]), now),
            input=self._input(fresh / (now - at), counts.received, now),
            counts=counts,
            before=before,
            times=watched.stopwatch.times(),
            thresholds=Thresholds(
                values["max_processing_ms"], values["max_delay_s"], values["input_timeout_s"], values["max_drop_ratio"]
            ),
            model=watched.condition.model,
            now=now,
        )

    def _life(self, autostart: bool, now: float) -> Life:
        condition = self._watched.condition
        return Life(
            state=compat.state_of(self._node),
            last_transition=condition.last_transition,
            last_error=condition.last_error,
            uptime_s=now - self._started,
            ros_distro=compat.distro(),
            rmw=compat.rmw(),
            autostart=autostart,
            warming_up=condition.warming_up,
            pid=os.getpid(),
            host=self._host,
        )

    def _input(self, rate_hz: float, received: int, now: float) -> Input:
        source, seen = self._watched.input, self._watched.seen()
        return Input(
            topic=source.topic,
            link=source.link(),
            rate_hz=rate_hz,
            last_age_s=seen.age_s if seen is not None else float("nan"),
            silent_s=source.silent_s(now),
            lost_in_transport=source.lost,
            losses=self._losses.add(now, received, source.lost),
            gaps=source.gaps.missing(),
            warnings=seen.warnings if seen is not None else (),
            details=_details(seen) if seen is not None else {},
        )


def _details(seen: Seen) -> dict[str, object]:
    return {
        "points": seen.figures.points,
        "valid_ratio": seen.figures.valid_ratio,
        "layout": seen.layout,
        "frame_id": seen.frame_id,
        "intensity_p99": seen.figures.intensity_p99,
        "ground_z_m": seen.figures.ground_z_m,
    }
