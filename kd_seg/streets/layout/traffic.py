"""Motion: how the sensor's vehicle drives its path, and the tracks of everything else that moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import rigid, rotation_z
from kd_seg.streets.layout.ground import Plan
from kd_seg.streets.layout.network import StreetNetwork
from kd_seg.streets.objects.mesh import Floats

PERIOD = 0.1036
"""Seconds from scan to scan."""
TILT_SPREAD = 0.002
"""Radians (1 sigma) by which pitch and roll of the sensor differ from drive to drive."""


@dataclass(frozen=True)
class Ego:
    """The sensor's own motion.

    Attributes:
        poses: LiDAR to world [F, 4, 4].
        speed: metres per second [F].
        arc: metres along the path [F].
    """

    poses: Floats
    speed: Floats
    arc: Floats


@dataclass(frozen=True)
class TrafficTrack:
    """One moving object over all scans of a sequence.

    Attributes:
        kind: key of the catalogue.
        variant: seed of its shape.
        word: raw class and instance id.
        poses: object to world [F, 4, 4], origin on the ground.
        velocity: metres per second in the world [F, 3].
        phase: gait or pedal phase [F] in eighths, 0 for what is rigid.
    """

    kind: str
    variant: int
    word: int
    poses: Floats
    velocity: Floats
    phase: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seat:
    """Where the sensor sits: metres over the road, and radians by which its front and its right side are lowered."""

    height: float
    pitch: float
    roll: float


def drive(network: StreetNetwork, plan: Plan, rng: np.random.Generator, scans: int, seat: Seat) -> Ego:
    """Poses along the path: slow in bends, standing now and then, pitching and rolling with the ground."""
    steps = np.linalg.norm(np.diff(network.path, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    target = network.style.speed * rng.uniform(0.75, 1.15)
    speed = target * rng.uniform(0.6, 1.0)
    wait = int(rng.integers(5, 25)) if rng.random() < 0.12 else 0
    if wait:
        speed = 0.0
    s, places, speeds = 3.0, [], []
    for frame in range(scans):
        places.append(s)
        speeds.append(speed)
        near = min((abs(s + 6.0 - c) for c in network.corners), default=np.inf)
        goal = target if near > 22 else 4.5
        goal = 0.0 if frame < wait else goal
        speed += float(np.clip(goal - speed, -3.0 * PERIOD, 1.8 * PERIOD))
        s = min(s + speed * PERIOD, arc[-1] - 4.0)
    at = np.array(places)
    centre, ahead, behind = (_on(network.path, arc, at + d) for d in (0.0, 1.4, -1.4))
    forward = ahead - behind
    yaw = np.arctan2(forward[:, 1], forward[:, 0])
    left = np.stack([-np.sin(yaw), np.cos(yaw)], 1)
    pitch = np.arctan2(plan.road(ahead) - plan.road(behind), np.linalg.norm(forward, axis=1))
    roll = np.arctan2(plan.road(centre + 0.8 * left) - plan.road(centre - 0.8 * left), 1.6)
    sway = np.cumsum(rng.normal(0, 1, (2, scans)), axis=1)
    sway -= np.linspace(0, 1, scans) * sway[:, -1:]
    pitch, roll = pitch + 6e-4 * sway[0], roll + 5e-4 * sway[1]
    height = plan.road(centre)
    tilt = np.array([seat.pitch, seat.roll]) + rng.normal(0, TILT_SPREAD, 2)
    pitch, roll = pitch - tilt[0], roll + tilt[1]
    poses = np.tile(np.eye(4), (scans, 1, 1))
    for k in range(scans):
        poses[k] = rigid(
            rotation_z(yaw[k]) @ _about_y(-pitch[k]) @ _about_x(roll[k]),
            [*centre[k], height[k] + seat.height],
        )
    return Ego(poses, np.array(speeds), at)


def follow(line: Floats, s: Floats, plan: Plan) -> tuple[Floats, Floats]:
    """Poses [F, 4, 4] and velocities [F, 3] of something that is at arc lengths ``s`` [F] of a line [P, 2]."""
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    place, ahead, behind = (_on(line, arc, s + d) for d in (0.0, 0.7, -0.7))
    yaw = np.arctan2(*(ahead - behind).T[::-1])
    z = plan.height(place)
    poses = np.stack([rigid(rotation_z(a), [*p, h]) for a, p, h in zip(yaw, place, z, strict=True)])
    later = (
        np.concatenate([poses[1:, :3, 3], 2 * poses[-1:, :3, 3] - poses[-2:-1, :3, 3]])
        if len(s) > 1
        else poses[:, :3, 3]
    )
    return poses, (later - poses[:, :3, 3]) / PERIOD


def _on(line: Floats, arc: Floats, s: Floats) -> Floats:
    """Places on a line, carried on straight beyond its ends."""
    inner = np.clip(s, 0.0, arc[-1])
    place = np.stack([np.interp(inner, arc, line[:, k]) for k in range(2)], 1)
    first = (line[1] - line[0]) / np.linalg.norm(line[1] - line[0])
    last = (line[-1] - line[-2]) / np.linalg.norm(line[-1] - line[-2])
    return np.asarray(place + np.minimum(s, 0.0)[:, None] * first + np.maximum(s - arc[-1], 0.0)[:, None] * last)


def _about_x(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
