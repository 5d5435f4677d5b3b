"""``kd-seg bench project``: a scan's points to pixels with the occlusion test, against plain NumPy."""

from __future__ import annotations

from math import radians

import numpy as np
import numpy.typing as npt

from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.geometry import Matrix
from kd_seg.images.projection.project import Optics, project
from kd_seg.images.projection.visibility import VisibilitySettings, see
from kd_seg.scans import Points

KITTI_P2: Matrix = np.array(
    [[718.856, 0.0, 607.1928, 45.38225], [0.0, 718.856, 185.2157, -0.1130887], [0.0, 0.0, 1.0, 0.003779761]]
)
KITTI_TR: Matrix = np.array(
    [
        [4.276802385584e-04, -9.999672484946e-01, -8.084491683471e-03, -1.198459927713e-02],
        [-7.210626507497e-03, 8.081198471645e-03, -9.999413164504e-01, -5.403984729748e-02],
        [9.999738645903e-01, 4.859485810390e-04, -7.206933692422e-03, -2.921968648686e-01],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def kitti_optics() -> Optics:
    """Left colour camera of SemanticKITTI's sequences 00-02."""
    return Optics(KITTI_P2, KITTI_TR, 1241, 376)


def rows(points: Points, repeats: int) -> list[BenchRow]:
    """Milliseconds per scan and camera; the rivals' visible points are compared with ours first."""
    optics, settings = kitti_optics(), VisibilitySettings()
    expected = see(points, optics, settings)[1]

    def check(found: npt.NDArray[np.bool_]) -> None:
        # Points whose pixel or splat ends within rounding of a border may differ.
        assert (found != expected).mean() < 1e-4, "visible points differ"

    def check_inside(found: npt.NDArray[np.bool_]) -> None:
        assert found.sum() >= expected.sum()

    rivals = [
        Rival("kd_seg projection and occlusion", lambda: see(points, optics, settings)[1], check, ours=True),
        Rival("NumPy projection and occlusion", lambda: numpy_visible(points, optics, settings), check),
        Rival("kd_seg projection alone", lambda: project(points, optics).inside, check_inside),
        Rival("NumPy projection alone", lambda: numpy_project(points, optics)[2], check_inside),
    ]
    return compare(rivals, repeats)


def numpy_project(
    points: Points, optics: Optics
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Pixels [N, 2], depth [N] and whether they are in the picture, by matrix products."""
    matrix = optics.matrix()
    u = points[:, :3].astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = u[:, :2] / u[:, 2:]
    inside = (u[:, 2] > 1.0) & (pixels >= 0).all(axis=1) & (pixels < [optics.width, optics.height]).all(axis=1)
    return pixels, u[:, 2], inside


def numpy_visible(points: Points, optics: Optics, settings: VisibilitySettings) -> npt.NDArray[np.bool_]:
    """The visibility rule of ``images/projection/visibility.py`` in plain NumPy: every splat spelled out, then
    ``np.minimum.at``.
    """
    pixels, depth, inside = numpy_project(points, optics)
    near = (depth > 1.0) & (np.abs(pixels - [optics.width / 2, optics.height / 2]) < [optics.width, optics.height]).all(
        1
    )
    rows_ = np.flatnonzero(near)
    xyz, w, (c, r) = points[rows_, :3].astype(np.float64), depth[rows_], pixels[rows_].T
    rho, full = np.hypot(xyz[:, 0], xyz[:, 1]), np.linalg.norm(xyz, axis=1)
    cosine = np.maximum((xyz[:, :2] @ optics.axis()) / rho, 0.1)
    pattern = settings.pattern()
    step = np.full(len(w), pattern.elevation_steps[-1][1])
    for bound, value in reversed(pattern.elevation_steps):
        step[np.arcsin(xyz[:, 2] / full) > radians(bound)] = value
    wide = settings.width * radians(pattern.azimuth_step) * optics.projection[0, 0] * rho / (w * cosine)
    high = settings.height * optics.projection[1, 1] * np.deg2rad(step) * full / w
    first_c = np.clip(np.minimum(np.ceil(c - wide - 0.5), np.floor(c)), 0, None).astype(int)
    last_c = np.clip(np.maximum(np.floor(c + wide - 0.5), np.floor(c)), None, optics.width - 1).astype(int)
    first_r = np.clip(np.minimum(np.ceil(r - high - 0.5), np.floor(r)), 0, None).astype(int)
    last_r = np.clip(np.maximum(np.floor(r + high - 0.5), np.floor(r)), None, optics.height - 1).astype(int)
    columns, lines = np.maximum(last_c - first_c + 1, 0), np.maximum(last_r - first_r + 1, 0)
    count = columns * lines
    owner = np.repeat(np.arange(len(w)), count)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    cell = (first_r[owner] + place // columns[owner]) * optics.width + first_c[owner] + place % columns[owner]
    buffer = np.full(optics.width * optics.height, np.inf)
    np.minimum.at(buffer, cell, w[owner])
    result: npt.NDArray[np.bool_] = inside.copy()
    at = np.flatnonzero(inside)
    nearest = buffer[pixels[at, 1].astype(int) * optics.width + pixels[at, 0].astype(int)]
    result[at] = depth[at] <= nearest + settings.absolute_m + settings.relative * depth[at]
    return result
