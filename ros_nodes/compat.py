"""Everything that differs between Humble and Jazzy, and building messages the cheap way on both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSReliabilityPolicy, qos_policy_name_from_kind
from sensor_msgs.msg import PointCloud2, PointField

if TYPE_CHECKING:
    from kd_seg.serving.pointcloud2 import Field, Packed
    from ros_nodes.health import Status

try:  # Jazzy
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # vision_msgs is not part of a ROS installation
    LabelInfo = VisionClass = None

RCLError: Any = rclpy_implementation.RCLError


def distro() -> str:
    """Name of the ROS distribution, as its setup file says."""
    return os.environ.get("ROS_DISTRO", "unknown")


def rmw() -> str:
    """Name of the middleware in use."""
    return str(rclpy.get_rmw_implementation_identifier())


def cloud_message(header: Any, packed: Packed) -> PointCloud2:
    """A PointCloud2 with the header copied field by field; the bytes are handed over, not copied.

    ``data`` takes an array.array at no cost; NumPy, bytes and lists are checked or converted byte by byte.
    """
    message = PointCloud2()
    message.header.stamp.sec = header.stamp.sec
    message.header.stamp.nanosec = header.stamp.nanosec
    message.header.frame_id = header.frame_id
    message.height = packed.height
    message.width = packed.width
    message.fields = list(_point_fields(packed.fields))
    message.is_bigendian = packed.is_bigendian
    message.point_step = packed.point_step
    message.row_step = packed.row_step
    message.data = packed.data
    message.is_dense = packed.is_dense
    return message


@lru_cache
def _point_fields(fields: tuple[Field, ...]) -> tuple[PointField, ...]:
    """Made once per layout; a message's fields are never changed after it is made."""
    return tuple(PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in fields)


def diagnostic_message(stamp: Any, statuses: Sequence[Status]) -> DiagnosticArray:
    """A DiagnosticArray of the plain statuses; a level is one byte."""
    message = DiagnosticArray()
    message.header.stamp = stamp
    for status in statuses:
        one = DiagnosticStatus(name=status.name, message=status.message, hardware_id="kd_seg")
        one.level = bytes([status.level])
        one.values = [KeyValue(key=key, value=value) for key, value in status.values.items()]
        message.status.append(one)
    return message


def label_message(stamp: Any, pairs: Sequence[tuple[int, str]]) -> Any:
    """A LabelInfo, or None where vision_msgs is not installed."""
    if LabelInfo is None:
        return None
    message = LabelInfo()
    message.header.stamp = stamp
    message.class_map = [VisionClass(class_id=number, class_name=name) for number, name in pairs]
    message.threshold = 0.0
    return message


def subscribe(
    node: Any,
    topic: str,
    qos: Any,
    callback: Callable[[Any], None],
    incompatible: Callable[[str], None],
    lost: Callable[[int], None],
) -> Any:
    """Subscribe to clouds; ``incompatible`` gets the QoS policy's name, ``lost`` the count of lost messages.

    A middleware without the message-lost event is asked for the other alone.
    """

    def on_incompatible(event: Any) -> None:
        incompatible(qos_policy_name_from_kind(event.last_policy_kind))

    def on_lost(event: Any) -> None:
        lost(int(event.total_count_change))

    both = SubscriptionEventCallbacks(incompatible_qos=on_incompatible, message_lost=on_lost)
    try:
        return node.create_subscription(PointCloud2, topic, callback, qos, event_callbacks=both)
    except UnsupportedEventTypeError:
        one = SubscriptionEventCallbacks(incompatible_qos=on_incompatible)
        return node.create_subscription(PointCloud2, topic, callback, qos, event_callbacks=one)


def offered_reliability(node: Any, topic: str) -> tuple[bool, ...]:
    """For each publisher of a topic, whether it sends reliably; one that is not yet known counts as best effort."""
    found = node.get_publishers_info_by_topic(topic)
    return tuple(one.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE for one in found)


def guard_transitions(node: LifecycleNode) -> None:
    """Answer an illegal change_state request with ``success: false``.

    In Humble and early Jazzy such a request raises out of the service callback and ends the process (rclpy issue 1209).
    """
    service = node._service_change_state
    inner = service.callback

    def guarded(request: Any, response: Any) -> Any:
        try:
            return inner(request, response)
        except RCLError:
            wanted = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition {wanted} is not possible in state {state_of(node)}")
            response.success = False
            return response

    service.callback = guarded


def state_of(node: LifecycleNode) -> str:
    """Label of the node's lifecycle state; no public name exists in either distribution."""
    return str(node._state_machine.current_state[1])


def overrides_of(node: Any) -> list[str]:
    """Names of parameters that files and launch gave, known or not; no public name exists in either distribution."""
    return list(node._parameter_overrides)
