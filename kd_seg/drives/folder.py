"""The sequence folder that a drive becomes: SemanticKITTI's layout, every file whole, an interrupted run continues."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.core.errors import UsageError
from kd_seg.core.files import write_bytes
from kd_seg.core.geometry import Matrix, invert
from kd_seg.drives.trajectory import Times
from kd_seg.scans import Points

MANIFEST = "drive.json"
FORMAT = 1
WRITTEN = {MANIFEST, "velodyne", "image_2", "image_3", "times.txt", "calib.txt", "poses.txt"}


class DriveFolder:
    """``sequences/NN`` being written.

    Args:
        root: the data root; ``sequence`` a name such as "00".
        made_from: what the drive is made from and how, as JSON; a folder made from something else is refused.
        overwrite: begin anew: delete an earlier drive, never what ``convert`` did not write.

    Raises UsageError where the folder holds something else.
    """

    def __init__(self, root: Path, sequence: str, made_from: dict[str, Any], overwrite: bool = False) -> None:
        self.folder = root / "sequences" / sequence
        self._header = {"format": FORMAT, "made_from": made_from}
        manifest = self.folder / MANIFEST
        if self.folder.exists() and any(self.folder.iterdir()):
            self._check(manifest, overwrite)
        write_bytes(manifest, (json.dumps(self._header, indent=1) + "\n").encode())

    def _check(self, manifest: Path, overwrite: bool) -> None:
        if not manifest.is_file():
            raise UsageError(
                f"{self.folder} holds files that kd-seg convert did not write; choose another --out or --sequence."
            )
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not overwrite:
            if found == self._header:
                return
            raise UsageError(
                f"{self.folder} was converted from another recording or with other options; choose another "
                "--sequence, or add --overwrite to replace it."
            )
        others = sorted(entry.name for entry in self.folder.iterdir() if entry.name not in WRITTEN)
        if others:
            raise UsageError(
                f"{self.folder} also holds {others[0]}, which kd-seg convert did not write; move it away, or choose "
                "another --sequence."
            )
        shutil.rmtree(self.folder)

    def has_scan(self, index: int) -> bool:
        """Whether a scan was written already."""
        return self._scan(index).is_file()

    def points_of(self, index: int) -> int:
        """Points of a scan that was written already."""
        return self._scan(index).stat().st_size // 16

    def write_scan(self, index: int, points: Points) -> None:
        """``velodyne/XXXXXX.bin`` from points [N, 4]."""
        write_bytes(self._scan(index), np.ascontiguousarray(points, "<f4").tobytes())

    def has_picture(self, number: int, index: int) -> bool:
        """Whether a picture was written already."""
        return self._picture(number, index).is_file()

    def write_picture(self, number: int, index: int, png: bytes) -> None:
        """``image_N/XXXXXX.png``."""
        write_bytes(self._picture(number, index), png)

    def finish(self, times: Times, poses: Matrix | None, tr: Matrix, projections: dict[int, Matrix]) -> None:
        """times.txt, calib.txt and poses.txt.

        Args:
            times: [S] seconds from the first scan.
            poses: [S, 4, 4] LiDAR to world, or None.
            tr: [4, 4] LiDAR to camera 0 (the identity without cameras).
            projections: P [3, 4] by camera number.
        """
        write_bytes(self.folder / "times.txt", "".join(f"{t:.9e}\n" for t in times).encode())
        write_bytes(self.folder / "calib.txt", calibration_text(tr, projections).encode())
        if poses is not None:
            write_bytes(self.folder / "poses.txt", poses_text(poses, tr).encode())

    def _scan(self, index: int) -> Path:
        return self.folder / "velodyne" / f"{index:06d}.bin"

    def _picture(self, number: int, index: int) -> Path:
        return self.folder / f"image_{number}" / f"{index:06d}.png"


def calibration_text(tr: Matrix, projections: dict[int, Matrix]) -> str:
    """calib.txt: P [3, 4] by camera number, and Tr [4, 4], LiDAR to camera 0."""
    rows = {f"P{number}": matrix for number, matrix in projections.items()} | {"Tr": tr[:3]}
    return "".join(f"{key}: {_numbers(row)}\n" for key, row in rows.items())


def poses_text(poses: Matrix, tr: Matrix) -> str:
    """poses.txt: poses of camera 0 from LiDAR poses [S, 4, 4]; the first scan's is the identity."""
    first = invert(poses[0])
    return "".join(f"{_numbers((tr @ first @ pose @ invert(tr))[:3])}\n" for pose in poses)


def _numbers(row: Matrix) -> str:
    return " ".join(f"{v:.12e}" for v in np.asarray(row).ravel())
