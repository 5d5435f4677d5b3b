"""Where the poses of a drive come from: an odometry topic, /tf, a TUM file, or LiDAR odometry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.geometry import Matrix
from kd_seg.drives.frames import FrameTree, plain_name, rigid_of
from kd_seg.drives.recording import stamp_of
from kd_seg.drives.trajectory import Trajectory, from_rows
from kd_seg.serving.bag_io import open_bag

ODOMETRY = "nav_msgs/msg/Odometry"
POSES = {"geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped"}
TF = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class BagMotion:
    """What a bag tells of motion.

    Attributes:
        tree: its transforms.
        pose_topics: topics that could serve as --odometry.
    """

    tree: FrameTree
    pose_topics: tuple[str, ...]


def read_motion(source: Path) -> BagMotion:
    """Read /tf and /tf_static, and list the topics that hold poses."""
    tree = FrameTree()
    with open_bag(source) as reader:
        topics = sorted({c.topic for c in reader.connections if c.msgtype == ODOMETRY or c.msgtype in POSES})
        connections = [c for c in reader.connections if c.msgtype == TF]
        for connection, _, raw in reader.messages(connections) if connections else ():
            fixed = connection.topic.endswith("tf_static")
            message: Any = reader.deserialize(raw, connection.msgtype)
            for entry in message.transforms:
                motion = rigid_of(entry.transform.translation, entry.transform.rotation)
                if fixed:
                    tree.add_fixed(entry.header.frame_id, entry.child_frame_id, motion)
                else:
                    tree.add_moving(entry.header.frame_id, entry.child_frame_id, stamp_of(entry), motion)
    return BagMotion(tree, tuple(topics))


def read_odometry(
    source: Path, topic: str, motion: BagMotion, lidar: str, extrinsic: Matrix | None = None
) -> Trajectory:
    """Poses of the LiDAR from an odometry or pose topic and the fixed transform from its frame to the LiDAR.

    Args:
        extrinsic: [4, 4] LiDAR to the moving frame, instead of the bag's transforms.

    Raises UsageError for a topic that is not there; DataError where no fixed transform leads to the LiDAR.
    """
    times, xyz, quaternions, child = [], [], [], ""
    with open_bag(source) as reader:
        found = [c for c in reader.connections if c.topic == topic and (c.msgtype == ODOMETRY or c.msgtype in POSES)]
        if not found:
            known = ", ".join(motion.pose_topics) or "none"
            raise UsageError(f"{source} has no odometry or pose topic {topic}; it has: {known}.")
        for connection, _, raw in reader.messages(found):
            message = reader.deserialize(raw, connection.msgtype)
            pose = _pose(message)
            times.append(stamp_of(message))
            xyz.append([pose.position.x, pose.position.y, pose.position.z])
            quaternions.append([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
            child = getattr(message, "child_frame_id", "") or child
    rows = from_rows(np.array(times), np.array(xyz).reshape(-1, 3), np.array(quaternions).reshape(-1, 4), topic)
    return rows.then(_to_moving(motion.tree, child, lidar, extrinsic, topic))


def _pose(message: Any) -> Any:
    pose = message.pose
    return pose.pose if hasattr(pose, "pose") else pose


def _to_moving(tree: FrameTree, child: str, lidar: str, extrinsic: Matrix | None, topic: str) -> Matrix:
    if extrinsic is not None:
        return extrinsic
    if plain_name(child) == plain_name(lidar):
        return np.eye(4)
    if not child:
        raise DataError(
            f"{topic} does not name the frame whose pose it holds; give --extrinsic 'x y z roll pitch yaw' "
            "(the LiDAR in that frame; '0 0 0 0 0 0' if it is the LiDAR itself)."
        )
    return tree.fixed(lidar, child)
