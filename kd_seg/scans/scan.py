"""Scan: one sweep of the LiDAR and its files. Nothing is read before it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix
from kd_seg.scans.arrays import Points, Words
from kd_seg.scans.content import read_content
from kd_seg.scans.lidar import to_unit
from kd_seg.scans.pictures import read_picture
from kd_seg.scans.point_files import FileFormat, point_count, read_bin


@dataclass(frozen=True)
class Camera:
    """One calibrated camera of one scan.

    Attributes:
        name: such as "image_2".
        image: path of the picture.
        projection: P [3, 4], rectified camera 0 to pixels.
        tr: Tr [4, 4], LiDAR to camera 0.
    """

    name: str
    image: Path
    projection: Matrix
    tr: Matrix

    def matrix(self) -> Matrix:
        """LiDAR to homogeneous pixels, P Tr [3, 4]."""
        return self.projection @ self.tr

    def read(self) -> npt.NDArray[np.uint8]:
        """The picture, RGB uint8 [H, W, 3]; DataError if it is missing or broken."""
        return read_picture(self.image)


class Surroundings(Protocol):
    """What a sequence knows of its scans beside points and labels; read when asked for, DataError if it is broken."""

    def pose_of(self, index: int) -> Matrix | None:
        """LiDAR frame to world [4, 4], or None without poses.txt."""

    def time_of(self, index: int) -> float:
        """Seconds."""

    def cameras_of(self, index: int) -> tuple[Camera, ...]:
        """The pictures taken with a scan."""


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan: where its files are, and its points, labels, pose and pictures once asked for.

    Attributes:
        sequence: name of its sequence, such as "04".
        index: its number in the sequence (row of poses.txt and times.txt).
        points_path, labels_path: files; labels_path is None where there is no ``labels/`` folder.
        around: its sequence, or None for a scan alone.
        form: how its points file lies.
    """

    sequence: str
    index: int
    points_path: Path
    labels_path: Path | None
    around: Surroundings | None = None
    form: FileFormat = field(default_factory=FileFormat)

    @cached_property
    def pose(self) -> Matrix | None:
        """LiDAR frame to world (the frame of scan 0's LiDAR), [4, 4], or None without poses.txt."""
        return self.around.pose_of(self.index) if self.around is not None else None

    @cached_property
    def time(self) -> float:
        """Seconds, from times.txt, or index * 0.1."""
        return self.around.time_of(self.index) if self.around is not None else 0.1 * self.index

    @cached_property
    def cameras(self) -> tuple[Camera, ...]:
        """The pictures taken with this scan (may be empty)."""
        return self.around.cameras_of(self.index) if self.around is not None else ()

    @cached_property
    def points(self) -> Points:
        """[N, 4] float32: x, y, z in metres in the LiDAR frame, remission 0-1. All rows of the file, NaN rows too."""
        return to_unit(self.file_points, self.form.intensity_range)

    @cached_property
    def file_points(self) -> Points:
        """[N, 4] float32: the same points with remission as the file has it."""
        return read_bin(self.points_path, self.form)

    @cached_property
    def labels(self) -> Words | None:
        """Label words [N] uint32 (raw class | instance << 16), or None; DataError if the count does not match."""
        if self.labels_path is None:
            return None
        words = read_words(self.labels_path)
        count = point_count(self.points_path, self.form)
        if len(words) != count:
            raise DataError(
                f"{self.labels_path} has {len(words)} labels, {self.points_path.name} has {count} points; "
                "they do not belong together."
            )
        return words

    @property
    def name(self) -> str:
        """ "SS/NNNNNN", for messages."""
        return f"{self.sequence}/{self.index:06d}"


def read_words(path: Path) -> Words:
    """Label words of a ``.label`` file, uint32 [N]; DataError if missing or not a whole number of words."""
    content = read_content(path)
    if len(content) % 4:
        raise DataError(f"{path} has {len(content)} bytes, which is no whole number of 4-byte labels; it is cut off.")
    return np.frombuffer(content, dtype="<u4").astype(np.uint32)
