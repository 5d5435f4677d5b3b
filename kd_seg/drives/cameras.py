"""The cameras of a bag: which picture belongs to which scan, and where each camera sits beside the LiDAR."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.failures import one_line
from kd_seg.core.geometry import Matrix, invert, rigid
from kd_seg.drives.folder import DriveFolder
from kd_seg.drives.frames import FrameTree
from kd_seg.drives.pictures import CameraModel, Picture, Rectifier, decode_image
from kd_seg.drives.recording import stamp_of
from kd_seg.drives.trajectory import Times
from kd_seg.serving.bag_io import messages_of, open_bag, read_messages

IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
NUMBERS = (2, 3)
"""The colour cameras that SemanticKITTI's layout has room for: image_2 and image_3."""


@dataclass(frozen=True)
class BagCamera:
    """One camera topic.

    Attributes:
        number: of its folder image_N and its row PN.
        stamps: [M] seconds of its pictures, in the order of the bag.
    """

    number: int
    topic: str
    model: CameraModel
    stamps: Times


def find_cameras(source: Path, topics: tuple[str, ...], info_topics: tuple[str, ...]) -> tuple[BagCamera, ...]:
    """Cameras of a bag, their calibration and the times of their pictures.

    Args:
        topics: one or two image topics. info_topics: theirs, in the same order; empty = ``camera_info`` beside each.

    Raises UsageError for a topic that is not there, DataError for a camera without calibration.
    """
    if len(topics) > len(NUMBERS):
        raise UsageError(f"{len(topics)} cameras were given, the layout holds {len(NUMBERS)}; choose two.")
    if info_topics and len(info_topics) != len(topics):
        raise UsageError("Give --camera-info once for each --camera, in the same order, or not at all.")
    infos = info_topics or tuple(info_topic_of(topic) for topic in topics)
    cameras = []
    with open_bag(source) as reader:
        for number, topic, info in zip(NUMBERS, topics, infos, strict=False):
            pictures = [c for c in reader.connections if c.topic == topic and c.msgtype in IMAGES]
            calibration = [c for c in reader.connections if c.topic == info and c.msgtype == CAMERA_INFO]
            if not pictures:
                known = ", ".join(sorted({c.topic for c in reader.connections if c.msgtype in IMAGES})) or "none"
                raise UsageError(f"{source} has no image topic {topic}; its image topics: {known}.")
            model = next((m for _, _, m in read_messages(reader, calibration, source, CameraModel.of_message)), None)
            if model is None:
                known = ", ".join(sorted({c.topic for c in reader.connections if c.msgtype == CAMERA_INFO})) or "none"
                raise UsageError(
                    f"{source} has no CameraInfo on {info}; its topics: {known}. Choose with --camera-info."
                )
            stamps = np.array([_stamp(reader, c, raw) for c, _, raw in messages_of(reader, pictures, source)])
            cameras.append(BagCamera(number, topic, replace(model, done=is_rectified_topic(topic)), stamps))
    return tuple(cameras)


def _stamp(reader: AnyReader, connection: Connection, raw: bytes) -> float:
    """Seconds of a picture's header; infinite, which is near no scan, for a message that cannot be read."""
    try:
        return stamp_of(reader.deserialize(raw, connection.msgtype))
    except Exception:  # a damaged message makes rosbags fail in many ways
        return float("inf")


def info_topic_of(topic: str) -> str:
    """The CameraInfo topic that image_transport puts beside an image topic: ``/cam/image_raw/compressed`` too."""
    parts = topic.split("/")
    if parts[-1] in {"compressed", "compressedDepth", "theora"}:
        parts = parts[:-1]
    return "/".join([*parts[:-1], "camera_info"])


def is_rectified_topic(topic: str) -> bool:
    """Whether image_proc's name of the topic tells that its pictures are rectified; CameraInfo is the raw one's."""
    return any(part.startswith("image_rect") for part in topic.split("/"))


def nearest(stamps: Times, pictures: Times, tolerance_s: float) -> npt.NDArray[np.int64]:
    """For each scan [S] the nearest picture, -1 where none lies within the tolerance."""
    if len(pictures) == 0:
        return np.full(len(stamps), -1, np.int64)
    order = np.argsort(pictures, kind="stable")
    right = np.clip(np.searchsorted(pictures[order], stamps), 0, len(pictures) - 1)
    left = np.maximum(right - 1, 0)
    closer = np.where(np.abs(pictures[order][left] - stamps) <= np.abs(pictures[order][right] - stamps), left, right)
    found = order[closer]
    return np.where(np.abs(pictures[found] - stamps) <= tolerance_s, found, -1)


def calibrate_cameras(cameras: tuple[BagCamera, ...], tree: FrameTree, lidar: str) -> tuple[Matrix, dict[int, Matrix]]:
    """Tr [4, 4] (LiDAR to the first camera's rectified frame) and P [3, 4] by camera number.

    Raises DataError where the bag's fixed transforms do not connect a camera with the LiDAR.
    """
    if not cameras:
        return np.eye(4), {}
    to_rectified = [rigid(camera.model.r, np.zeros(3)) @ tree.fixed(lidar, camera.model.frame) for camera in cameras]
    tr = to_rectified[0]
    projections = {}
    for camera, motion in zip(cameras, to_rectified, strict=True):
        # The fourth column of P moves the right camera of a stereo pair; so does a transform of its own, if it has one.
        shares_frame = camera is not cameras[0] and camera.model.frame == cameras[0].model.frame
        baseline = camera.model.p[:, 3:] if shares_frame else np.zeros((3, 1))
        projections[camera.number] = np.hstack([camera.model.p[:, :3], baseline]) @ motion @ invert(tr)
    return tr, projections


def write_pictures(
    source: Path,
    camera: BagCamera,
    rectify: Rectifier,
    wanted: dict[int, list[int]],
    folder: DriveFolder,
    advance: Callable[[int], None],
) -> list[tuple[int, str]]:
    """Write the pictures of one camera; returns number and reason of those that cannot be used.

    Args:
        wanted: scan indices by the picture's number in the bag.
    """
    faults: list[tuple[int, str]] = []
    with open_bag(source) as reader:
        connections = [c for c in reader.connections if c.topic == camera.topic and c.msgtype in IMAGES]
        for number, (connection, _, raw) in enumerate(messages_of(reader, connections, source)):
            indices = [i for i in wanted.get(number, ()) if not folder.has_picture(camera.number, i)]
            if not indices:
                continue
            try:
                png = _png(rectify(decode_image(reader.deserialize(raw, connection.msgtype))))
            except DataError as error:
                faults.append((number, str(error)))
                continue
            except Exception as error:  # a damaged message makes rosbags fail in many ways
                faults.append((number, f"a message cannot be read ({one_line(error)})"))
                continue
            for index in indices:
                folder.write_picture(camera.number, index, png)
                advance(1)
    return faults


def _png(picture: Picture) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=2)
    return buffer.getvalue()
