"""Points from files: .bin, .npy, .pcd, .ply, each one registered reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans.arrays import Points
from kd_seg.scans.content import LARGEST_SCAN, read_content
from kd_seg.scans.layout import DTYPES, Doubt, PointLayout, doubt
from kd_seg.scans.npy import read_npy
from kd_seg.scans.pcd import read_pcd
from kd_seg.scans.ply import read_ply
from kd_seg.scans.point_table import PointFile, PointTable, choose

TABLE_READERS: dict[str, Callable[[Path], PointTable]] = {".npy": read_npy, ".pcd": read_pcd, ".ply": read_ply}
"""Readers of files that name their columns, by suffix."""

READERS = tuple(sorted([".bin", *TABLE_READERS]))
"""Suffixes of the point files that can be read."""

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
"""Files that hold many clouds."""


@dataclass(frozen=True)
class FileFormat:
    """What the user says of point files (parameters ``input.*``).

    Attributes:
        columns: numbers per point of a .bin file; 0 = 4, unless the file looks like another number.
        dtype: of a .bin file, a key of DTYPES; "auto" = float32, unless the file looks like another type.
        intensity_fields: names of the intensity field of .pcd, .ply and structured .npy files; empty = the usual ones.
        intensity_range: of the scans of a data root: unit 0-1, byte 0-255 or uint16 0-65535; ``Scan.points`` are 0-1.
    """

    columns: int = 0
    dtype: str = "auto"
    intensity_fields: tuple[str, ...] = ()
    intensity_range: str = "unit"

    @property
    def layout(self) -> PointLayout:
        """How .bin files are read."""
        return PointLayout(self.columns or 4, "float32" if self.dtype == "auto" else self.dtype)

    @property
    def names_layout(self) -> bool:
        """Whether the user said anything of .bin files."""
        return self.columns != 0 or self.dtype != "auto"


def is_bag(path: Path) -> bool:
    """Is this a bag file or a bag folder, judged by its name, its metadata.yaml or the storage files in it?"""
    if path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        return True
    storage = any(any(path.glob(f"*{suffix}*")) for suffix in (".db3", ".mcap"))
    return path.is_dir() and storage and not any(path.glob("*.bin"))


def read_points(path: str | Path, form: FileFormat = FileFormat()) -> Points:
    """Points [N, 4] float32 of a file, by its suffix; errors as ``read_point_file``."""
    return read_point_file(path, form).points


def read_point_file(path: str | Path, form: FileFormat = FileFormat()) -> PointFile:
    """Points of a file, by its suffix, and where their intensity came from.

    Raises:
        DataError: no such file, an unknown suffix, or content that is damaged or not what it should be.
        UsageError: ``form`` names a layout for a file that names its own columns.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(f"{path} has no known point-file suffix; known: {', '.join(READERS)}.")
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    if suffix == ".bin":
        points = read_bin(path, form)
        return PointFile(points, "column 4" if form.layout.columns > 3 else None)
    if form.names_layout:
        raise UsageError(f"input.columns and input.dtype are for .bin files; {path.name} names its own columns.")
    return choose(TABLE_READERS[suffix](path), form.intensity_fields, str(path))


def read_bin(path: Path, form: FileFormat = FileFormat()) -> Points:
    """KITTI: float32 x, y, z, remission per point, or what ``form`` says; an empty file gives no points.

    Raises DataError where the size does not fit, or the values cannot lie so; it says what they look like.
    """
    content = read_content(path)
    layout = form.layout
    doubted = doubt(content, layout, judge_columns=form.columns == 0)
    if doubted is not None:
        raise DataError(f"{path} does not hold {layout}: {_told(doubted, layout)}.")
    count = len(content) // layout.point_bytes
    if count > LARGEST_SCAN:
        raise DataError(f"{path} holds {count:,} points, a scan has at most {LARGEST_SCAN:,}; split it.")
    table = np.frombuffer(content, DTYPES[layout.dtype]).reshape(count, layout.columns)
    with np.errstate(over="ignore", invalid="ignore"):
        if layout.columns == 4:
            return table.astype(np.float32)
        points = np.zeros((count, 4), np.float32)
        points[:, : min(4, layout.columns)] = table[:, :4]
    return points


def point_count(path: Path, form: FileFormat = FileFormat()) -> int:
    """Points of a .bin file by its size alone; DataError where the file is missing."""
    try:
        return path.stat().st_size // form.layout.point_bytes
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check the data set.") from None


def _told(doubted: Doubt, layout: PointLayout) -> str:
    better = doubted.better
    if better is None:
        return doubted.reason
    keys = [f"input.columns={better.columns}"] if better.columns != layout.columns else []
    keys += [f"input.dtype={better.dtype}"] if better.dtype != layout.dtype else []
    options, training = " ".join(f"--set {key}" for key in keys), " ".join(keys).replace("input", "data")
    return f"{doubted.reason}, it looks like {better}; if that is right, add {options} (for training {training})"
