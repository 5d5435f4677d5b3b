"""Which points the camera really sees: a z-buffer of splatted points (docs/image_teachers.md).

Camera and LiDAR stand about 0.3 m apart, so the camera misses part of what the LiDAR sees behind near objects. Each
point is splatted as the rectangle that one LiDAR beam covers, the buffer keeps the least depth per pixel, and a point
is visible if it is not clearly behind the buffer at its own pixel.
"""

from __future__ import annotations

from math import radians

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from kd_seg.core.config import Settings
from kd_seg.core.errors import ConfigError
from kd_seg.core.kernels import kernel
from kd_seg.images.projection.project import Optics, Projected, project
from kd_seg.scans import Points

Buffer = npt.NDArray[np.float32]


class BeamPattern(Settings):
    """Angles between neighbouring beams of a LiDAR, in degrees.

    Attributes:
        azimuth_step: between columns.
        elevation_steps: (lower bound of elevation, step) from the top down; the last one holds for all below.
    """

    azimuth_step: float = 0.1728
    elevation_steps: list[tuple[float, float]] = [(-8.1, 1.0 / 3.0), (-90.0, 0.5)]

    @field_validator("elevation_steps")
    @classmethod
    def _descending(cls, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
        bounds = [bound for bound, _ in steps]
        if not steps or bounds != sorted(bounds, reverse=True) or any(step <= 0 for _, step in steps):
            raise ValueError("give (lower bound, step) from the top down, steps above 0")
        return steps


PATTERNS: dict[str, BeamPattern] = {
    "hdl64e": BeamPattern(),
    "os1_64": BeamPattern(azimuth_step=360.0 / 1024, elevation_steps=[(-90.0, 45.0 / 64)]),
    "vlp16": BeamPattern(azimuth_step=0.2, elevation_steps=[(-90.0, 2.0)]),
}
"""Known sensors; any other gives its pattern in the config."""


class VisibilitySettings(Settings):
    """The occlusion test.

    Attributes:
        enabled: without it every point inside the picture counts as visible (parallax bleeding).
        sensor: a name of PATTERNS, or a pattern.
        width, height: splat half-sizes in beam steps.
        absolute_m, relative: tolerance behind the buffer, metres and share of the depth.
    """

    enabled: bool = True
    sensor: str | BeamPattern = "hdl64e"
    width: float = 0.55
    height: float = 0.5
    absolute_m: float = 0.3
    relative: float = 0.02

    def pattern(self) -> BeamPattern:
        """The beam pattern; ConfigError for an unknown name."""
        if isinstance(self.sensor, BeamPattern):
            return self.sensor
        if self.sensor not in PATTERNS:
            raise ConfigError(
                f"There is no beam pattern {self.sensor!r}; known: {', '.join(PATTERNS)}, or give azimuth_step and "
                "elevation_steps."
            )
        return PATTERNS[self.sensor]


def depth_buffer(points: Points, projected: Projected, optics: Optics, settings: VisibilitySettings) -> Buffer:
    """Least depth per pixel [H, W] float32, infinity where no splat covers the pixel's centre.

    Args:
        points: [N, >= 3] in the frame of the LiDAR that measured them (the splat's size follows from its beams).
        projected: the same points in the picture.
    """
    pattern = settings.pattern()
    bounds = np.array([np.sin(radians(bound)) for bound, _ in pattern.elevation_steps])
    steps = np.array([radians(step) for _, step in pattern.elevation_steps])
    buffer = np.full((optics.height, optics.width), np.inf, dtype=np.float32)
    focal = np.linalg.norm(optics.projection[:2, :3] - _centre(optics), axis=1)
    axis = optics.axis()
    _splat(
        np.ascontiguousarray(points[:, :3], dtype=np.float32),
        projected.pixels,
        projected.depth,
        axis[0],
        axis[1],
        settings.width * radians(pattern.azimuth_step) * focal[0],
        settings.height * focal[1],
        bounds,
        steps,
        buffer,
    )
    return buffer


def _centre(optics: Optics) -> npt.NDArray[np.float64]:
    """Columns of P that hold the principal point, so that subtracting them leaves the focal lengths."""
    centre = np.zeros((2, 3))
    centre[:, 2] = optics.projection[:2, 2]
    return centre


def visible(projected: Projected, buffer: Buffer, settings: VisibilitySettings) -> npt.NDArray[np.bool_]:
    """Points [N] inside the picture and not behind the buffer: ``w <= zbuf + absolute + relative w``."""
    result = np.empty(len(projected.depth), dtype=np.bool_)
    _visible(
        projected.pixels, projected.depth, projected.inside, buffer, settings.absolute_m, settings.relative, result
    )
    return result


def confirmed(projected: Projected, buffer: Buffer, settings: VisibilitySettings) -> npt.NDArray[np.bool_]:
    """Points [N] whose depth another scan measured too, within the tolerance on both sides.

    For pictures of earlier or later scans: with the buffer of that scan's own points, a point that has moved since is
    either hidden or has free space where it should be, so only static points pass; no label is needed.
    """
    passed = visible(projected, buffer, settings)
    rows = np.flatnonzero(passed)
    columns, lines = projected.pixels[rows, 0].astype(np.int64), projected.pixels[rows, 1].astype(np.int64)
    depth = projected.depth[rows]
    tolerance = settings.absolute_m + settings.relative * depth
    passed[rows] = depth >= buffer[lines, columns] - tolerance
    return passed


def see(points: Points, optics: Optics, settings: VisibilitySettings) -> tuple[Projected, npt.NDArray[np.bool_]]:
    """Project a scan into a picture taken with it and test occlusion: (places, visible [N])."""
    projected = project(points, optics)
    if not settings.enabled:
        return projected, projected.inside
    return projected, visible(projected, depth_buffer(points, projected, optics, settings), settings)


@kernel
def _splat(
    xyz: npt.NDArray[np.float32],
    pixels: npt.NDArray[np.float32],
    depth: npt.NDArray[np.float32],
    ax: float,
    ay: float,
    wide: float,
    high: float,
    bounds: npt.NDArray[np.float64],
    steps: npt.NDArray[np.float64],
    buffer: Buffer,
) -> None:
    height, width = buffer.shape
    for i in range(len(xyz)):
        w = depth[i]
        if not w > 1.0:
            continue
        c, r = pixels[i, 0], pixels[i, 1]
        if not (-64.0 < c < width + 64.0 and -64.0 < r < height + 64.0):
            continue
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        rho = np.sqrt(x * x + y * y)
        full = np.sqrt(rho * rho + z * z)
        cosine = max((x * ax + y * ay) / rho, 0.1) if rho > 0.0 else 1.0
        step = steps[-1]
        sine = z / full
        for k in range(len(bounds)):
            if sine > bounds[k]:
                step = steps[k]
                break
        half_width = wide * rho / (w * cosine)
        half_height = high * step * full / w
        own_column, own_row = int(np.floor(c)), int(np.floor(r))
        first_column = max(min(int(np.ceil(c - half_width - 0.5)), own_column), 0)
        last_column = min(max(int(np.floor(c + half_width - 0.5)), own_column), width - 1)
        first_row = max(min(int(np.ceil(r - half_height - 0.5)), own_row), 0)
        last_row = min(max(int(np.floor(r + half_height - 0.5)), own_row), height - 1)
        for row in range(first_row, last_row + 1):
            for column in range(first_column, last_column + 1):
                if w < buffer[row, column]:
                    buffer[row, column] = w


@kernel
def _visible(
    pixels: npt.NDArray[np.float32],
    depth: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    buffer: Buffer,
    absolute: float,
    relative: float,
    result: npt.NDArray[np.bool_],
) -> None:
    for i in range(len(depth)):
        result[i] = False
        if inside[i]:
            w = depth[i]
            nearest = buffer[int(pixels[i, 1]), int(pixels[i, 0])]
            result[i] = w <= nearest + absolute + relative * w
