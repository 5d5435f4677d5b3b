"""The one thread that computes: takes clouds from the mailbox, has them labelled, publishes. No ROS import."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kd_seg.serving.labeller import Labelled, Labeller, summary
from kd_seg.serving.parameters import InputSettings
from kd_seg.serving.pointcloud2 import CloudRejectedError, Packed
from kd_seg.serving.sensor_input import FrameFigures, SensorWatch
from ros_nodes.mailbox import Mailbox, Received
from ros_nodes.stopwatch import Frame, Stopwatch

WARN_PERIOD_S = 10.0
"""At most one line per reason in this time."""


class Outputs(Protocol):
    """Where a worker's results go; the node implements it on ROS publishers."""

    def wanted(self, name: str) -> bool:
        """Whether anybody listens to an output."""

    def publish_cloud(self, name: str, header: Any, packed: Packed) -> None:
        """Publish segmentation, visualization or filtered."""

    def publish_time(self, name: str, milliseconds: float) -> None:
        """Publish one figure of the frame if somebody listens."""

    def now_ns(self) -> int:
        """The node's clock."""

    def stopping(self) -> bool:
        """Whether publishers fail because the process ends."""


class Log(Protocol):
    """The part of a logger that is used here."""

    def info(self, message: str) -> Any:
        """Good to know."""

    def warning(self, message: str) -> Any:
        """Worth attention."""


@dataclass(frozen=True)
class FrameSettings:
    """What a frame needs to know, read once at its start."""

    cloud: InputSettings
    max_processing_ms: float


@dataclass(frozen=True)
class Seen:
    """The newest labelled cloud, for diagnostics; ``age_s`` from stamp to take."""

    frame_id: str
    layout: str
    age_s: float
    figures: FrameFigures
    warnings: tuple[str, ...]


class Worker:
    """Labels until the mailbox is deactivated.

    Args:
        read: gives the settings of the next frame.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        labeller: Labeller,
        stopwatch: Stopwatch,
        outputs: Outputs,
        read: Callable[[], FrameSettings],
        log: Log,
    ) -> None:
        self.seen: Seen | None = None
        self._mailbox = mailbox
        self._labeller = labeller
        self._stopwatch = stopwatch
        self._outputs = outputs
        self._read = read
        self._log = log
        self._watch = SensorWatch(labeller.segmenter.sensor)
        self._layout = ""
        self._warned: dict[str, float] = {}
        self._last_publish: float | None = None
        self._thread = threading.Thread(target=self._run, name="kd_seg worker", daemon=True)

    def start(self) -> None:
        """Begin; the mailbox must be active."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the frame in hand; False if it does not end in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (received := self._mailbox.take()) is not None:
            self._handle(received)
            # The message must not outlive its frame: waiting with it in hand would hold megabytes.
            del received

    def _handle(self, received: Received) -> None:
        taken = time.monotonic()
        message = received.message
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self._mailbox.stamped(stamp_ns)
        settings = self._read()
        age_s = (self._outputs.now_ns() - stamp_ns) * 1e-9
        try:
            labelled = self._labeller.label(message, settings.cloud.sensor, settings.cloud.limits, age_s)
        except CloudRejectedError as rejection:
            self._mailbox.rejected(rejection.reason)
            self._warn(rejection.reason, str(rejection))
            return
        if not self._mailbox.active:
            self._mailbox.discarded()
            return
        ready = time.monotonic()
        try:
            self._outputs.publish_cloud("segmentation", message.header, labelled.segmentation)
        except Exception as error:
            if self._outputs.stopping():
                self._mailbox.discarded()
            else:
                self._mailbox.rejected("publish_error")
                self._warn("publish_error", f"publish failed: {summary(error)}")
            return
        published = time.monotonic()
        self._mailbox.published(labelled.all_invalid)
        latency_ms = (self._outputs.now_ns() - stamp_ns) * 1e-6
        if labelled.all_invalid:
            self._warn("no_valid_points", f"none of the cloud's {len(labelled.points)} points is valid")
        try:
            self._follow_up(received, labelled, settings, age_s, latency_ms, taken, ready, published)
        except Exception as error:
            if not self._outputs.stopping():
                self._warn("extra_output", f"an output beside the segmentation failed: {summary(error)}")

    def _follow_up(
        self,
        received: Received,
        labelled: Labelled,
        settings: FrameSettings,
        age_s: float,
        latency_ms: float,
        taken: float,
        ready: float,
        published: float,
    ) -> None:
        """All that is not the segmentation cloud: the other clouds, times, figures of the sensor."""
        outputs, message = self._outputs, received.message
        if outputs.wanted("visualization"):
            outputs.publish_cloud("visualization", message.header, self._labeller.visualization(labelled))
        if outputs.wanted("filtered"):
            removed = self._labeller.removed(settings.cloud.filter_classes, settings.cloud.remove_invalid)
            outputs.publish_cloud("filtered", message.header, self._labeller.filtered(message, labelled, removed))
        total_ms = 1e3 * (published - taken)
        times = {
            **labelled.timings,
            "publish": 1e3 * (published - ready),
            "total": total_ms,
            "outside_network": total_ms - labelled.timings["network"],
            "since_reception": 1e3 * (published - received.arrived),
        }
        for name, milliseconds in times.items():
            outputs.publish_time(f"processing_time/{name}_ms", milliseconds)
        outputs.publish_time("pipeline_latency_ms", latency_ms)
        if self._last_publish is not None:
            outputs.publish_time("cyclic_time_ms", 1e3 * (published - self._last_publish))
        self._last_publish = published
        frame = Frame(total_ms, times["voxelize"], times["inference"], times["outside_network"], latency_ms)
        self._stopwatch.add(frame, published, settings.max_processing_ms)
        self._look_at_sensor(message, labelled, settings, age_s)

    def _look_at_sensor(self, message: Any, labelled: Labelled, settings: FrameSettings, age_s: float) -> None:
        figures = labelled.figures()
        for sentence in self._watch.add(figures, settings.cloud.sensor):
            self._log.warning(sentence)
        layout = str(labelled.cloud.layout) if labelled.cloud.layout is not None else self._layout
        if layout != self._layout:
            self._log.info(f"input layout is {layout}")
            self._layout = layout
        self.seen = Seen(str(message.header.frame_id), layout, age_s, figures, tuple(self._watch.sentences()))

    def _warn(self, reason: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._warned.get(reason, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned[reason] = now
            self._log.warning(sentence)
