"""sensor_msgs/PointCloud2 bytes to arrays and back, for any object with that message's attributes; no ROS import.

ROS messages, messages of the ``rosbags`` library and plain test doubles are all read the same way. Decoding is by field
name, never by position. What a cloud may look like and why one is refused: docs/vehicle.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.serving.pointcloud2_kernels import kept_are_finite, pack_segmentation, pack_visualization, take_words
from kd_seg.serving.postprocess import PointPredictions

Float32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DEFAULT_INTENSITY_FIELDS = ("intensity", "i", "reflectivity", "remission", "signal")

DATATYPES: dict[int, str] = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""NumPy kind and size of sensor_msgs/PointField datatypes 1..8."""

UINT8, FLOAT32 = 2, 7


CloudLike: TypeAlias = Any
"""A sensor_msgs/PointCloud2 or anything with its attributes: header, height, width, fields, is_bigendian, point_step,
row_step, data (bytes-like), is_dense."""


class CloudRejectedError(DataError):
    """A cloud that must not be labelled.

    Attributes:
        reason: the key its counter has (``missing_xyz``, ``truncated`` ...).
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Field:
    """One field of a cloud that we write; ``datatype`` as in sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int = 1


@dataclass(frozen=True)
class Packed:
    """A cloud ready for a message: its attributes, ``data`` as bytes [height * row_step].

    ``data`` is an array.array because that is what a ROS message takes over without a copy; NumPy looks at it through
    ``np.frombuffer``.
    """

    height: int
    width: int
    fields: tuple[Field, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: array[int]
    is_dense: bool


@dataclass(frozen=True)
class Limits:
    """What a cloud may be at most; 0 in ``max_age_s`` switches that check off."""

    max_points: int = 2_000_000
    max_age_s: float = 0.0
    require_frame_id: bool = False


@dataclass(frozen=True)
class CloudLayout:
    """Where the used fields of a cloud lie: byte offset and NumPy dtype (endianness included) of each."""

    x: tuple[int, np.dtype[Any]]
    y: tuple[int, np.dtype[Any]]
    z: tuple[int, np.dtype[Any]]
    intensity: tuple[int, np.dtype[Any]] | None
    intensity_name: str
    point_step: int

    @cached_property
    def words(self) -> tuple[np.uint64, ...] | None:
        """Offsets of x, y, z and intensity and the size of a point in 32-bit words, where all are whole float32 words.

        Without an intensity its place is that of x.
        """
        places = (self.x, self.y, self.z, self.intensity or self.x)
        if self.point_step % 4 or any(dtype != np.dtype("<f4") or offset % 4 for offset, dtype in places):
            return None
        return tuple(np.uint64(number // 4) for number in (*(offset for offset, _ in places), self.point_step))

    @cached_property
    def is_packed(self) -> bool:
        """Whether x, y, z are float32 side by side in points of an odd size, as of most drivers with a ring field."""
        places = (self.x, self.y, self.z)
        side_by_side = all(place == (self.x[0] + 4 * k, np.dtype("<f4")) for k, place in enumerate(places))
        return side_by_side and self.point_step % 4 != 0

    def __str__(self) -> str:
        names = {"x": self.x, "y": self.y, "z": self.z, self.intensity_name: self.intensity}
        parts = [f"{name}:{place[1].str.lstrip('|')}@{place[0]}" for name, place in names.items() if place is not None]
        return f"{' '.join(parts)} step {self.point_step}"


@dataclass(frozen=True)
class Decoded:
    """A cloud's numbers, row-major, row padding removed; never views into the message.

    Attributes:
        xyz: [N, 3] metres in the sensor frame; the input's bits where it has FLOAT32.
        intensity: [N] as the sensor sends it, zeros where the cloud has none.
        layout: None for an empty cloud, whose fields are not looked at.
    """

    xyz: Float32
    intensity: Float32
    height: int
    width: int
    layout: CloudLayout | None

    @property
    def has_intensity(self) -> bool:
        """False where a cloud with points has none of the intensity fields asked for."""
        return self.layout is None or self.layout.intensity is not None


class CloudDecoder:
    """Turns clouds into arrays; keeps the layout of the last cloud, because a sensor's never changes in practice.

    Args:
        intensity_fields: names looked for, in order; the first present is the intensity.
    """

    def __init__(self, intensity_fields: Sequence[str] = DEFAULT_INTENSITY_FIELDS) -> None:
        self.intensity_fields = tuple(intensity_fields)
        self._key: object = None
        self._layout: CloudLayout | None = None

    def decode(self, message: CloudLike, limits: Limits = Limits(), age_s: float = 0.0) -> Decoded:
        """Check a cloud and copy its numbers out.

        Args:
            age_s: now minus the cloud's stamp, in seconds, for ``limits.max_age_s``.

        Raises CloudRejectedError with the first reason that holds, in the order of the table in docs/vehicle.md.
        """
        height, width = int(message.height), int(message.width)
        count = height * width
        if count == 0:
            _check_header(message, limits, age_s)
            return Decoded(np.empty((0, 3), np.float32), np.empty(0, np.float32), height, width, None)
        layout = self._layout_of(message)
        row_step = _row_step(message, height, width, layout.point_step)
        data = bytes_of(message)
        needed = (height - 1) * row_step + width * layout.point_step
        if len(data) < needed:
            raise CloudRejectedError("truncated", f"data has {len(data)} bytes, {needed} needed")
        if count > limits.max_points:
            raise CloudRejectedError("too_large", f"cloud has {count} points, limit {limits.max_points}")
        _check_header(message, limits, age_s)
        if layout.words is not None and row_step == width * layout.point_step and data.ctypes.data % 4 == 0:
            xyz, intensity = _take_words(data[:needed], layout, count)
            return Decoded(xyz, intensity, height, width, layout)
        xyz = np.empty((height, width, 3), np.float32)
        intensity = np.zeros((height, width), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            if layout.is_packed:
                # Unaligned numbers are read one byte at a time; as one opaque value they are moved at once.
                whole = (layout.x[0], np.dtype("V12"))
                xyz.view("V12")[:, :, 0] = _column(data, whole, height, width, row_step, layout.point_step)
            else:
                for column, place in enumerate((layout.x, layout.y, layout.z)):
                    xyz[:, :, column] = _column(data, place, height, width, row_step, layout.point_step)
            if layout.intensity is not None:
                intensity[:] = _column(data, layout.intensity, height, width, row_step, layout.point_step)
        return Decoded(xyz.reshape(-1, 3), intensity.reshape(-1), height, width, layout)

    def _layout_of(self, message: CloudLike) -> CloudLayout:
        key = (
            tuple((field.name, field.offset, field.datatype) for field in message.fields),
            message.point_step,
            bool(message.is_bigendian),
        )
        if self._layout is None or key != self._key:
            self._layout = find_layout(message, self.intensity_fields)
            self._key = key
        return self._layout


def find_layout(message: CloudLike, intensity_fields: Sequence[str]) -> CloudLayout:
    """Where x, y, z and the intensity lie in a cloud's points; CloudRejectedError where they cannot be read."""
    if len(message.fields) == 0:
        raise CloudRejectedError("no_fields", "cloud has no fields")
    names = [str(field.name).rstrip("\0") for field in message.fields]
    for name in "xyz":
        if name not in names:
            has = ", ".join(n for n in names if n) or "only fields without a name"
            raise CloudRejectedError("missing_xyz", f"cloud lacks field {name!r} (has: {has})")
    chosen = next((name for name in intensity_fields if name and name in names), "")
    used = ["x", "y", "z"] + ([chosen] if chosen and chosen not in "xyz" else [])
    for name in used:
        if names.count(name) > 1:
            raise CloudRejectedError("duplicate_field", f"field {name!r} appears twice")
    order = ">" if message.is_bigendian else "<"
    places: dict[str, tuple[int, np.dtype[Any]]] = {}
    for name in used:
        field = message.fields[names.index(name)]
        kind = DATATYPES.get(int(field.datatype))
        if kind is None:
            raise CloudRejectedError("bad_datatype", f"field {name!r} has unknown datatype {int(field.datatype)}")
        places[name] = (int(field.offset), np.dtype(order + kind))
    step = int(message.point_step)
    last = max(used, key=lambda name: places[name][0] + places[name][1].itemsize)
    end = places[last][0] + places[last][1].itemsize
    if step == 0 or end > step:
        raise CloudRejectedError("bad_point_step", f"field {last!r} ends at byte {end}, point_step is {step}")
    return CloudLayout(places["x"], places["y"], places["z"], places.get(chosen), chosen, step)


def _row_step(message: CloudLike, height: int, width: int, point_step: int) -> int:
    """Bytes from row to row; drivers of unorganised clouds often write nonsense, which one row never needs."""
    if height == 1:
        return width * point_step
    row_step = int(message.row_step)
    if row_step < width * point_step:
        raise CloudRejectedError(
            "bad_row_step", f"row_step {row_step} is less than width*point_step {width * point_step}"
        )
    return row_step


def _check_header(message: CloudLike, limits: Limits, age_s: float) -> None:
    if limits.require_frame_id and not message.header.frame_id:
        raise CloudRejectedError("empty_frame_id", "cloud has no frame_id")
    if 0.0 < limits.max_age_s < age_s:
        raise CloudRejectedError("stale", f"cloud is {age_s:.1f} s old, limit {limits.max_age_s:.1f} s")


def bytes_of(message: CloudLike) -> Bytes:
    """View of the bytes of a cloud, or of a packed one."""
    return np.frombuffer(message.data, np.uint8) if len(message.data) else np.empty(0, np.uint8)


def to_array(data: Any) -> array[int]:
    """A copy of bytes, or of a uint8 vector, as ``Packed.data``."""
    made = array("B")
    made.frombytes(memoryview(data) if len(data) else b"")
    return made


def _column(
    data: Bytes, place: tuple[int, np.dtype[Any]], height: int, width: int, row_step: int, point_step: int
) -> npt.NDArray[Any]:
    """View [height, width] of one field (element 0 of it) in the message's bytes."""
    offset, dtype = place
    return np.ndarray((height, width), dtype, data.data, offset, (row_step, point_step))


def _take_words(data: Bytes, layout: CloudLayout, count: int) -> tuple[Float32, Float32]:
    """x, y, z [N, 3] and intensity [N] of points side by side whose fields are whole words; bits as they are."""
    assert layout.words is not None
    xyz, intensity = np.empty((count, 3), np.float32), np.empty(count, np.float32)
    words = data.view(np.uint32)
    words.flags.writeable = False  # bytes of some messages are, and a kernel would be compiled twice
    take_words(words, layout.words, xyz.reshape(-1).view(np.uint32), intensity.view(np.uint32))
    if layout.intensity is None:
        intensity[:] = 0.0
    return xyz, intensity


SEGMENTATION_FIELDS = (
    Field("x", 0, FLOAT32),
    Field("y", 4, FLOAT32),
    Field("z", 8, FLOAT32),
    Field("class_id", 12, UINT8),
    Field("probability", 16, FLOAT32),
    Field("entropy", 20, FLOAT32),
)
VISUALIZATION_FIELDS = (
    Field("x", 0, FLOAT32),
    Field("y", 4, FLOAT32),
    Field("z", 8, FLOAT32),
    Field("rgb", 12, FLOAT32),
)


def encode_segmentation(cloud: Decoded, answers: PointPredictions) -> tuple[Packed, npt.NDArray[np.uint8]]:
    """The labelled cloud, 24 bytes a point, point i being the input's point i (memory layout of PointXYZCPE).

    Also the class of every point [N].
    """
    data, words = _room(len(cloud.xyz), 6)
    class_id = np.empty(len(cloud.xyz), np.uint8)
    flat = (cloud.xyz.reshape(-1).view(np.uint32), answers.inverse, answers.words.reshape(-1).view(np.uint64))
    dense = pack_segmentation(*flat, words.reshape(-1).view(np.uint64), class_id)
    return _packed(cloud, SEGMENTATION_FIELDS, 24, data, dense), class_id


def encode_visualization(cloud: Decoded, class_id: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]) -> Packed:
    """The cloud in its classes' colours, 16 bytes a point; ``palette`` [256, 3] as ``ClassTable.palette`` gives it."""
    data, words = _room(len(cloud.xyz), 4)
    colours = palette.astype(np.uint32)
    rgb = colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]
    dense = pack_visualization(cloud.xyz.view(np.uint32), class_id, rgb, words)
    return _packed(cloud, VISUALIZATION_FIELDS, 16, data, dense)


def _room(points: int, words: int) -> tuple[array[int], npt.NDArray[np.uint32]]:
    """Bytes for points of so many 32-bit words each, and the same memory as [points, words]."""
    data = array("B", [0]) * (4 * points * words)
    view = np.frombuffer(data, "<u4") if points else np.empty(0, "<u4")
    return data, view.reshape(points, words)


def _packed(cloud: Decoded, fields: tuple[Field, ...], step: int, data: array[int], dense: bool) -> Packed:
    return Packed(cloud.height, cloud.width, fields, False, step, cloud.width * step, data, bool(dense))


def encode_filtered(message: CloudLike, cloud: Decoded, keep: npt.NDArray[np.bool_]) -> Packed:
    """The input's own points where ``keep`` [N] holds, their bytes untouched, as one row."""
    fields = tuple(Field(str(f.name), int(f.offset), int(f.datatype), int(f.count)) for f in message.fields)
    step = int(message.point_step)
    data = array("B")
    if len(cloud.xyz):
        # A point is one opaque value of ``step`` bytes: NumPy moves those ten times faster than rows of bytes.
        shape, strides = (cloud.height, cloud.width), (_row_step(message, cloud.height, cloud.width, step), step)
        points: npt.NDArray[np.void] = np.ndarray(shape, f"V{step}", bytes_of(message).data, 0, strides)
        data = to_array(points[keep.reshape(shape)].view(np.uint8))
    count = len(data) // step if step else 0
    dense = bool(kept_are_finite(cloud.xyz.view(np.uint32), keep))
    return Packed(1, count, fields, bool(message.is_bigendian), step, len(data), data, dense)


def keep_mask(class_id: npt.NDArray[np.uint8], remove: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which points stay when the classes ``remove`` (255 = invalid among them) are taken out; bool [N]."""
    table = np.ones(256, bool)
    table[list(remove)] = False
    return table[class_id]
