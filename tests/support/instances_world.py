"""A tiny world with known motion in the SemanticKITTI layout, for the tests of instances and multi-to-single."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_seg.caches import Work
from kd_seg.core.geometry import Matrix, invert, rigid, rotation_z, transform
from kd_seg.scans import SemanticKitti

TR = rigid(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), [0.05, -0.08, -0.27])
TRUCK, BUS, PERSON, CAR = (5 << 16) | 258, (5 << 16) | 13, (9 << 16) | 254, (3 << 16) | 252
"""Truck and bus share the upper half of their words: two objects."""

SIZES = {TRUCK: (8.0, 2.5, 3.2), BUS: (11.0, 2.6, 3.0), PERSON: (0.5, 0.5, 1.8), CAR: (4.2, 1.8, 1.5)}


def work(**changes: object) -> Work:
    return Work(**{"fix_command": "kd-seg prepare test", **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class World:
    root: Path
    poses: list[Matrix]
    """LiDAR to world, per scan."""
    objects: dict[int, list[Matrix]]
    """Object to world, per word and scan."""

    def data(self) -> SemanticKitti:
        return SemanticKitti(self.root)

    def motion(self, word: int, s: int, t: int) -> Matrix:
        """Where a point of the object in the LiDAR frame of scan s is in that of scan t."""
        seen = invert(self.poses[t]) @ self.objects[word][t]
        return seen @ invert(invert(self.poses[s]) @ self.objects[word][s])


def box(size: tuple[float, float, float], spacing: float, viewer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points on the sides of a box (on the ground, centred) that face ``viewer``."""
    length, width, height = size
    parts = []
    for axis, side in ((0, 1), (0, -1), (1, 1), (1, -1)):
        across, half = ((width, length / 2), (length, width / 2))[axis]
        if side * viewer[axis] <= half:
            continue
        count = max(int(across * height / spacing**2), 4)
        points = np.empty((count, 3))
        points[:, axis] = side * half
        points[:, 1 - axis] = rng.uniform(-across / 2, across / 2, count)
        points[:, 2] = rng.uniform(0.0, height, count)
        parts.append(points)
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def make_world(root: Path, scans: int = 8, start: int = 0, seed: int = 0, background: int = 4000) -> World:
    """Write one sequence "00": ego drives and turns; a truck overtakes, a person walks, a bus and buildings stand."""
    rng = np.random.default_rng(seed)
    folder = root / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    last = start + scans
    ego = [rigid(rotation_z(0.01 * k), [0.8 * k, 0.05 * k, 0.0]) for k in range(last)]
    objects = {
        TRUCK: [rigid(rotation_z(0.3 + 0.02 * k), [12.0 + 1.2 * k, 6.0 + 0.2 * k, -1.7]) for k in range(last)],
        PERSON: [rigid(rotation_z(0.0), [8.0, -5.0 + 0.12 * k, -1.7]) for k in range(last)],
        CAR: [rigid(rotation_z(0.0), [25.0 - 1.0 * k, -8.0, -1.7]) for k in range(last)],
        BUS: [rigid(rotation_z(0.1), [14.0, -14.0, -1.7])] * last,
    }
    wall = np.stack([rng.uniform(-20, 50, background), np.full(background, 20.0), rng.uniform(-1.7, 6, background)], 1)
    road = np.stack([rng.uniform(-20, 50, background), rng.uniform(-12, 12, background), np.full(background, -1.7)], 1)
    rows = []
    for k in range(last):
        rows.append(" ".join(f"{v:.9e}" for v in (TR @ ego[k] @ invert(TR))[:3].ravel()))
        if k < start:
            continue
        xyz, words = [], []
        for word, placed in objects.items():
            viewer = invert(placed[k]) @ ego[k][:, 3]
            shape = box(SIZES[word], 0.2 if word != PERSON else 0.09, viewer[:3], rng)
            xyz.append(transform(invert(ego[k]) @ placed[k], shape))
            words.append(np.full(len(shape), word))
        for points, raw in ((wall, 50), (road, 40)):
            seen = points[rng.random(len(points)) < 0.5]
            xyz.append(transform(invert(ego[k]), seen))
            words.append(np.full(len(seen), raw))
        cloud = np.concatenate(xyz) + rng.normal(0, 0.01, (sum(map(len, xyz)), 3))
        full = np.concatenate([cloud, rng.uniform(0, 1, (len(cloud), 1))], 1).astype("<f4")
        full.tofile(folder / "velodyne" / f"{k:06d}.bin")
        np.concatenate(words).astype("<u4").tofile(folder / "labels" / f"{k:06d}.label")
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    (folder / "times.txt").write_text("\n".join(f"{0.1 * k:.6f}" for k in range(last)) + "\n")
    tr = " ".join(f"{v:.9e}" for v in TR[:3].ravel())
    projection = " ".join(f"{v:.9e}" for v in np.eye(4)[:3].ravel())
    (folder / "calib.txt").write_text(f"P2: {projection}\nTr: {tr}\n")
    return World(root, ego, objects)
