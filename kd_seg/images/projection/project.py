"""Points to pixels: one calibrated view, the pixels of its points, and the pairs that every image objective stands on.

A pixel ``j`` covers ``[j, j + 1)`` and has its centre at ``j + 0.5``, so a point's pixel is ``floor`` of its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import Matrix
from kd_seg.core.kernels import kernel
from kd_seg.scans import Points

NEAREST_M = 1.0
"""Points nearer to the camera plane than this have no pixel."""


@dataclass(frozen=True)
class Optics:
    """What projects points of one LiDAR frame into one picture.

    Attributes:
        projection: P [3, 4], camera frame to homogeneous pixels, baseline in the fourth column.
        tr: rigid motion [4, 4], LiDAR frame of the points to camera frame.
        width, height: of the picture, in pixels.
    """

    projection: Matrix
    tr: Matrix
    width: int
    height: int

    def matrix(self) -> Matrix:
        """LiDAR to homogeneous pixels, P Tr [3, 4]."""
        return self.projection @ self.tr

    def axis(self) -> npt.NDArray[np.float64]:
        """Horizontal direction (unit [2], LiDAR frame) of the optical axis; zero where it is vertical."""
        axis = self.tr[2, :2]
        length = float(np.hypot(*axis))
        return axis / length if length > 1e-9 else np.zeros(2)


@dataclass(frozen=True)
class Projected:
    """Where points fall.

    Attributes:
        pixels: [N, 2] float32 (column, row), any value where the point is behind the camera.
        depth: [N] float32, w of the homogeneous pixel in metres.
        inside: [N] bool: depth above 1 m and the pixel in the picture.
    """

    pixels: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Points of an unaugmented scan and their places in one picture.

    Attributes:
        rows: [n] int32, rows of the unaugmented scan, ascending.
        pixels: [n, 2] float32 (column, row), all inside the picture.
        depth: [n] float32 metres.
    """

    rows: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]) -> Pairs:
        """The pairs of a mask [n] or of ascending numbers."""
        return Pairs(self.rows[keep], self.pixels[keep], self.depth[keep])

    def cells(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and column of each pair's pixel, for indexing a map [H, W]."""
        return self.pixels[:, 1].astype(np.int64), self.pixels[:, 0].astype(np.int64)


def project(points: Points, optics: Optics) -> Projected:
    """Project points [N, 3+] (LiDAR frame, metres): the pinhole model of SemanticKITTI's calib.txt, ``P Tr x``.

    Rows that are not finite are never inside.
    """
    count = len(points)
    pixels = np.empty((count, 2), dtype=np.float32)
    depth = np.empty(count, dtype=np.float32)
    inside = np.empty(count, dtype=np.bool_)
    _project(
        np.ascontiguousarray(points[:, :3], dtype=np.float32),
        np.ascontiguousarray(optics.matrix()),
        optics.width,
        optics.height,
        pixels,
        depth,
        inside,
    )
    return Projected(pixels, depth, inside)


@kernel
def _project(
    xyz: npt.NDArray[np.float32],
    m: Matrix,
    width: int,
    height: int,
    pixels: npt.NDArray[np.float32],
    depth: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
) -> None:
    for i in range(len(xyz)):
        x, y, z = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        depth[i] = w
        inside[i] = False
        pixels[i, 0] = np.nan
        pixels[i, 1] = np.nan
        if w > 0.05:  # NaN compares false; the z-buffer needs pixels of points just outside the picture too
            c = np.float32((m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / w)
            r = np.float32((m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / w)
            pixels[i, 0] = c
            pixels[i, 1] = r
            inside[i] = w > 1.0 and 0 <= c < width and 0 <= r < height
