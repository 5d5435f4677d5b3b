"""SemanticKITTI's folder layout: the one reader for real and simulated data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix
from kd_seg.scans.calibration import Calibration, read_calibration, read_poses, read_times
from kd_seg.scans.point_files import FileFormat
from kd_seg.scans.scan import Camera, Scan

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "valid": ("08",),
    "test": tuple(f"{n:02d}" for n in range(11, 22)),
}
"""The official splits."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
Key = tuple[str, int]
"""Sequence and scan number."""


def _listed(folder: Path) -> list[str]:
    """Names in a folder without hidden ones, which file managers and notebooks leave (._000000.bin)."""
    return [name for name in os.listdir(folder) if not name.startswith(".")]


class KittiSequence:
    """One ``sequences/NN`` folder; lists its scans at once, reads poses and calibration when asked."""

    def __init__(self, folder: Path, form: FileFormat = FileFormat()) -> None:
        self.folder = folder
        self.form = form
        self.name = folder.name
        velodyne = folder / "velodyne"
        if not velodyne.is_dir():
            raise DataError(f"{folder} has no velodyne/ folder; a sequence holds velodyne/XXXXXX.bin files.")
        stems = sorted(name[:-4] for name in _listed(velodyne) if name.endswith(".bin"))
        wrong = next((stem for stem in stems if not (stem.isascii() and stem.isdigit())), None)
        if wrong is not None:
            raise DataError(f"{velodyne / wrong}.bin: a scan's file name is its number, such as 000042.bin.")
        self._stems = {int(stem): stem for stem in stems}
        if len(self._stems) < len(stems):
            twice = next(stem for stem in stems if self._stems[int(stem)] != stem)
            raise DataError(
                f"{velodyne} holds {twice}.bin and {self._stems[int(twice)]}.bin, two files of one number; "
                "take one of them out."
            )
        self.indices: tuple[int, ...] = tuple(sorted(self._stems))
        self.has_labels = (folder / "labels").is_dir()
        self._pictures: dict[int, set[str]] = {}

    @cached_property
    def calibration(self) -> Calibration | None:
        """calib.txt, or None where the file does not exist."""
        path = self.folder / "calib.txt"
        return read_calibration(path) if path.is_file() else None

    @cached_property
    def poses(self) -> npt.NDArray[np.float64] | None:
        """LiDAR to world [S, 4, 4] by scan number, or None without poses.txt; DataError without calib.txt."""
        path = self.folder / "poses.txt"
        if not path.is_file():
            return None
        if self.calibration is None:
            raise DataError(f"{self.folder} has poses.txt but no calib.txt; poses need its Tr row.")
        return read_poses(path, self.calibration.tr)

    @cached_property
    def times(self) -> npt.NDArray[np.float64] | None:
        """Seconds [S] by scan number, or None where times.txt does not exist."""
        path = self.folder / "times.txt"
        return read_times(path) if path.is_file() else None

    def __contains__(self, index: int) -> bool:
        return index in self._stems

    def points_path(self, index: int) -> Path:
        """The .bin file of a scan by its number, without looking at anything else of the sequence."""
        return self.folder / "velodyne" / f"{self._stems[index]}.bin"

    def scan(self, index: int) -> Scan:
        """The scan numbered ``index`` (not the index-th file); DataError if there is none."""
        if index not in self._stems:
            raise DataError(f"{self.folder} has no scan {index}; it has {len(self.indices)} scans.")
        stem = self._stems[index]
        labels = self.folder / "labels" / f"{stem}.label"
        return Scan(
            sequence=self.name,
            index=index,
            points_path=self.points_path(index),
            labels_path=labels if self.has_labels else None,
            around=self,
            form=self.form,
        )

    def pose_of(self, index: int) -> Matrix | None:
        """LiDAR frame to world [4, 4], or None without poses.txt; DataError where that is broken or too short."""
        return self._row(self.poses, index, "poses.txt")

    def time_of(self, index: int) -> float:
        """Seconds from times.txt, or index * 0.1 without; DataError where that is broken or too short."""
        row = self._row(self.times, index, "times.txt")
        return 0.1 * index if row is None else float(row)

    def _row(self, rows: npt.NDArray[np.float64] | None, index: int, name: str) -> npt.NDArray[np.float64] | None:
        if rows is None:
            return None
        if index >= len(rows):
            raise DataError(f"{self.folder / name} has {len(rows)} rows, scan {index} needs row {index}.")
        return np.asarray(rows[index])

    def cameras_of(self, index: int) -> tuple[Camera, ...]:
        """The pictures (.png or .jpg) of image_2 and image_3 for a scan; DataError where calib.txt is broken."""
        stem = self._stems[index]
        pictures = {number: path for number in (2, 3) if (path := self._picture(number, stem)) is not None}
        if not pictures or self.calibration is None:
            return ()
        known = self.calibration
        return tuple(
            Camera(f"image_{number}", path, known.projections[number], known.tr)
            for number, path in pictures.items()
            if number in known.projections
        )

    def _picture(self, number: int, stem: str) -> Path | None:
        names = self._listing(number)
        name = next((stem + suffix for suffix in PICTURE_SUFFIXES if stem + suffix in names), None)
        return self.folder / f"image_{number}" / name if name is not None else None

    def _listing(self, number: int) -> set[str]:
        if number not in self._pictures:
            folder = self.folder / f"image_{number}"
            self._pictures[number] = set(_listed(folder)) if folder.is_dir() else set()
        return self._pictures[number]


def root_name(root: Path) -> str:
    """Name of a data root's folder, the same however the folder is given: "." and ".." are followed, links are not."""
    return Path(os.path.abspath(root)).name


class SemanticKitti:
    """A data root with ``sequences/NN``: scans by position, or by sequence and number.

    Args:
        root: folder that holds ``sequences/``.
        sequences: which; None = all that are there. DataError names one that is missing or named twice.
        form: how its .bin files lie.
    """

    def __init__(
        self, root: str | Path, sequences: Sequence[str] | None = None, form: FileFormat = FileFormat()
    ) -> None:
        self.root, self.form = Path(root), form
        folder = self.root / "sequences"
        if not folder.is_dir():
            raise DataError(f"{self.root} has no sequences/ folder; give the folder that holds sequences/00 and so on.")
        found = sorted(name for name in _listed(folder) if (folder / name).is_dir())
        wanted = list(sequences) if sequences is not None else found
        for name in wanted:
            if name not in found:
                raise DataError(f"{folder} has no sequence {name}; it has: {', '.join(found) or 'none'}.")
            if wanted.count(name) > 1:
                raise DataError(
                    f"Sequence {name} of {folder} is named twice, so its scans would count twice; name it once."
                )
        self.sequences: dict[str, KittiSequence] = {name: KittiSequence(folder / name, form) for name in wanted}
        self._keys = [(name, index) for name in wanted for index in self.sequences[name].indices]

    @property
    def name(self) -> str:
        """See ``root_name``."""
        return root_name(self.root)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, position: int) -> Scan:
        return self.scan(*self._keys[position])

    def keys(self) -> list[Key]:
        """(sequence, scan number) of every scan, in order."""
        return list(self._keys)

    def scan(self, sequence: str, index: int) -> Scan:
        """The scan of a sequence by its number."""
        return self.sequences[sequence].scan(index)
