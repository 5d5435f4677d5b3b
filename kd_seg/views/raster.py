"""Points to pixels: bird's-eye view, range view and camera overlay, as RGB arrays on a dark ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.images.projection.project import Optics
from kd_seg.images.projection.visibility import VisibilitySettings, see
from kd_seg.scans import Camera, Points
from kd_seg.views.colours import GROUND, Colours

Image = npt.NDArray[np.uint8]
Order = npt.NDArray[np.floating[Any]]


HDL64E_DEG = (3.0, -25.0)


def birds_eye(
    points: Points,
    colours: Colours,
    extent: float = 50.0,
    size: int = 1200,
    raised: npt.NDArray[np.bool_] | None = None,
) -> Image:
    """Seen from above, driving direction up [size, size, 3]; the highest point of a pixel wins.

    Args:
        points: [N, >= 3] metres, x forward, y left.
        colours: [N, 3].
        extent: half the side in metres.
        raised: points [N] drawn over all others and larger, such as errors.
    """
    rows = (extent - points[:, 0]) / (2 * extent) * size
    columns = (extent - points[:, 1]) / (2 * extent) * size
    image = _blank(size, size)
    _splat(image, rows, columns, colours, points[:, 2], 2)
    if raised is not None:
        _splat(image, rows[raised], columns[raised], colours[raised], points[raised, 2], 3)
    return image


def range_view(
    points: Points,
    colours: Colours,
    raised: npt.NDArray[np.bool_] | None = None,
    fov_deg: tuple[float, float] | None = None,
    shape: tuple[int, int] = (128, 2048),
) -> Image:
    """Seen from the sensor, all around, straight ahead in the middle and left to the left [H, W, 3]; the nearest wins.

    Args:
        raised: points [N] drawn over all others and larger, such as errors.
        fov_deg: upper and lower edge; None = that of an HDL-64E, or more where the points reach farther.
    """
    height, width = shape
    xyz = points[:, :3].astype(np.float64)
    depth = np.linalg.norm(xyz, axis=1)
    pitch = np.degrees(np.arcsin(np.clip(xyz[:, 2] / np.maximum(depth, 1e-6), -1.0, 1.0)))
    columns = (0.5 - np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi)) * width
    upper, lower = fov_deg if fov_deg is not None else _field_of_view(pitch)
    rows = (upper - pitch) / (upper - lower) * height
    image = _blank(height, width)
    _splat(image, rows, columns, colours, -depth, 1, down=2)
    if raised is not None:
        _splat(image, rows[raised], columns[raised], colours[raised], -depth[raised], 2, down=2)
    return image


def _field_of_view(pitch: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Upper and lower edge in degrees that show points at these elevations [N], but for one in a thousand."""
    pitch = pitch[np.isfinite(pitch)]
    if len(pitch) == 0:
        return HDL64E_DEG
    upper, lower = np.percentile(pitch, [99.9, 0.1])
    return max(HDL64E_DEG[0], float(upper) + 0.5), min(HDL64E_DEG[1], float(lower) - 0.5)


def camera_overlay(
    camera: Camera, points: Points, colours: Colours, shown: npt.NDArray[np.bool_] | None = None, dim: float = 0.45
) -> Image:
    """The camera's picture, dimmed and greyed, with the points that it really sees on it [H, W, 3]; the nearest wins.

    Args:
        shown: points [N] to draw; None = all.
        dim: brightness of the picture, 1 = as it is.
    """
    picture = camera.read()
    height, width = picture.shape[:2]
    projected, seen = see(points, Optics(camera.projection, camera.tr, width, height), VisibilitySettings())
    if shown is not None:
        seen &= shown
    grey = picture.mean(axis=2, keepdims=True)
    image: Image = (dim * (0.6 * grey + 0.4 * picture)).astype(np.uint8)
    rows, columns = projected.pixels[seen, 1], projected.pixels[seen, 0]
    _splat(image, rows, columns, colours[seen], -projected.depth[seen], 2)
    return image


def _blank(height: int, width: int) -> Image:
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = GROUND
    return image


def _splat(image: Image, rows: Order, columns: Order, colours: Colours, order: Order, size: int, down: int = 0) -> None:
    """Draw squares of ``size`` by ``size + down`` pixels, later in ``order`` over earlier; the rest is left out."""
    height, width = image.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # NaN compares false
    kept = np.flatnonzero(inside)
    kept = kept[np.argsort(order[kept], kind="stable")]
    # Point by point, so that no corner of a lower square covers a later one: of repeated pixels the last is kept.
    tall, wide = np.arange(size + down)[None, :, None], np.arange(size)[None, None, :]
    top, left = (place[kept].astype(np.int64)[:, None, None] for place in (rows, columns))
    image[np.minimum(top + tall, height - 1), np.minimum(left + wide, width - 1)] = colours[kept][:, None, None]
