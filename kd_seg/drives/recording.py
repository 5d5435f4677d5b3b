"""Recordings: clouds with their times, whether they lie in a bag or as files in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError, UsageError
from kd_seg.drives.point_fields import point_rings, point_times
from kd_seg.drives.trajectory import Times, Trajectory
from kd_seg.scans import Points, read_points
from kd_seg.scans.point_files import READERS, FileFormat
from kd_seg.serving.bag_io import cloud_connections, decoded, messages_of, open_bag
from kd_seg.serving.pointcloud2 import CloudDecoder, CloudRejectedError, Decoded, Limits

EPOCH_S = 1e8
"""Clocks that show more count from 1970: their zero is no time."""


@dataclass(frozen=True)
class RecordedCloud:
    """One cloud of a recording.

    Attributes:
        number: its place in the recording, from 0.
        stamp: seconds.
        points: [N, 4] float32 x, y, z in metres, intensity as the sensor sends it; missing returns left out.
        times: [N] seconds relative to the stamp, or None where the recording has none.
        rings: [N] beam of each return, or None.
        rows: of the cloud before missing returns were left out.
    """

    number: int
    stamp: float
    points: Points
    times: Times | None = None
    rings: npt.NDArray[np.int64] | None = None
    rows: int = 0


class Recording(Protocol):
    """What a drive is converted from."""

    source: Path
    frame_id: str

    def __len__(self) -> int:
        """Clouds, readable or not."""

    def stamps(self) -> Times:
        """Seconds of every cloud [S], in order; NaN for one that cannot be read or holds no return."""

    def frames(self, wanted: frozenset[int]) -> Iterator[RecordedCloud]:
        """The clouds numbered ``wanted``, in order."""

    def rejected(self) -> dict[str, int]:
        """How many clouds were refused by the last ``stamps``, by reason."""


def returns(points: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which rows [N] are returns: finite coordinates that are not exactly (0, 0, 0); points [N, 3+]."""
    xyz = points[:, :3]
    return np.asarray(np.isfinite(xyz).all(axis=1) & xyz.any(axis=1))


def frame_of(
    number: int,
    stamp: float,
    points: Points,
    times: Times | None = None,
    rings: npt.NDArray[np.int64] | None = None,
) -> RecordedCloud:
    """A frame of points [N, 4] without missing returns; an intensity that is not finite becomes 0."""
    keep, rows = returns(points), len(points)
    points = np.ascontiguousarray(points[keep], np.float32)
    points[~np.isfinite(points[:, 3]), 3] = 0.0
    return RecordedCloud(
        number,
        stamp,
        points,
        times[keep] if times is not None else None,
        rings[keep] if rings is not None else None,
        rows,
    )


class BagRecording:
    """The PointCloud2 topic of a bag.

    Args:
        topic: None = the only one there is.
        intensity_fields: names looked for, in order.
        with_times: read per-point times.
        needs_times: times that cannot be a sweep's are an error of ``frames``; else they count as none.

    Attributes:
        times_fault: why the times that were found last cannot be a sweep's, "" where they can.
    """

    def __init__(
        self,
        source: Path,
        topic: str | None,
        intensity_fields: tuple[str, ...],
        with_times: bool = False,
        needs_times: bool = False,
    ) -> None:
        self.source, self.times_fault = source, ""
        self._decoder, self._with_times, self._needs_times = CloudDecoder(intensity_fields), with_times, needs_times
        self._rejected: dict[str, int] = {}
        self._stamps: Times = np.empty(0)
        with open_bag(source) as reader:
            connections = cloud_connections(reader, topic, source)
            self.topic = connections[0].topic
            self._count = sum(connection.msgcount for connection in connections)
        message = next((message for _, message, _ in self._messages() if message is not None), None)
        if message is None:
            kind = "message that can be read" if self._count else "message"
            raise DataError(f"{source}: topic {self.topic} holds no {kind}; record it again.")
        self.frame_id = str(message.header.frame_id)
        names = {str(field.name) for field in message.fields}
        self.intensity_field = next((name for name in intensity_fields if name in names), "")

    def __len__(self) -> int:
        return self._count

    def stamps(self) -> Times:
        """Header stamps [S] in seconds; a driver that has no time yet leaves 0, for which the time of recording stands.

        0 is a time where the clock starts near it, as a simulator's does.
        """
        found, received = [], []
        for _, message, time_ns in self._messages():
            readable = message is not None and self._decode(message) is not None
            found.append(stamp_of(message) if readable else np.nan)
            received.append(time_ns * 1e-9 if readable else np.nan)
        stamps = np.array(found)
        set_ones = stamps[np.isfinite(stamps) & (stamps != 0.0)]
        if len(set_ones) == 0 or np.median(set_ones) > EPOCH_S:
            stamps = np.where(stamps == 0.0, received, stamps)
        self._stamps = stamps
        return stamps

    def frames(self, wanted: frozenset[int]) -> Iterator[RecordedCloud]:
        """Decoded clouds."""
        for number, message, time_ns in self._messages():
            cloud = self._decode(message) if number in wanted and message is not None else None
            if cloud is not None:
                stamp = float(self._stamps[number]) if len(self._stamps) else stamp_of(message) or time_ns * 1e-9
                points = np.column_stack([cloud.xyz, cloud.intensity])
                times = self._times(message, stamp, returns(points)) if self._with_times else None
                yield frame_of(number, stamp, points, times, point_rings(message))

    def _times(self, message: Any, stamp: float, seen: npt.NDArray[np.bool_]) -> Times | None:
        try:
            return point_times(message, stamp, seen)
        except DataError as error:
            if self._needs_times:
                raise
            self.times_fault = str(error)
            return None

    def _decode(self, message: Any) -> Decoded | None:
        """The cloud, or None where it is refused or holds no return; the reason is counted."""
        try:
            cloud = self._decoder.decode(message, Limits(max_points=20_000_000))
        except CloudRejectedError as error:
            self._refuse(error.reason)
            return None
        if returns(cloud.xyz).any():
            return cloud
        self._refuse("no_valid_points")
        return None

    def _refuse(self, reason: str) -> None:
        self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def rejected(self) -> dict[str, int]:
        """Refused clouds by reason."""
        return dict(self._rejected)

    def _messages(self) -> Iterator[tuple[int, Any, int]]:
        """Number, message and time of recording in ns; None for a message that cannot be read, which is counted."""
        self._rejected.clear()
        with open_bag(self.source) as reader:
            connections = cloud_connections(reader, self.topic, self.source)
            for number, (connection, time_ns, raw) in enumerate(messages_of(reader, connections, self.source)):
                try:
                    message = decoded(reader, connection, raw)
                except CloudRejectedError as error:
                    self._refuse(error.reason)
                    message = None
                yield number, message, time_ns


