"""The LiDAR at work: the rays of one scan along the vehicle's motion, and the points that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import invert
from kd_seg.core.kernels import kernel
from kd_seg.streets.layout.surfaces import Surfaces
from kd_seg.streets.layout.world import World
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors.errors import BeamErrors
from kd_seg.streets.sensors.patterns import Shots, shots_of
from kd_seg.streets.sensors.response import Returns, SceneTables, optics_table, receiver_of, respond
from kd_seg.streets.sensors.settings import Lidar

_OPTICS = optics_table()


@dataclass(frozen=True)
class SimulatedScan:
    """One scan: points [N, 4] float32 (metres in the LiDAR frame, intensity 0-1), label words [N], beams [N]; beam by
    beam, in the order of the shots.
    """

    points: npt.NDArray[np.float32]
    words: npt.NDArray[np.uint32]
    rings: npt.NDArray[np.uint16]


def motion_at(poses: Floats, k: int) -> tuple[Floats, Floats]:
    """Shift [3] and turn [3] (axis times radians) per period at scan ``k``, in its LiDAR frame, from its neighbours."""
    before, after = max(k - 1, 0), min(k + 1, len(poses) - 1)
    if before == after:
        return np.zeros(3), np.zeros(3)
    inverse = invert(poses[k])
    first, last = inverse @ poses[before], inverse @ poses[after]
    spin = first[:3, :3].T @ last[:3, :3]
    axis = 0.5 * np.array([spin[2, 1] - spin[1, 2], spin[0, 2] - spin[2, 0], spin[1, 0] - spin[0, 1]])
    return (last[:3, 3] - first[:3, 3]) / (after - before), axis / (after - before)


def sweep(
    world: World,
    poses: Floats,
    k: int,
    rng: np.random.Generator,
    sensor: Lidar,
    calibration: BeamErrors,
    surfaces: Surfaces,
    distort: bool = False,
) -> SimulatedScan:
    """One scan of the sensor about pose ``k``.

    Rays start where the moving sensor is when they are shot. Points are given in the LiDAR frame of the scan's pose
    (compensated, as KITTI's are), or with ``distort`` each in the frame of its own moment. Other objects stand still
    during a scan, at their place at time 0.

    Args:
        world: what is there.
        poses, k: LiDAR to world of all scans [S, 4, 4], and which scan.
        rng: source of the noise.
        sensor, calibration: its kind and its own errors.
        surfaces: how the ground answers.
        distort: leave the distortion by the vehicle's motion in.
    """
    shots = shots_of(sensor, k)
    shift, turn = motion_at(poses, k)
    local, rays = _rays(
        shots.direction, shots.height, shots.time, shots.ring, calibration.lift,
        shift.astype(np.float32), turn.astype(np.float32), poses[k, :3, :3].astype(np.float32),
        (poses[k, :3, 3] - world.centre).astype(np.float32),
    )  # fmt: skip
    hits = world.meet(rays, k)
    noise = rng.standard_normal((2, len(rays)), dtype=np.float32)
    chance = rng.random(len(rays), dtype=np.float32)
    points, words, kept = respond(
        _still(shots) if distort else local, rays, shots.hidden, shots.ring,
        Returns(hits.distance, hits.triangle, hits.cosine, noise, chance),
        _scene(world, surfaces), receiver_of(sensor, calibration),
    )  # fmt: skip
    return SimulatedScan(points, words, shots.ring[kept])


def _scene(world: World, surfaces: Surfaces) -> SceneTables:
    ground = world.ground
    lower = (ground.lower - world.centre[:2]).astype(np.float32)
    return SceneTables(
        world.material, world.albedo, world.word, _OPTICS, surfaces.table, ground.cover, lower, world.centre[:2]
    )


def _still(shots: Shots) -> npt.NDArray[np.float32]:
    """Shots [R, 6] as a sensor that knows nothing of its motion reports them."""
    still = np.zeros((len(shots.height), 6), dtype=np.float32)
    still[:, 2] = shots.height
    still[:, 3:] = shots.direction
    return still


@kernel
def _rays(
    direction: npt.NDArray[Any],
    height: npt.NDArray[Any],
    time: npt.NDArray[Any],
    ring: npt.NDArray[Any],
    lift: npt.NDArray[Any],
    shift: npt.NDArray[Any],
    turn: npt.NDArray[Any],
    rotation: npt.NDArray[Any],
    place: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Rays [R, 6] (start, unit direction): as reported, in the LiDAR frame of time 0, and as they truly run, in the
    world about its centre.
    """
    count = len(direction)
    local = np.empty((count, 6), np.float32)
    world = np.empty((count, 6), np.float32)
    for n in range(count):
        t = time[n]
        dx, dy, dz = direction[n, 0], direction[n, 1], direction[n, 2]
        wx, wy, wz = turn[0] * t, turn[1] * t, turn[2] * t
        ux, uy, uz = dx + wy * dz - wz * dy, dy + wz * dx - wx * dz, dz + wx * dy - wy * dx
        size = np.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux / size, uy / size, uz / size
        ox = shift[0] * t + wy * height[n]
        oy = shift[1] * t - wx * height[n]
        oz = shift[2] * t + height[n]
        local[n, 0], local[n, 1], local[n, 2], local[n, 3], local[n, 4], local[n, 5] = ox, oy, oz, ux, uy, uz
        uz += lift[ring[n]]
        size = np.sqrt(ux * ux + uy * uy + uz * uz)
        ux, uy, uz = ux / size, uy / size, uz / size
        for i in range(3):
            world[n, i] = rotation[i, 0] * ox + rotation[i, 1] * oy + rotation[i, 2] * oz + place[i]
            world[n, i + 3] = rotation[i, 0] * ux + rotation[i, 1] * uy + rotation[i, 2] * uz
    return local, world
