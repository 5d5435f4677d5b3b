"""The lifecycle node: PointCloud2 in, labelled PointCloud2 out. It translates; ``kd_seg`` does the work."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from kd_seg.core.errors import ConfigError
from kd_seg.serving.labeller import Labeller, filter_ids, summary
from kd_seg.serving.parameters import PARAMETERS, cloud_settings
from kd_seg.serving.segmenter import Segmenter, network_threads
from kd_seg.serving.sources import home
from ros_nodes import compat
from ros_nodes.cloud_input import CloudInput
from ros_nodes.health import Model
from ros_nodes.mailbox import Mailbox
from ros_nodes.node_parameters import NodeParameters
from ros_nodes.outputs import NodeOutputs
from ros_nodes.reporter import Condition, Reporter, Watched
from ros_nodes.stopwatch import Stopwatch
from ros_nodes.transport import buffer_warning
from ros_nodes.worker import Seen, Worker

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
        self.mailbox = Mailbox()
        self.stopwatch = Stopwatch()
        self.condition = Condition()
        self.outputs = NodeOutputs(self, stop)
        self.parameters = NodeParameters(self, self._class_names)
        self.input = CloudInput(self, self.mailbox.put)
        self._stop = stop
        self._all_threads = network_threads()
        self._labeller: Labeller | None = None
        self._worker: Worker | None = None
        compat.guard_transitions(self)
        self._reporter = Reporter(
            self,
            Watched(
                self.mailbox,
                self.stopwatch,
                self.condition,
                self.outputs,
                self.parameters,
                self.input,
                self.seen,
            ),
        )
        self._reporter.start()
        if self.get_parameter("autostart").value:
            self._autostart_timer = self.create_timer(0.0, self._autostart)

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
        self.condition.last_transition = name
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
                self._fail(f"{name} failed: {reason}")
            return FAILURE
        if answer is ERROR:
            return ERROR
        self.condition.last_error = ""
        return SUCCESS

    def _fail(self, sentence: str) -> None:
        self.condition.last_error = sentence
        self.get_logger().error(sentence)

    def _class_names(self) -> tuple[str, ...] | None:
        return self._labeller.segmenter.classes.names if self._labeller is not None else None

    def _configure(self) -> None:
        if self._worker is not None and not self._worker.join(0.0):
            raise RuntimeError("a frame of the earlier run is still being computed")
        values = self.parameters.values()
        for parameter in PARAMETERS:
            problem = parameter.problem(values[parameter.name])
            if problem is not None:
                raise ConfigError(problem)
        started = time.monotonic()
        self.condition.warming_up = True
        try:
            labeller = self._load(values)
        finally:
            self.condition.warming_up = False
        took = time.monotonic() - started
        self._take_over(labeller, values, took)
        details = labeller.details()
        threads = f", {details['threads']} thread{'s' if details['threads'] != 1 else ''}"
        network, device = labeller.segmenter.spec.size, details["device"]
        self.get_logger().info(f"configured in {took:.1f} s: {network}, {device}{threads if device == 'cpu' else ''}")

    def _load(self, values: dict[str, Any]) -> Labeller:
        """A student that has run every kernel on made-up clouds."""
        settings = cloud_settings(values)
        checkpoint = home(Path(values["checkpoint"])) if values["checkpoint"] else None
        threads = values["num_threads"] or self._all_threads  # an earlier configuration may have asked for fewer
        segmenter = Segmenter(checkpoint, values["device"], values["precision"], threads)
        filter_ids(settings.filter_classes, segmenter.classes.names)
        labeller = Labeller(segmenter, settings.intensity_fields)
        for frame in range(1 + values["warmup_frames"]):
            if self._stop.is_set():
                raise StoppedError
            labeller.warm_up(values["warmup_points"] if frame else WARM_UP_LEAST, frame, settings.sensor)
        return labeller

    def _take_over(self, labeller: Labeller, values: dict[str, Any], took: float) -> None:
        """Make the loaded student the node's: publishers, labels, counters at 0."""
        segmenter = labeller.segmenter
        fell_back = values["device"] == "auto" and segmenter.device.type == "cpu"
        self.condition.model = Model({**labeller.details(), "warmup_s": took}, fell_back)
        self._labeller = labeller
        self.outputs.create(bool(values["output_reliable"]))
        self.outputs.publish_labels(segmenter)
        warning = buffer_warning()
        if warning is not None:
            self.get_logger().warning(warning)
        self.mailbox.reset()
        self.stopwatch.reset()
        self.input.reset()

    def _activate(self, state: LifecycleState) -> None:
        assert self._labeller is not None
        super().on_activate(state)
        self.stopwatch.restart()
        self.mailbox.activate()
        self._worker = Worker(
            self.mailbox,
            self._labeller,
            self.stopwatch,
            self.outputs,
            self.parameters.frame_settings,
            self.get_logger(),
        )
        self._worker.start()
        self.input.open(self.get_parameter("input_reliable").value, int(self.get_parameter("qos_depth").value))

    def _deactivate(self, state: LifecycleState) -> Any:
        ended = self._stop_working()
        super().on_deactivate(state)
        if not ended:
            self._fail("deactivate failed: the frame in hand did not end within stop_timeout_s")
            return ERROR
        return SUCCESS

    def _stop_working(self) -> bool:
        """Clear the active flag, stop listening, empty the slot, join the worker; False if it does not end in time."""
        self.mailbox.deactivate()
        self.input.close()
        if self._worker is None:
            return True
        ended = self._worker.join(float(self.get_parameter("stop_timeout_s").value))
        if ended:
            self._worker = None
        return ended

    def _release(self) -> None:
        self.outputs.destroy()
        labeller, self._labeller, self.condition.model = self._labeller, None, None
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

    def seen(self) -> Seen | None:
        """The newest labelled cloud's figures."""
        worker = self._worker
        return worker.seen if worker is not None else None

    def close(self) -> bool:
        """Shut down from whatever state, say the final counters; False if a frame is still being computed."""
        if compat.state_of(self) in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()
        self._reporter.close()
        ended = self._worker is None
        self.get_logger().info(f"stopped: {self.mailbox.counts().text()}")
        return ended
