"""A made-up drive as a bag: a box world seen by a moving LiDAR, with odometry, transforms and a calibrated camera."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin
from scipy.spatial.transform import Rotation

from kd_seg.core.geometry import Matrix, rigid, transform
from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, BagWriter, make_typestore
from kd_seg.serving.pointcloud2 import Field, Packed, to_array

STORE = make_typestore()
BASE_TO_LIDAR = rigid(Rotation.from_euler("ZYX", [30, 2, -3], degrees=True).as_matrix(), [1.0, 0.2, 1.8])
LIDAR_TO_CAMERA = rigid(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), [0.1, -0.2, -0.3])
START = 1_700_000_000.0
K = np.array([[90.0, 0, 60], [0, 90, 40], [0, 0, 1]])
FIELDS = (
    Field("x", 0, 7),
    Field("y", 4, 7),
    Field("z", 8, 7),
    Field("intensity", 12, 7),
    Field("t", 16, 6),
)


@dataclass(frozen=True)
class Drive:
    """What the bag was made from: times [S], LiDAR poses [S, 4, 4] in the world, points [M, 3] of the world."""

    path: Path
    times: np.ndarray
    poses: Matrix
    world: np.ndarray


def base_pose(seconds: float) -> Matrix:
    """Where the vehicle is after ``seconds``: a gentle curve at 8 m/s."""
    yaw = 0.25 * seconds
    return rigid(Rotation.from_euler("z", yaw).as_matrix(), [8.0 * seconds, 0.8 * seconds**2, 0.02 * seconds])


def stamp(time: float) -> Any:
    nanoseconds = round(time * 1e9)
    return STORE.types["builtin_interfaces/msg/Time"](sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def header(time: float, frame: str) -> Any:
    return STORE.types["std_msgs/msg/Header"](stamp=stamp(time), frame_id=frame)


def write_drive(
    path: Path,
    scans: int = 6,
    sweep_s: float = 0.0,
    camera: bool = True,
    broken: int = -1,
    distortion: float = 0.0,
    pictures: str = "/camera/image_raw/compressed",
    late_s: float = 0.0,
) -> Drive:
    """Write the bag.

    Args:
        sweep_s: time over which the points of a cloud are seen; the vehicle moves meanwhile.
        broken: number of a cloud whose data are cut off.
        late_s: how far the clock of the points' times is ahead of that of the stamps.
    """
    rng = np.random.default_rng(5)
    world = np.concatenate(
        [rng.uniform([-20, -20, 0], [30, 20, 6], (3000, 3)), rng.uniform([-20, -20, 0], [30, 20, 0], (3000, 3))]
    )
    writer = BagWriter(path, StoragePlugin.MCAP, STORE)
    _write_static(writer)
    times = START + 0.1 * np.arange(scans)
    for step in range(10 * scans + 20):
        time = START - 0.1 + 0.01 * step
        _write_motion(writer, time, base_pose(time - START))
    for number, time in enumerate(times):
        offsets = np.linspace(0, sweep_s, len(world), endpoint=False)
        points = np.empty((len(world), 3))
        for part in np.array_split(np.arange(len(world)), 60 if sweep_s else 1):
            lidar = base_pose(time - START + offsets[part].mean()) @ BASE_TO_LIDAR
            points[part] = transform(np.linalg.inv(lidar), world[part])
        intensity = np.linspace(0, 255, len(world))
        _write_cloud(writer, time, points, intensity, offsets + late_s, cut=number == broken)
        if camera:
            _write_picture(writer, time + 0.004, number, distortion, pictures)
    writer.close()
    poses = np.array([base_pose(t - START) @ BASE_TO_LIDAR for t in times])
    return Drive(path, times, poses, world)


def _write(writer: BagWriter, topic: str, kind: str, time: float, message: Any) -> None:
    writer.write(topic, kind, CLOUD_QOS, round(time * 1e9), message)


def _transform(parent: str, child: str, time: float, motion: Matrix) -> Any:
    types = STORE.types
    x, y, z, w = Rotation.from_matrix(motion[:3, :3]).as_quat().tolist()
    return types["geometry_msgs/msg/TransformStamped"](
        header=header(time, parent),
        child_frame_id=child,
        transform=types["geometry_msgs/msg/Transform"](
            translation=types["geometry_msgs/msg/Vector3"](**dict(zip("xyz", motion[:3, 3].tolist(), strict=True))),
            rotation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
        ),
    )


def _write_static(writer: BagWriter) -> None:
    camera = np.linalg.inv(LIDAR_TO_CAMERA)
    message = STORE.types["tf2_msgs/msg/TFMessage"](
        transforms=[
            _transform("base_link", "lidar", START, BASE_TO_LIDAR),
            _transform("lidar", "camera_optical", START, camera),
        ]
    )
    _write(writer, "/tf_static", "tf2_msgs/msg/TFMessage", START - 1, message)


def _write_motion(writer: BagWriter, time: float, pose: Matrix) -> None:
    types = STORE.types
    moving = types["tf2_msgs/msg/TFMessage"](transforms=[_transform("odom", "base_link", time, pose)])
    _write(writer, "/tf", "tf2_msgs/msg/TFMessage", time, moving)
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    vector = types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    message = types["nav_msgs/msg/Odometry"](
        header=header(time, "odom"),
        child_frame_id="base_link",
        pose=types["geometry_msgs/msg/PoseWithCovariance"](
            pose=types["geometry_msgs/msg/Pose"](
                position=types["geometry_msgs/msg/Point"](**dict(zip("xyz", pose[:3, 3].tolist(), strict=True))),
                orientation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
            ),
            covariance=np.zeros(36),
        ),
        twist=types["geometry_msgs/msg/TwistWithCovariance"](
            twist=types["geometry_msgs/msg/Twist"](linear=vector, angular=vector), covariance=np.zeros(36)
        ),
    )
    _write(writer, "/odom", "nav_msgs/msg/Odometry", time, message)


def _write_cloud(
    writer: BagWriter, time: float, points: np.ndarray, intensity: np.ndarray, offsets: np.ndarray, cut: bool
) -> None:
    rows = np.zeros(len(points) + 1, np.dtype([(n, "<f4") for n in ("x", "y", "z", "intensity")] + [("t", "<u4")]))
    for axis, name in enumerate("xyz"):
        rows[name][:-1] = points[:, axis]  # the last row stays (0, 0, 0): a missing return
    rows["intensity"][:-1] = intensity
    rows["t"][:-1] = np.round(offsets * 1e9)
    data = rows.tobytes()
    packed = Packed(1, len(rows), FIELDS, False, 20, 20 * len(rows), to_array(data[:-7] if cut else data), True)
    fields = [
        STORE.types["sensor_msgs/msg/PointField"](name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
        for f in packed.fields
    ]
    message = STORE.types[CLOUD](
        header=header(time, "lidar"),
        height=1,
        width=packed.width,
        fields=fields,
        is_bigendian=False,
        point_step=20,
        row_step=packed.row_step,
        data=np.frombuffer(packed.data, np.uint8),
        is_dense=True,
    )
    _write(writer, "/points", CLOUD, time, message)


def _write_picture(writer: BagWriter, time: float, number: int, distortion: float, topic: str) -> None:
    types = STORE.types
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = np.arange(120), np.arange(80)[:, None], 10 * number
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    message = types["sensor_msgs/msg/CompressedImage"](
        header=header(time, "camera_optical"), format="png", data=np.frombuffer(buffer.getvalue(), np.uint8)
    )
    _write(writer, topic, "sensor_msgs/msg/CompressedImage", time, message)
    info = types["sensor_msgs/msg/CameraInfo"](
        header=header(time, "camera_optical"),
        height=80,
        width=120,
        distortion_model="plumb_bob",
        d=np.array([distortion, 0, 0, 0, 0]),
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([K, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )
    _write(writer, "/camera/camera_info", "sensor_msgs/msg/CameraInfo", time, info)
