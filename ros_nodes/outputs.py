"""The node's publishers: clouds, times, labels."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String

from kd_seg.serving.labeller import label_info_json, label_pairs
from kd_seg.serving.pointcloud2 import Packed
from kd_seg.serving.segmenter import Segmenter
from ros_nodes import compat
from ros_nodes.qos import quality

CLOUDS = ("segmentation", "visualization", "filtered")
STAGES = ("decode", "voxelize", "inference", "encode", "publish", "total")
SHARES = ("network", "outside_network", "since_reception")
TIMES = (*(f"processing_time/{stage}_ms" for stage in (*STAGES, *SHARES)), "pipeline_latency_ms", "cyclic_time_ms")


class NodeOutputs:
    """Publishers between configuring and cleaning up; the worker publishes through it.

    Args:
        stop: set when the process is to end.
    """

    def __init__(self, node: LifecycleNode, stop: threading.Event) -> None:
        self._node = node
        self._stop = stop
        self._by_name: dict[str, Any] = {}
        self._labels: list[Any] = []

    def create(self, reliable: bool) -> None:
        """Make the publishers of clouds, reliable or not, and of times."""
        for name in CLOUDS:
            publisher = self._node.create_lifecycle_publisher(PointCloud2, f"~/output/{name}", quality(1, reliable))
            self._by_name[name] = publisher
        for name in TIMES:
            publisher = self._node.create_lifecycle_publisher(Float64, f"~/debug/{name}", quality(1, False))
            self._by_name[name] = publisher

    def publish_labels(self, segmenter: Segmenter) -> None:
        """Latched, on plain publishers: lifecycle publishers drop what is published before activation."""
        node = self._node
        text = node.create_publisher(String, "~/label_info_json", quality(1, True, latched=True))
        text.publish(String(data=label_info_json(segmenter)))
        self._labels.append(text)
        info = compat.label_message(node.get_clock().now().to_msg(), label_pairs(segmenter))
        if info is None:
            node.get_logger().info("vision_msgs is not installed; labels are on label_info_json only")
            return
        publisher = node.create_publisher(type(info), "~/label_info", quality(1, True, latched=True))
        publisher.publish(info)
        self._labels.append(publisher)

    def destroy(self) -> None:
        """Remove all publishers; nothing where there are none."""
        for publisher in self._by_name.values():
            self._node.destroy_lifecycle_publisher(publisher)
        for publisher in self._labels:
            self._node.destroy_publisher(publisher)
        self._by_name, self._labels = {}, []

    def wanted(self, name: str) -> bool:
        """Whether anybody subscribes to an output."""
        return bool(self._by_name[name].get_subscription_count() > 0)

    def publish_cloud(self, name: str, header: Any, packed: Packed) -> None:
        """Publish one of the cloud outputs."""
        self._by_name[name].publish(compat.cloud_message(header, packed))

    def publish_time(self, name: str, milliseconds: float) -> None:
        """Publish one figure if somebody listens."""
        if self.wanted(name):
            self._by_name[name].publish(Float64(data=float(milliseconds)))

    def now_ns(self) -> int:
        """The node's clock in nanoseconds."""
        return int(self._node.get_clock().now().nanoseconds)

    def stopping(self) -> bool:
        """Whether publishing fails because the process ends."""
        return self._stop.is_set() or not self._node.context.ok()
