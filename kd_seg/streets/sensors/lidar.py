"""The LiDAR at work: rays of one turn along the vehicle's motion, and what their first hits give back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import invert
from kd_seg.core.kernels import kernel
from kd_seg.streets.layout.surfaces import Surfaces
from kd_seg.streets.layout.world import World
from kd_seg.streets.objects.materials import GROUNDS, Cover, table
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors import hdl64

BASE_LOSS = 0.0045
"""Share of rays lost whatever they meet."""
FLOOR = 0.03
"""Remission below this (and 0.0042 more for every metre from 20 to 48) reads as an exact zero."""
MIXED = (0.15, 3.0, 0.3)
"""Where the next shot ends 0.15 to 3 m nearer, this share of shots falls on both surfaces and is ranged between."""
_SURFACE = np.stack([table(n) for n in ("speckle", "gloss", "roughness", "loss")], 1)
_RAW = np.array([GROUNDS[c].raw for c in Cover], dtype=np.uint32)
_LIMITS = np.array([hdl64.NEAREST, hdl64.CUT, hdl64.LABELLED, BASE_LOSS, FLOOR, *MIXED], dtype=np.float32)


@dataclass(frozen=True)
class Sweep:
    """One scan: points [N, 4] float32 in the LiDAR frame, label words [N], rings [N]; by ring, azimuth rising."""

    points: npt.NDArray[np.float32]
    words: npt.NDArray[np.uint32]
    rings: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Beams:
    """Rays of one turn, ring by ring: unit directions [R, 3], start heights, time in turns -0.5 to 0.5, hidden [R]."""

    direction: npt.NDArray[np.float32]
    height: npt.NDArray[np.float32]
    time: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    ring: npt.NDArray[np.uint8]


def beams() -> Beams:
    """The HDL-64E's turn. It turns clockwise and faces forward at time 0, the moment of the pose."""
    turn = hdl64.azimuths()
    lift = np.radians(hdl64.ELEVATION)[:, None]
    flat = np.cos(lift)
    direction = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.broadcast_to(np.sin(lift), turn.shape)], -1)
    time = -((turn + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi)
    return Beams(
        direction.reshape(-1, 3).astype(np.float32),
        np.repeat(hdl64.OFFSET, hdl64.SHOTS).astype(np.float32),
        time.ravel().astype(np.float32),
        hdl64.hidden().ravel(),
        np.repeat(np.arange(64, dtype=np.uint8), hdl64.SHOTS),
    )


BEAMS = beams()


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
    calibration: hdl64.Calibration,
    surfaces: Surfaces,
    distort: bool = False,
) -> Sweep:
    """One turn of the sensor about scan ``k``.

    Rays start where the moving sensor is when they are shot. Points are given in the LiDAR frame of the scan's pose
    (compensated, as KITTI's are), or with ``distort`` each in the frame of its own moment. Other objects stand still
    during a turn, at their place at time 0.

    Args:
        world: what is there.
        poses: LiDAR to world of all scans [S, 4, 4].
        k: which scan.
        rng: source of the noise.
        calibration: the sensor's errors.
        surfaces: how the ground answers.
        distort: leave the distortion by the vehicle's motion in.
    """
    shift, turn = motion_at(poses, k)
    local, rays = _rays(
        BEAMS.direction, BEAMS.height, BEAMS.time, BEAMS.ring, calibration.lift,
        shift.astype(np.float32), turn.astype(np.float32), poses[k, :3, :3].astype(np.float32),
        (poses[k, :3, 3] - world.centre).astype(np.float32),
    )  # fmt: skip
    hits = world.meet(rays, k)
    count = len(rays)
    noise = rng.standard_normal((2, count), dtype=np.float32)
    chance = rng.random(count, dtype=np.float32)
    ground = world.ground
    points, words, kept = _respond(
        _still() if distort else local, BEAMS.hidden, BEAMS.ring, rays, hits.distance, hits.triangle, hits.cosine,
        world.material, world.albedo, world.word, ground.cover, (ground.lower - world.centre[:2]).astype(np.float32),
        world.centre[:2], noise, chance, calibration.reach, calibration.contrast, np.float32(calibration.noise),
        _SURFACE, surfaces.table, _RAW, _LIMITS,
    )  # fmt: skip
    return Sweep(points, words, BEAMS.ring[kept])


def _still() -> npt.NDArray[np.float32]:
    still = np.zeros((len(BEAMS.height), 6), dtype=np.float32)
    still[:, 2] = BEAMS.height
    still[:, 3:] = BEAMS.direction
    return still


@kernel
def _rays(direction, height, time, ring, lift, shift, turn, rotation, place):  # type: ignore[no-untyped-def]
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


