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
from kd_seg.serving.bag_io import open_bag, read_messages

ODOMETRY = "nav_msgs/msg/Odometry"
POSES = {"geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped"}
TF = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True)
class BagMotion:
    """What a bag tells of motion.

    Attributes:
        tree: its transforms. ignored: transforms that are no rigid motion, which ROS ignores too.
        pose_topics: topics that could serve as --odometry.
    """

    tree: FrameTree
    pose_topics: tuple[str, ...]
    ignored: int = 0


def read_motion(source: Path) -> BagMotion:
    """Read /tf and /tf_static, and list the topics that hold poses; DataError where the bag is damaged."""
    tree, ignored = FrameTree(), 0
    with open_bag(source) as reader:
        topics = sorted({c.topic for c in reader.connections if c.msgtype == ODOMETRY or c.msgtype in POSES})
        connections = [c for c in reader.connections if c.msgtype == TF]
        for connection, _, entries in read_messages(reader, connections, source, _transforms):
            for parent, child, time, motion in entries:
                if motion is None:
                    ignored += 1
                elif connection.topic.endswith("tf_static"):
                    tree.add_fixed(parent, child, motion)
                else:
                    tree.add_moving(parent, child, time, motion)
    return BagMotion(tree, tuple(topics), ignored)


def _transforms(message: Any) -> list[tuple[str, str, float, Matrix | None]]:
    """Parent, child, seconds and motion [4, 4] of each transform; None for one that is no rigid motion."""
    found: list[tuple[str, str, float, Matrix | None]] = []
    for entry in message.transforms:
        try:
            motion = rigid_of(entry.transform.translation, entry.transform.rotation)
        except DataError:
            motion = None
        found.append((str(entry.header.frame_id), str(entry.child_frame_id), stamp_of(entry), motion))
    return found


def read_odometry(
    source: Path, topic: str, motion: BagMotion, lidar: str, extrinsic: Matrix | None = None
) -> tuple[Trajectory, int]:
    """Poses of the LiDAR from an odometry or pose topic and the fixed transform from its frame to the LiDAR.

    Also how many of the topic's poses were left out as no rigid motion: those before a sensor knows where it is.

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
        for _, _, (time, position, quaternion, frame) in read_messages(reader, found, source, _pose):
            times.append(time)
            xyz.append(position)
            quaternions.append(quaternion)
            child = frame or child
    positions, turns = np.array(xyz).reshape(-1, 3), np.array(quaternions).reshape(-1, 4)
    rigid = np.isfinite(positions).all(axis=1) & (np.abs(np.linalg.norm(turns, axis=1) - 1.0) < 0.01)
    rows = from_rows(np.array(times)[rigid], positions[rigid], turns[rigid], topic)
    return rows.then(_to_moving(motion.tree, child, lidar, extrinsic, topic)), int((~rigid).sum())


def _pose(message: Any) -> tuple[float, list[float], list[float], str]:
    """Seconds, position [3], quaternion [4] and the frame that moves, "" where the message does not name it."""
    pose = message.pose.pose if hasattr(message.pose, "pose") else message.pose
    position = [float(getattr(pose.position, axis)) for axis in "xyz"]
    quaternion = [float(getattr(pose.orientation, axis)) for axis in "xyzw"]
    return stamp_of(message), position, quaternion, str(getattr(message, "child_frame_id", ""))


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
    try:
        return tree.fixed(lidar, child)
    except DataError as error:
        raise DataError(f"{error} Give --extrinsic 'x y z roll pitch yaw', the LiDAR in {child}.") from None
