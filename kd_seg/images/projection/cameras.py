"""Which pictures show a scan, and which of its points each of them shows: any number of cameras, and other moments.

A picture of an earlier or later scan s shows points of scan t through the poses. Only points that scan s measured at
the same place count (``visibility.confirmed``), so moving objects drop out without any label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, invert, rigid, transform
from kd_seg.images.projection.project import Optics, Pairs, Projected, project
from kd_seg.images.projection.visibility import VisibilitySettings, confirmed, depth_buffer, see
from kd_seg.scans import Camera, KittiSequence, Points, Scan


class ProjectionSettings(Settings):
    """Which pictures are used, and how points are paired with pixels."""

    cameras: list[str] | None = Field(None, description="such as [image_2]; none given = all that a scan has")
    offsets: list[int] = Field(default=[0], description="scans t - offset whose pictures are used; needs poses.txt")
    visibility: VisibilitySettings = VisibilitySettings()
    calibration_error_deg: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0), description="rotation error about the camera's axes, for studies"
    )


@dataclass(frozen=True)
class Shot:
    """One picture and its place among the views of a scan.

    Attributes:
        sequence, index: the scan it was taken with (not always the scan whose points are paired with it).
        camera: where it lies on disk and how it projects.
        optics: projection of the points of scan ``index``.
    """

    sequence: str
    index: int
    camera: Camera
    optics: Optics

    @property
    def key(self) -> tuple[str, int, str]:
        """(sequence, scan number, camera name), the same for the same picture."""
        return self.sequence, self.index, self.camera.name


@dataclass(frozen=True)
class SeenView:
    """A picture and the points of a scan that it shows.

    Attributes:
        shot: the picture.
        number: of this view within the scan, from 0.
        offset: t - s, 0 for a picture taken with the scan itself.
        projected: every point's place; pairs: the visible ones.
    """

    shot: Shot
    number: int
    offset: int
    projected: Projected
    pairs: Pairs


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) from the file's header; DataError if it is missing or broken."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} is not a readable picture ({error}); write or copy it again.") from None


def shots(scan: Scan, settings: ProjectionSettings) -> list[Shot]:
    """The pictures taken with a scan, by the cameras asked for; none where it has none."""
    chosen = [c for c in scan.cameras if settings.cameras is None or c.name in settings.cameras]
    made = []
    for camera in chosen:
        width, height = picture_size(camera.image)
        optics = Optics(camera.projection, _spoiled(camera.tr, settings.calibration_error_deg), width, height)
        made.append(Shot(scan.sequence, scan.index, camera, optics))
    return made


def _spoiled(tr: Matrix, degrees: tuple[float, float, float]) -> Matrix:
    if not any(degrees):
        return tr
    return rigid(rotation_xyz(np.deg2rad(degrees)), np.zeros(3)) @ tr


def rotation_xyz(angles: npt.NDArray[np.float64]) -> Matrix:
    """Rotation [3, 3] about x, then y, then z, by radians [3]."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    result: Matrix = z @ y @ x
    return result


def seen_views(scan: Scan, sequence: KittiSequence, settings: ProjectionSettings) -> list[SeenView]:
    """Every view of a scan with its visible points; an empty list where there is no picture.

    Args:
        scan: unaugmented; rows of the pairs are its rows.
        sequence: for pictures of other moments.

    Raises:
        DataError: an offset other than 0 was asked for and there are no poses.
    """
    views: list[SeenView] = []
    for offset in settings.offsets:
        index = scan.index - offset
        if offset == 0:
            found = [(shot, *see(scan.points, shot.optics, settings.visibility)) for shot in shots(scan, settings)]
        elif index in sequence:
            found = _from_elsewhere(scan, sequence.scan(index), settings)
        else:
            continue
        for shot, projected, mask in found:
            views.append(SeenView(shot, len(views), offset, projected, pairs(projected, mask)))
    return views


def pairs(projected: Projected, mask: npt.NDArray[np.bool_]) -> Pairs:
    """The pairs of the points in a mask [N]."""
    rows = np.flatnonzero(mask)
    return Pairs(rows.astype(np.int32), projected.pixels[rows], projected.depth[rows])


def _from_elsewhere(
    scan: Scan, other: Scan, settings: ProjectionSettings
) -> list[tuple[Shot, Projected, npt.NDArray[np.bool_]]]:
    taken = shots(other, settings)
    if not taken:
        return []
    if scan.pose is None or other.pose is None:
        raise DataError(f"{scan.name}: pictures of other moments need poses.txt; set projection.offsets to [0].")
    moved: Points = scan.points.copy()
    moved[:, :3] = transform(invert(other.pose) @ scan.pose, scan.points[:, :3])
    made = []
    for shot in taken:
        projected = project(moved, shot.optics)
        if settings.visibility.enabled:
            there = project(other.points, shot.optics)
            buffer = depth_buffer(other.points, there, shot.optics, settings.visibility)
            mask = confirmed(projected, buffer, settings.visibility)
        else:
            mask = projected.inside
        made.append((shot, projected, mask))
    return made


def turned(optics: Optics, angles: npt.NDArray[np.float64]) -> Optics:
    """The same picture with a calibration that is off by a rotation (radians [3] about the camera's axes)."""
    return replace(optics, tr=rigid(rotation_xyz(angles), np.zeros(3)) @ optics.tr)