@kernel
def _texture(x, y):  # type: ignore[no-untyped-def]
    """Patchiness of the ground at a place of the world: mean 0, standard deviation 1, in lumps of 0.4 and 1.8 m."""
    return 1.85 * (_lumps(x * 2.5, y * 2.5) + _lumps(x * 0.55 + 31.0, y * 0.55 - 17.0))


@kernel
def _lumps(x, y):  # type: ignore[no-untyped-def]
    """Noise between -1 and 1 drawn at whole places and straight in between."""
    i, j = np.floor(x), np.floor(y)
    u, v = x - i, y - j
    a, b = np.int64(i), np.int64(j)
    low = (1.0 - u) * _chance(a, b) + u * _chance(a + 1, b)
    high = (1.0 - u) * _chance(a, b + 1) + u * _chance(a + 1, b + 1)
    return (1.0 - v) * low + v * high


@kernel
def _chance(i, j):  # type: ignore[no-untyped-def]
    mixed = (i * 73856093) ^ (j * 19349663)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    mixed = mixed ^ (mixed >> 16)
    return (mixed & 0xFFFF) / 32767.5 - 1.0


@kernel
def _respond(  # type: ignore[no-untyped-def]
    local, hidden, ring, rays, distance, triangle, cosine, material, albedo, word, cover, lower, centre, noise,
    chance, bias, contrast, blur, surface, covers, raws, limits,
):  # fmt: skip
    """Points, words and rows of the rays that give a return.

    Tables are arguments, as a cached kernel would freeze them.
    """
    count = len(rays)
    points = np.empty((count, 4), np.float32)
    words = np.empty(count, np.uint32)
    kept = np.empty(count, np.int64)
    found = 0
    rows, columns = cover.shape
    nearest, cut, labelled, base, floor, near, far, mixed = limits
    for n in range(count):
        tri = triangle[n]
        if tri < 0 or hidden[n]:
            continue
        reach = distance[n]
        if reach > cut + 1.5:
            continue
        cos = max(cosine[n], np.float32(0.01))
        kind = material[tri]
        label = word[tri]
        if kind == 0:
            x, y = rays[n, 0] + reach * rays[n, 3], rays[n, 1] + reach * rays[n, 4]
            i = int((x - lower[0]) * 10.0)
            j = int((y - lower[1]) * 10.0)
            c = cover[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]
            label = raws[c]
            bright, speckle, rough = covers[c, 0], covers[c, 1], covers[c, 2] / max(cos, 0.05)
            bright *= 1.0 + covers[c, 5] * _texture(x + centre[0], y + centre[1])
            loss = 0.0
            smooth = covers[c, 3] > 0
            slant = min(max((cos - covers[c, 3]) / covers[c, 4], 0.0), 1.0)
        else:
            bright, speckle, rough = albedo[tri], surface[kind, 0], surface[kind, 2]
            loss = surface[kind, 3]
            smooth = False
            slant = cos ** surface[kind, 1]
        fade = 1.0 if reach < 18.0 else max(1.0 - (reach - 18.0) / 62.0, 0.35)
        signal = bright * slant * fade * (1.0 + noise[1, n] * speckle) - min(max(reach - 24.0, 0.0), 30.0) * 0.0013
        if signal < 0.40:
            signal -= contrast[ring[n]] * min((0.40 - signal) / 0.12, 1.2)
        if signal < 0.02:
            loss += 0.004 + min(max(-signal, 0.0) * 3.0, 0.25)
        lost = loss + base
        if chance[n] < lost:
            continue
        if n + 1 < count and ring[n + 1] == ring[n]:
            step = reach - distance[n + 1]
            luck = (chance[n] - lost) / (1.0 - lost)
            if near < step < far and luck < mixed:
                reach -= 0.8 * step * luck / mixed
        if not smooth and abs(noise[0, n]) > 1.3:
            rough = 3.5 * rough
        reach += bias[ring[n]] + noise[0, n] * np.sqrt(blur * blur + rough * rough)
        x = local[n, 0] + reach * local[n, 3]
        y = local[n, 1] + reach * local[n, 4]
        z = local[n, 2] + reach * local[n, 5]
        radius = np.sqrt(x * x + y * y + z * z)
        if radius > cut or radius < nearest:
            continue
        points[found, 0], points[found, 1], points[found, 2] = x, y, z
        level = 0.0
        if signal >= floor + min(max(reach - 20.0, 0.0), 28.0) * 0.0042:
            level = np.floor(min(np.floor(signal * 255.0) / 2.55, 99.0) + 0.5) / 100.0
        points[found, 3] = level
        words[found] = label if radius <= labelled else np.uint32(0)
        kept[found] = n
        found += 1
    return points[:found], words[:found], kept[:found]
