"""Where a sensor's shots go during one scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors.settings import Lidar, Mount, OwnCar, Pattern, Raster, Rosette, Spinning

GOLDEN = 0.61803398875
"""Golden ratio less one: multiples of it, modulo 1, are spread evenly."""


@dataclass(frozen=True)
class Shots:
    """The shots of one scan, beam by beam, in the order in which they are reported.

    Attributes:
        direction: unit vectors [R, 3] in the LiDAR frame.
        height: metres over the scan's origin at which a shot starts [R].
        time: in scans, -0.5 to 0.5; 0 is the moment of the pose [R].
        hidden: the sensor's own car blocks the shot [R].
        ring: number of the beam, from the top [R].
    """

    direction: npt.NDArray[np.float32]
    height: npt.NDArray[np.float32]
    time: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    ring: npt.NDArray[np.uint16]


def shots_of(sensor: Lidar, scan: int) -> Shots:
    """The shots of scan number ``scan``; only rosettes differ from scan to scan."""
    return _shots(sensor, scan if isinstance(sensor.pattern, Rosette) else 0)


@lru_cache(maxsize=2)
def _shots(sensor: Lidar, scan: int) -> Shots:
    azimuth, elevation, height, time, ring = _layout(sensor.pattern, scan)
    flat = np.cos(elevation)
    direction = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], -1).reshape(-1, 3)
    hidden = _blind(sensor.mount, azimuth, ring)
    if sensor.mount.own_car is not None:
        hidden |= _covered(sensor.mount.own_car, direction, height)
    return Shots(
        direction.astype(np.float32),
        height.astype(np.float32),
        (time * sensor.scan_share).astype(np.float32),
        hidden,
        ring.astype(np.uint16),
    )


def _layout(pattern: Pattern, scan: int) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.int64]]:
    """Azimuth and elevation in radians, start height in metres, time in scans, and beam of every shot [R]."""
    if isinstance(pattern, Spinning):
        return _spinning(pattern)
    if isinstance(pattern, Raster):
        return _raster(pattern)
    return _rosette(pattern, scan)


def azimuths(pattern: Spinning) -> Floats:
    """Azimuth [B, shots] in radians in [0, 2 pi), rising; each beam has its own place within the step pattern."""
    shot = np.arange(pattern.shots)[None, :]
    place = (np.arange(pattern.beams) * GOLDEN % 1.0)[:, None]
    if pattern.marks is None:
        turn = (shot + 0.02 * np.sin(shot * 2.4 + 7.0 * place)) * (2 * np.pi / pattern.shots)
        turn = turn + np.radians(np.broadcast_to(pattern.azimuth_deg, pattern.beams))[:, None]
        return np.sort(turn % (2 * np.pi), axis=1)
    tick = np.floor(shot * (pattern.marks / pattern.shots) + place)
    dither = 0.06 * np.sin(tick * 2.4 + 7.0 * place)
    turn = (tick + 0.1 + 0.75 * place + dither) * (2 * np.pi / pattern.marks)
    below: Floats = np.minimum(turn, 2 * np.pi - 1e-4)
    return below


def _spinning(pattern: Spinning) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.int64]]:
    turn = azimuths(pattern)
    lift = np.broadcast_to(np.radians(pattern.elevations())[:, None], turn.shape)
    height = np.broadcast_to(np.broadcast_to(pattern.offset_m, pattern.beams)[:, None], turn.shape)
    ring = np.broadcast_to(np.arange(pattern.beams)[:, None], turn.shape)
    signed = (turn + np.pi) % (2 * np.pi) - np.pi
    time = (-signed if pattern.clockwise else signed) / (2 * np.pi)
    if pattern.sector_deg is None:
        keep = np.ones(turn.shape, dtype=bool)
    else:
        right, left = np.radians(pattern.sector_deg)
        keep = (signed >= right) & (signed <= left)
        time = (time - (-1 if pattern.clockwise else 1) * (right + left) / (4 * np.pi)) * (2 * np.pi / (left - right))
    return turn[keep], lift[keep], height[keep], time[keep], ring[keep]


def _raster(pattern: Raster) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.int64]]:
    across = np.linspace(-1.0, 1.0, pattern.columns)
    rows = np.linspace(pattern.elevation_deg[1], pattern.elevation_deg[0], pattern.rows)
    right, left = pattern.azimuth_deg
    shape = (pattern.rows, pattern.columns)
    azimuth = np.broadcast_to(np.radians((right + left) / 2 + across * (left - right) / 2), shape).ravel()
    elevation = np.radians(rows[:, None] + pattern.bend_deg * across * across).ravel()
    count = azimuth.size
    time = np.arange(count) / count - 0.5
    return azimuth % (2 * np.pi), elevation, np.zeros(count), time, np.repeat(np.arange(pattern.rows), pattern.columns)


def _rosette(pattern: Rosette, scan: int) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.int64]]:
    """Two prisms bend the beam one after the other: the sum of two turning vectors, stretched to the field of view."""
    each = pattern.shots // pattern.lines
    time = np.tile(np.arange(each) / each, pattern.lines)
    ring = np.repeat(np.arange(pattern.lines), each)
    first, second = (2 * np.pi * (turns * (scan + time) + GOLDEN * ring) for turns in pattern.turns)
    right, left = pattern.azimuth_deg
    low, high = pattern.elevation_deg
    across, up = (np.cos(first) + np.cos(second)) / 2, (np.sin(first) + np.sin(second)) / 2
    azimuth = np.radians((right + left) / 2 + across * (left - right) / 2)
    elevation = np.radians((low + high) / 2 + up * (high - low) / 2)
    return azimuth % (2 * np.pi), elevation, np.zeros(len(time)), time - 0.5, ring


def _blind(mount: Mount, azimuth: Floats, ring: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    degrees = np.degrees(azimuth)
    hidden = np.zeros(len(azimuth), dtype=bool)
    for blind in mount.blind:
        mine = ring == blind.ring
        for low, high in zip(blind.azimuth_deg[::2], blind.azimuth_deg[1::2], strict=True):
            hidden |= mine & (degrees >= low) & (degrees < high)
    return hidden


def _covered(car: OwnCar, direction: Floats, height: Floats) -> npt.NDArray[np.bool_]:
    """Shots [R] that meet the roof of the own car."""
    down = np.maximum(-direction[:, 2], 1e-9)
    reach = (car.below_m + height) / down
    x, y = reach * direction[:, 0], reach * direction[:, 1]
    inside = (x < car.front_m) & (x > -car.rear_m) & (np.abs(y) < car.side_m)
    return np.asarray(inside & (direction[:, 2] < 0))
