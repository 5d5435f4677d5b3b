"""The lifecycle node: PointCloud2 in, labelled PointCloud2 out. It translates; ``kd_seg`` does the work."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String

from kd_seg.core.errors import ConfigError
from kd_seg.serving.labeller import Labeller, filter_ids, label_info_json, label_pairs, summary
from kd_seg.serving.parameters import PARAMETERS, cloud_settings
from kd_seg.serving.pointcloud2 import Packed
from kd_seg.serving.segmenter import Segmenter
from ros_nodes import compat
from ros_nodes.descriptors import quality
from ros_nodes.health import Input, Life, Model, Snapshot, Stopwatch, Thresholds, report
from ros_nodes.mailbox import Counts, Mailbox
from ros_nodes.node_parameters import NodeParameters
from ros_nodes.transport import buffer_warning
from ros_nodes.worker import Worker

INPUT = "~/input/points"
CLOUDS = ("segmentation", "visualization", "filtered")
STAGES = ("decode", "voxelize", "inference", "encode", "publish", "total")
SHARES = ("network", "outside_network", "since_reception")
TIMES = (*(f"processing_time/{stage}_ms" for stage in (*STAGES, *SHARES)), "pipeline_latency_ms", "cyclic_time_ms")
WARM_UP_LEAST = 1000
"""Points of the cloud that compiles the kernels even where ``warmup_frames`` is 0."""

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class StoppedError(Exception):
    """The process was asked to stop while configuring."""


class SegmentationNode(LifecycleNode):
    """Labels live clouds; see docs/vehicle.md for topics, parameters and diagnostics.

    Args:
        stop: set when the process is to end; checked between the frames of the warm-up.

    The constructor declares parameters and starts the diagnostics; it touches no file and no device. It raises where a
    parameter given from outside is of the wrong type or out of range.
    """

    def __init__(self, stop: threading.Event, name: str = "segmentation") -> None:
        super().__init__(name)
        self.exit_code: int | None = None
        self._stop = stop
        self._started = time.monotonic()
        self._mailbox = Mailbox()
        self._stopwatch = Stopwatch()
        self._labeller: Labeller | None = None
        self._model: Model | None = None
        self._worker: Worker | None = None
        self._subscription: Any = None
        self._publishers_by_name: dict[str, Any] = {}
        self._label_publishers: list[Any] = []
        self._last_transition, self._last_error, self._warming_up = "", "", False
        self._lost = 0
        self._last_input: float | None = None
        self._active_since = 0.0
        self._closing = threading.Event()
        self._parameters_of = NodeParameters(self, self._class_names)
        compat.guard_transitions(self)
        self._topic = self.resolve_topic_name(INPUT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", quality(10, True))
        self._reporter = threading.Thread(target=self._report_forever, name="kd_seg diagnostics", daemon=True)
        self._reporter.start()
        if self.get_parameter("autostart").value:
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    # Lifecycle --------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, warm up, publish the labels."""
        return self._transition("configure", self._configure, self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, then listen."""
        return self._transition("activate", lambda: self._activate(state), self._stop_working)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the frame in hand."""
        return self._transition("deactivate", lambda: self._deactivate(state), None)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of network and publishers."""
        return self._transition("cleanup", self._release, None)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate if active, then clean up."""

        def work() -> None:
            if not self._stop_working():
                self.get_logger().error("the frame in hand did not end within stop_timeout_s")
            self._release()

        return self._transition("shutdown", work, None)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again; ``last_error`` stays shown."""
        try:
            self._stop_working()
            self._release()
        except Exception as error:
            self.get_logger().error(f"releasing after an error failed: {summary(error)}")
        return SUCCESS

    def _transition(self, name: str, work: Callable[[], Any], undo: Callable[[], Any] | None) -> Any:
        """Run a transition's work; a failure is said in one sentence, kept for diagnostics, and undone."""
        self._last_transition = name
        try:
            answer = work()
        except Exception as error:
            if undo is not None:
                undo()
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.get_logger().debug(traceback.format_exc())
            if isinstance(error, StoppedError):
                self.get_logger().info(f"{name} stopped")
            else:
                self._last_error = f"{name} failed: {reason}"
                self.get_logger().error(self._last_error)
            return FAILURE
        if answer is ERROR:
            return ERROR
        self._last_error = ""
        return SUCCESS

    def _class_names(self) -> tuple[str, ...] | None:
        return self._labeller.segmenter.classes.names if self._labeller is not None else None

    def _configure(self) -> None:
        if self._worker is not None and not self._worker.join(0.0):
            raise RuntimeError("a frame of the earlier run is still being computed")
        values = self._parameters_of.values()
        for parameter in PARAMETERS:
            problem = parameter.problem(values[parameter.name])
            if problem is not None:
                raise ConfigError(problem)
        self._warming_up = True
        started = time.monotonic()
        try:
            settings = cloud_settings(values)
            segmenter = Segmenter(
                Path(values["checkpoint"]) if values["checkpoint"] else None,
                values["device"],
                values["precision"],
                values["num_threads"],
            )
            filter_ids(settings.filter_classes, segmenter.classes.names)
            labeller = Labeller(segmenter, settings.intensity_fields)
            self._warm_up(labeller, values)
        finally:
            self._warming_up = False
        details = {**labeller.details(), "warmup_s": time.monotonic() - started}
        self._model = Model(details, values["device"] == "auto" and segmenter.device.type == "cpu")
        self._labeller = labeller
        self._create_publishers(bool(values["output_reliable"]))
        self._publish_labels(segmenter)
        warning = buffer_warning()
        if warning is not None:
            self.get_logger().warning(warning)
        self._mailbox.reset()
        self._stopwatch.reset()
        self._lost = 0

    def _warm_up(self, labeller: Labeller, values: dict[str, Any]) -> None:
        sensor = cloud_settings(values).sensor
        for frame in range(1 + values["warmup_frames"]):
            if self._stop.is_set():
                raise StoppedError
            labeller.warm_up(values["warmup_points"] if frame else WARM_UP_LEAST, frame, sensor)

    def _create_publishers(self, reliable: bool) -> None:
        for name in CLOUDS:
            publisher = self.create_lifecycle_publisher(PointCloud2, f"~/output/{name}", quality(1, reliable))
            self._publishers_by_name[name] = publisher
        for name in TIMES:
            publisher = self.create_lifecycle_publisher(Float64, f"~/debug/{name}", quality(1, False))
            self._publishers_by_name[name] = publisher

    def _publish_labels(self, segmenter: Segmenter) -> None:
        """Latched, on plain publishers: lifecycle publishers drop what is published before activation."""
        text = self.create_publisher(String, "~/label_info_json", quality(1, True, latched=True))
        text.publish(String(data=label_info_json(segmenter)))
        self._label_publishers.append(text)
        info = compat.label_message(self.get_clock().now().to_msg(), label_pairs(segmenter))
        if info is None:
            self.get_logger().info("vision_msgs is not installed; labels are on label_info_json only")
            return
        publisher = self.create_publisher(type(info), "~/label_info", quality(1, True, latched=True))
        publisher.publish(info)
        self._label_publishers.append(publisher)

    def _activate(self, state: LifecycleState) -> None:
        assert self._labeller is not None
        super().on_activate(state)
        self._active_since, self._last_input = time.monotonic(), None
        self._mailbox.activate()
        self._worker = Worker(
            self._mailbox, self._labeller, self._stopwatch, self, self._parameters_of.frame_settings, self.get_logger()
        )
        self._worker.start()
        depth = int(self.get_parameter("qos_depth").value)
        profile = quality(depth, bool(self.get_parameter("input_reliable").value))
        self._subscription = compat.subscribe(
            self, INPUT, profile, self._receive, self._say_incompatible, self._count_lost
        )

    def _deactivate(self, state: LifecycleState) -> Any:
        ended = self._stop_working()
        super().on_deactivate(state)
        if not ended:
            self._last_error = "deactivate failed: the frame in hand did not end within stop_timeout_s"
            self.get_logger().error(self._last_error)
            return ERROR
        return SUCCESS

    def _stop_working(self) -> bool:
        """Clear the active flag, stop listening, empty the slot, join the worker; False if it does not end in time."""
        self._mailbox.deactivate()
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._worker is None:
            return True
        ended = self._worker.join(float(self.get_parameter("stop_timeout_s").value))
        if ended:
            self._worker = None
        return ended

    def _release(self) -> None:
        for publisher in self._publishers_by_name.values():
            self.destroy_lifecycle_publisher(publisher)
        for publisher in self._label_publishers:
            self.destroy_publisher(publisher)
        self._publishers_by_name, self._label_publishers = {}, []
        labeller, self._labeller, self._model = self._labeller, None, None
        if labeller is not None:
            labeller.release()
        # Networks are cycles of references: without this a hundred cleanups leave a hundred megabytes behind.
        del labeller
        gc.collect()

    def _autostart(self) -> None:
        """Configure and activate, once; runs on the executor like any transition."""
        self.destroy_timer(self._autostart_timer)
        if compat.state_of(self) != "unconfigured":
            return
        if self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS:
            return
        if self.get_parameter("exit_on_autostart_failure").value and not self._stop.is_set():
            self.exit_code = 3

    # Input and output -------------------------------------------------------------------------------------------

    def _receive(self, message: PointCloud2) -> None:
        now = time.monotonic()
        if self._mailbox.put(message, now):
            self._last_input = now

    def _say_incompatible(self, policy: str) -> None:
        self.get_logger().warning(
            f"a publisher on {self._topic} has an incompatible {policy} policy and sends nothing here; "
            f"set input_reliable to false or change the driver's QoS"
        )

    def _count_lost(self, count: int) -> None:
        self._lost += count

    def wanted(self, name: str) -> bool:
        """Whether anybody subscribes to an output."""
        return bool(self._publishers_by_name[name].get_subscription_count() > 0)

    def publish_cloud(self, name: str, header: Any, packed: Packed) -> None:
        """Publish one of the cloud outputs; called by the worker."""
        self._publishers_by_name[name].publish(compat.cloud_message(header, packed))

    def publish_time(self, name: str, milliseconds: float) -> None:
        """Publish one figure if somebody listens; called by the worker."""
        if self.wanted(name):
            self._publishers_by_name[name].publish(Float64(data=float(milliseconds)))

    def now_ns(self) -> int:
        """The node's clock in nanoseconds."""
        return int(self.get_clock().now().nanoseconds)

    def stopping(self) -> bool:
        """Whether publishing fails because the process ends."""
        return self._stop.is_set() or not self.context.ok()

    # Diagnostics ------------------------------------------------------------------------------------------------

    def _report_forever(self) -> None:
        before, at = Counts(), time.monotonic()
        while not self._closing.wait(float(self.get_parameter("diagnostics_period_s").value)):
            counts, now = self._mailbox.counts(), time.monotonic()
            fresh = counts.received - before.received if counts.received >= before.received else counts.received
            try:
                snapshot = self._snapshot(counts, before, fresh / (now - at), now)
                stamp = self.get_clock().now().to_msg()
                self._diagnostics.publish(compat.diagnostic_message(stamp, report(snapshot)))
            except Exception as error:
                if self._closing.is_set() or self.stopping():
                    return
                self.get_logger().error(f"diagnostics failed: {summary(error)}")
            before, at = counts, now

    def _snapshot(self, counts: Counts, before: Counts, rate_hz: float, now: float) -> Snapshot:
        values = self._parameters_of.values()
        life = Life(
            state=compat.state_of(self),
            last_transition=self._last_transition,
            last_error=self._last_error,
            uptime_s=now - self._started,
            ros_distro=compat.distro(),
            rmw=compat.rmw(),
            autostart=bool(values["autostart"]),
            warming_up=self._warming_up,
        )
        thresholds = Thresholds(
            values["max_processing_ms"], values["max_delay_s"], values["input_timeout_s"], values["max_drop_ratio"]
        )
        return Snapshot(
            node=self.get_fully_qualified_name().lstrip("/"),
            life=life,
            input=self._input(rate_hz, now),
            counts=counts,
            before=before,
            times=self._stopwatch.times(),
            thresholds=thresholds,
            model=self._model,
            now=now,
        )

    def _input(self, rate_hz: float, now: float) -> Input:
        worker = self._worker
        seen = worker.seen if worker is not None else None
        last = self._last_input if self._last_input is not None else self._active_since
        details: dict[str, object] = {}
        if seen is not None:
            details = {
                "points": seen.figures.points,
                "valid_ratio": seen.figures.valid_ratio,
                "layout": seen.layout,
                "frame_id": seen.frame_id,
                "intensity_p99": seen.figures.intensity_p99,
                "ground_z_m": seen.figures.ground_z_m,
            }
        return Input(
            topic=self._topic,
            publishers=self.count_publishers(self._topic),
            rate_hz=rate_hz,
            last_age_s=seen.age_s if seen is not None else float("nan"),
            silent_s=now - last,
            lost_in_transport=self._lost,
            warnings=seen.warnings if seen is not None else (),
            details=details,
        )

    # End --------------------------------------------------------------------------------------------------------

    def close(self) -> bool:
        """Shut down from whatever state, say the final counters; False if a frame is still being computed."""
        if compat.state_of(self) in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()
        self._closing.set()
        self._reporter.join(2.0)
        ended = self._worker is None
        self.get_logger().info(f"stopped: {self._mailbox.counts().text()}")
        return ended