def stamp_of(message: Any) -> float:
    """Seconds of a message's header."""
    stamp = message.header.stamp
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


class FolderRecording:
    """Point files of one folder, in the order of the times in their names, else of the names: 9.bin before 10.bin.

    Hidden ones, such as ._000000.bin of macOS, are passed over.

    Args:
        poses: whose rows belong to the files one by one where there are as many; else file names must hold times.
        form: how the files lie.

    Raises UsageError where there is no point file, or none that ``form`` can hold of.
    """

    frame_id = ""

    def __init__(self, source: Path, poses: Trajectory | None, form: FileFormat = FileFormat()) -> None:
        self.source, self._form = source, form
        self.paths = _in_order([p for p in source.iterdir() if p.suffix.lower() in READERS and p.name[0] != "."])
        if not self.paths:
            raise UsageError(f"{source} holds no point file ({', '.join(READERS)}); {_fix(source)}.")
        if form.names_layout and not any(path.suffix.lower() == ".bin" for path in self.paths):
            raise UsageError(f"input.columns and input.dtype are for .bin files; {source} holds none.")
        self._poses = poses
        self._rejected: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def stamps(self) -> Times:
        """Of the pose rows, else of the file names (seconds, or whole numbers of 16 or more digits in nanoseconds).

        Files in neither way are taken to be 0.1 s apart. Raises DataError where poses and files do not fit together.
        """
        self._rejected.clear()
        readable = np.array([self._read(path) is not None for path in self.paths])
        return np.where(readable, self._named_times(), np.nan)

    def frames(self, wanted: frozenset[int]) -> Iterator[RecordedCloud]:
        """Points of the files."""
        stamps = self._named_times()
        for number, path in enumerate(self.paths):
            points = self._read(path) if number in wanted else None
            if points is not None:
                yield frame_of(number, float(stamps[number]), points)

    def _named_times(self) -> Times:
        if self._poses is not None and len(self._poses.times) == len(self.paths):
            return self._poses.times
        stamps = [_stamp_of_name(path) for path in self.paths]
        if None not in stamps:
            return np.array(stamps, np.float64)
        if self._poses is not None:
            raise DataError(
                f"{self.source} has {len(self.paths)} point files and the trajectory {len(self._poses.times)} poses; "
                "give one pose per file, or files named by their time in seconds or nanoseconds."
            )
        return 0.1 * np.arange(len(self.paths))

    def _read(self, path: Path) -> Points | None:
        """The points of a file, or None where it cannot be read or holds no return."""
        try:
            binary = path.suffix.lower() == ".bin"
            form = self._form if binary else FileFormat(intensity_fields=self._form.intensity_fields)
            points = read_points(path, form)
        except DataError as error:
            self._rejected[str(error)] = 1
            return None
        if returns(points).any():
            return points
        self._rejected["no_valid_points"] = self._rejected.get("no_valid_points", 0) + 1
        return None

    def rejected(self) -> dict[str, int]:
        """Refused files by reason."""
        return dict(self._rejected)


def _in_order(paths: list[Path]) -> list[Path]:
    """Files by the times in their names where all have one, else by name, the numbers in it by their value."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"(\d+)", path.name)  # text and number in turns
        return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name

    stamps = {path: _stamp_of_name(path) for path in paths}
    if None not in stamps.values():
        return sorted(paths, key=lambda path: (stamps[path] or 0.0, path.name))
    return sorted(paths, key=key)


def _fix(source: Path) -> str:
    """What to name instead of a folder without point files: a sequence, where it is a data root."""
    sequences = sorted(path.parent for path in source.glob("sequences/*/velodyne"))
    if not sequences:
        return "give a folder that does"
    return f"name one of its sequences, such as {sequences[0]}"


def _stamp_of_name(path: Path) -> float | None:
    """The time in a file name such as 1699999999.123456.pcd or 1699999999123456000.bin; None where there is none."""
    name = path.name[: -len(path.suffix)]
    seconds = re.fullmatch(r"\D*(\d+\.\d+)", name)
    if seconds:
        return float(seconds[1])
    nanoseconds = re.fullmatch(r"\D*(\d{16,19})", name)
    return int(nanoseconds[1]) * 1e-9 if nanoseconds else None
