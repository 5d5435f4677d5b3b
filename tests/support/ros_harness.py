"""A real node in its own process and a peer that talks to it, for the tests that need a real rclpy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from patience import patience
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from ros_clouds import FakeCloud
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String

from kd_seg.serving.pointcloud2 import Field, Packed, to_array
from ros_nodes import compat

ROOT = Path(__file__).resolve().parents[2]
REMAP = ("-r", "~/input/points:=/points")
OK, WARN, ERROR = 0, 1, 2
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def environment() -> dict[str, str]:
    """For child processes: the checkout first, field checks on, this machine only, nothing else on the domain."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    extra = {"PYTHONPATH": path, "ROS_PYTHON_CHECK_FIELDS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **extra}


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of ``condition``; an AssertionError naming ``what`` when time, stretched by ``patience``, is
    over.
    """
    until = time.monotonic() + seconds * patience()
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"no {what} within {seconds} s")


class NodeProcess:
    """The segmentation node as a process; its log is a file."""

    def __init__(self, folder: Path, *extra: str, name: str = "node", **parameters: Any) -> None:
        defaults = {"warmup_frames": 1, "warmup_points": 1000, "num_threads": 1, "diagnostics_period_s": 0.2}
        arguments = [f"-p{key}:={_text(value)}" for key, value in {**defaults, **parameters}.items()]
        flat = [part for argument in arguments for part in ("-p", argument[2:])]
        command = [sys.executable, "-m", "ros_nodes.segmentation_node", "--ros-args", *flat, *extra]
        self.log = folder / f"{name}.log"
        with open(self.log, "w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment(), cwd=folder)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds * patience())
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the node did not stop:\n{self.text}") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_message(cloud: FakeCloud) -> PointCloud2:
    fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
    data = to_array(bytes(cloud.data))
    size, steps = (cloud.height, cloud.width), (cloud.point_step, cloud.row_step)
    return compat.cloud_message(cloud.header, Packed(*size, fields, cloud.is_bigendian, *steps, data, cloud.is_dense))


class Peer:
    """A node of the test's own, spinning in a thread; what arrives is kept by topic."""

    def __init__(self, target: str = "/segmentation") -> None:
        self.target = target
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("peer", context=self.context)
        self.received: dict[str, list[Any]] = {}
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[tuple[Any, str], Any] = {}
        self._ending = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ending:
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._ending = True
        self._thread.join(5)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            assert isinstance(status.level, bytes)
            values = {pair.key: pair.value for pair in status.values}
            self.diagnostics[status.name] = (status.level[0], status.message, values)

    def status(self, task: str) -> tuple[int, str, dict[str, str]]:
        return self.diagnostics.get(f"{self.target.lstrip('/')}: {task}", (-1, "", {}))

    def counters(self) -> dict[str, int]:
        values = {**self.status("input")[2], **self.status("inference")[2]}
        names = ("received", "published", "dropped", "rejected", "in_flight")
        return {name: int(values.get(name, -1)) for name in names}

    def listen(self, name: str, kind: Any = PointCloud2, latched: bool = False, reliable: bool = True) -> list[Any]:
        """Subscribe below the target node; the list fills by itself."""
        topic = f"{self.target}/{name}"
        box = self.received.setdefault(topic, [])
        durability = QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE
        reliability = QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=50, durability=durability, reliability=reliability)
        self.node.create_subscription(kind, topic, box.append, qos)
        return box

    def label_text(self) -> list[String]:
        return self.listen("label_info_json", String, latched=True)

    def times(self, name: str) -> list[Float64]:
        return self.listen(f"debug/{name}", Float64, reliable=False)

    def publisher(self, topic: str = "/points", reliable: bool = False) -> Any:
        reliability = QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT
        return self.node.create_publisher(PointCloud2, topic, QoSProfile(depth=5, reliability=reliability))

    def call(self, kind: Any, name: str, request: Any, seconds: float = 60.0) -> Any:
        key = (kind, name)
        if key not in self._clients:
            self._clients[key] = self.node.create_client(kind, f"{self.target}/{name}")
        client = self._clients[key]
        assert client.wait_for_service(20.0 * patience()), f"no service {name}"
        future = client.call_async(request)
        wait_for(future.done, seconds, f"answer of {name}")
        return future.result()

    def change(self, transition: str, seconds: float = 90.0) -> bool:
        request = ChangeState.Request()
        if transition in TRANSITIONS:
            request.transition.id = TRANSITIONS[transition]
        else:
            request.transition.label = transition
        return bool(self.call(ChangeState, "change_state", request, seconds).success)

    def state(self) -> str:
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def set(self, **values: Any) -> tuple[bool, str]:
        """Set parameters; a double underscore in a name is a dot."""
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        answer = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=parameters))
        return all(r.successful for r in answer.results), "; ".join(r.reason for r in answer.results)
