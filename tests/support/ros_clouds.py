"""Clouds as messages without ROS, for the tests of decoder, bags and node: layouts, building, breaking."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from kd_seg.serving.postprocess import PointPredictions

TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
CODES = {name: code for code, name in TYPES.items()}


@dataclass
class FakeField:
    name: str
    offset: int
    datatype: int
    count: int = 1


def answers_of(class_id: np.ndarray, probability: np.ndarray, entropy: np.ndarray) -> PointPredictions:
    """Predictions as if each point were alone in its voxel."""
    words = np.zeros((len(class_id) + 1, 4), np.uint32)
    words[:-1, 0] = class_id
    words.view(np.float32)[:-1, 1], words.view(np.float32)[:-1, 2] = probability, entropy
    words[-1, 0], words.view(np.float32)[-1, 2] = 255, 1.0
    return PointPredictions(np.arange(len(class_id), dtype=np.int32), words)


def header(sec: int = 1, nanosec: int = 2, frame_id: str = "lidar") -> Any:
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


@dataclass
class FakeCloud:
    """Has PointCloud2's attributes and nothing else."""

    fields: list[FakeField]
    data: Any
    height: int
    width: int
    point_step: int
    row_step: int
    is_bigendian: bool = False
    is_dense: bool = True
    header: Any = field(default_factory=header)


VENDORS: dict[str, tuple[list[tuple[str, str, int]], int]] = {
    "velodyne": ([("intensity", "f4", 12), ("ring", "u2", 16), ("time", "f4", 18)], 22),
    "ouster": (
        [
            ("intensity", "f4", 16),
            ("t", "u4", 20),
            ("reflectivity", "u2", 24),
            ("ring", "u2", 26),
            ("ambient", "u2", 28),
            ("range", "u4", 32),
        ],
        48,
    ),
    "hesai": ([("intensity", "f4", 12), ("ring", "u2", 16), ("timestamp", "f8", 18)], 26),
    "livox": ([("intensity", "f4", 12), ("tag", "u1", 16), ("line", "u1", 17), ("timestamp", "f8", 18)], 26),
    "robosense": ([("intensity", "f4", 12), ("ring", "u2", 16), ("timestamp", "f8", 18)], 26),
    "robosense_pcl_32": ([("intensity", "f4", 16), ("ring", "u2", 20), ("timestamp", "f8", 24)], 32),
    "robosense_pcl_48": ([("intensity", "f4", 16), ("ring", "u2", 20), ("timestamp", "f8", 24)], 48),
    "pcl_xyzi": ([("intensity", "f4", 16)], 32),
    "autoware_xyzirc": ([("intensity", "u1", 12), ("return_type", "u1", 13), ("channel", "u2", 14)], 16),
    "autoware_xyzircaedt": (
        [
            ("intensity", "u1", 12),
            ("return_type", "u1", 13),
            ("channel", "u2", 14),
            ("azimuth", "f4", 16),
            ("elevation", "f4", 20),
            ("distance", "f4", 24),
            ("time_stamp", "u4", 28),
        ],
        32,
    ),
}
"""Fields after x0, y4, z8 float32, and point_step."""


def vendor_fields(name: str) -> tuple[list[FakeField], int]:
    rest, step = VENDORS[name]
    xyz = [FakeField(axis, 4 * k, 7) for k, axis in enumerate("xyz")]
    return xyz + [FakeField(n, offset, CODES[kind]) for n, kind, offset in rest], step


def build(
    columns: dict[str, np.ndarray],
    fields: list[FakeField],
    step: int,
    shape: tuple[int, int] | None = None,
    padding: int = 0,
    big: bool = False,
    last_padding: bool = True,
    seed: int = 0,
) -> FakeCloud:
    """A cloud with the given columns in the given fields; every byte that no column fills is random."""
    count = len(next(iter(columns.values())))
    height, width = shape or (1, count)
    row_step = width * step + padding
    rows = np.random.default_rng(seed).integers(0, 256, (height, row_step), dtype=np.uint8)
    order = ">" if big else "<"
    for one in fields:
        if one.name not in columns:
            continue
        dtype = np.dtype(order + TYPES[one.datatype])
        raw = (
            np.ascontiguousarray(columns[one.name].astype(dtype)).view(np.uint8).reshape(height, width, dtype.itemsize)
        )
        for k in range(dtype.itemsize):
            rows[:, one.offset + k : one.offset + k + (width - 1) * step + 1 : step] = raw[:, :, k]
    data = rows.reshape(-1)
    if not last_padding and padding:
        data = data[:-padding]
    return FakeCloud(list(fields), data.copy(), height, width, step, row_step, big)


def random_columns(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {axis: (rng.normal(size=count) * 20).astype(np.float32) for axis in "xyz"}
    columns["intensity"] = rng.integers(0, 120, count).astype(np.float32)
    return columns


def plain(count: int = 100, seed: int = 0) -> FakeCloud:
    """A Velodyne cloud."""
    fields, step = vendor_fields("velodyne")
    return build(random_columns(count, seed), fields, step)


def street_points(count: int, seed: int = 0) -> np.ndarray:
    """Points [count, 4] around a sensor 1.73 m above the ground, intensity 0 to 255."""
    from kd_seg.serving.segmenter import made_up_cloud

    points = made_up_cloud(count, seed)
    points[:, 3] *= 255
    return points


def street(count: int, seed: int = 0, sec: int = 1, nanosec: int = 2) -> FakeCloud:
    """``street_points`` as a Velodyne cloud."""
    points = street_points(count, seed)
    fields, step = vendor_fields("velodyne")
    columns = {name: points[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))}
    cloud = build(columns, fields, step)
    cloud.header = header(sec, nanosec)
    return cloud


def tiny_checkpoint(path: Any, intensity_range: str = "unit", seed: int = 0) -> Any:
    """A randomly initialised nano network with a coarse grid, as a checkpoint file."""
    import torch

    from kd_seg.checkpoint import Spec, save_checkpoint
    from kd_seg.classes import load_classes
    from kd_seg.networks import Encoding
    from kd_seg.scans import Sensor
    from kd_seg.voxels import CartesianGrid, feature_width

    torch.manual_seed(seed)
    grid = CartesianGrid((1.6, 1.6, 0.8), (-51.2, -51.2, -4.0), (51.2, 51.2, 2.4))
    encoding = Encoding(grid, ("xyz", "remission"))
    spec = Spec("unet", "nano", load_classes(), encoding, Sensor(intensity_range=intensity_range))
    save_checkpoint(path, spec.build(feature_width(encoding.features)), spec)
    return path
