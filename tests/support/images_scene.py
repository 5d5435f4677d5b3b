"""A scene of boxes on a plane whose every ray is known: LiDAR points, picture, class image and visibility, on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_seg.core.geometry import invert, rigid, transform

HEIGHT, WIDTH, FOCAL = 94, 310, 180.0
TR = rigid(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), [-0.06, -0.08, -0.27])
P2 = np.array([[FOCAL, 0.0, WIDTH / 2, 11.0], [0.0, FOCAL, HEIGHT / 2 - 4, -0.03], [0.0, 0.0, 1.0, 0.0]])
GROUND, CAR, BUILDING, PERSON = 40, 10, 50, 30
COLOURS = {
    GROUND: (90, 90, 95),
    CAR: (200, 30, 30),
    BUILDING: (190, 180, 150),
    PERSON: (40, 60, 200),
    0: (150, 190, 230),
}


@dataclass
class Scene:
    """Boxes (lower [3], upper [3], label word) on the plane z = -1.73, in the LiDAR frame of scan 0."""

    boxes: list[tuple[tuple[float, float, float], tuple[float, float, float], int]] = field(
        default_factory=lambda: [
            ((8.0, -1.0, -1.73), (11.0, 1.0, -0.2), CAR | 1 << 16),
            ((25.0, -15.0, -1.73), (27.0, 15.0, 6.0), BUILDING),
            ((6.0, 2.0, -1.73), (6.5, 2.6, 0.1), PERSON | 1 << 16),
        ]
    )

    def cast(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance along each direction [n, 3] (inf on a miss) and label word [n]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(directions[:, 2] < 0, (-1.73 - origin[2]) / directions[:, 2], np.inf)
            word = np.full(len(directions), GROUND, dtype=np.uint32)
            for lower, upper, label in self.boxes:
                near = (np.asarray(lower) - origin) / directions
                far = (np.asarray(upper) - origin) / directions
                enter, leave = np.minimum(near, far).max(axis=1), np.maximum(near, far).min(axis=1)
                hit = (enter < leave) & (enter > 0) & (enter < distance)
                distance, word = np.where(hit, enter, distance), np.where(hit, np.uint32(label), word)
        far_off = distance > 80.0
        return np.where(far_off, np.inf, distance), np.where(far_off, 0, word).astype(np.uint32)

    def scan(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 4] float32 in the LiDAR frame and label words [N]; beams ahead, as an HDL-64E has them."""
        elevation = np.deg2rad(np.r_[np.linspace(2.0, -8.0, 31), np.arange(-8.5, -24.6, -0.5)])
        azimuth = np.deg2rad(np.arange(-60.0, 60.0, 0.1728))
        a, e = np.meshgrid(azimuth, elevation)
        ray = np.column_stack([(np.cos(e) * np.cos(a)).ravel(), (np.cos(e) * np.sin(a)).ravel(), np.sin(e).ravel()])
        distance, word = self.cast(pose[:3, 3], ray @ pose[:3, :3].T)
        hit = np.isfinite(distance)
        points = np.column_stack([ray[hit] * distance[hit, None], np.full(hit.sum(), 0.3)])
        return points.astype(np.float32), word[hit]

    def picture(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB [H, W, 3] and class image [H, W] (raw ids, 65535 = sky)."""
        column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
        ray = np.column_stack(
            [((column - P2[0, 2]) / FOCAL).ravel(), ((row - P2[1, 2]) / FOCAL).ravel(), np.ones(column.size)]
        )
        origin, directions = self._camera(pose, ray)
        distance, word = self.cast(origin, directions)
        raw = np.where(np.isfinite(distance), word & 0xFFFF, 65535).astype(np.uint16).reshape(HEIGHT, WIDTH)
        palette = np.zeros((65536, 3), dtype=np.uint8)
        for label, colour in COLOURS.items():
            palette[label] = colour
        palette[65535] = COLOURS[0]
        return palette[raw], raw

    def seen(self, points: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Which points the camera really sees, were its picture without end."""
        origin, _ = self._camera(pose, np.zeros((1, 3)))
        delta = transform(pose, points[:, :3]) - origin
        gap = np.linalg.norm(delta, axis=1)
        distance, _ = self.cast(origin, delta / gap[:, None])
        return distance > gap - 0.05

    @staticmethod
    def _camera(pose: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        back = pose @ invert(TR)
        middle = np.linalg.solve(P2[:, :3], -P2[:, 3])  # the camera's centre lies off camera 0 by the baseline
        directions = rays @ back[:3, :3].T
        length = np.linalg.norm(directions, axis=1, keepdims=True)
        return transform(back, middle[None])[0], directions / np.maximum(length, 1e-9)


def poses(count: int, step: float = 0.8) -> list[np.ndarray]:
    """LiDAR poses that drive ahead."""
    return [rigid(np.eye(3), [step * k, 0.0, 0.0]) for k in range(count)]


def write_scene(
    root: Path,
    scene: Scene,
    sequences: tuple[str, ...] = ("00",),
    count: int = 3,
    pictures: tuple[int, ...] | None = None,
) -> Path:
    """Write the scene as a data root with sequences/ and the simulator's truth/; pictures for some scans alone."""
    for name in sequences:
        folder, truth = root / "sequences" / name, root / "truth" / "sequences" / name
        for part in ("velodyne", "labels", "image_2"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for part in ("class_2", "visible_2"):
            (truth / part).mkdir(parents=True, exist_ok=True)
        lines = []
        for k, pose in enumerate(poses(count)):
            points, words = scene.scan(pose)
            points.tofile(folder / "velodyne" / f"{k:06d}.bin")
            words.tofile(folder / "labels" / f"{k:06d}.label")
            np.save(truth / "visible_2" / f"{k:06d}.npy", np.packbits(scene.seen(points, pose)))
            if pictures is None or k in pictures:
                rgb, raw = scene.picture(pose)
                Image.fromarray(rgb).save(folder / "image_2" / f"{k:06d}.png")
                Image.fromarray(raw).save(truth / "class_2" / f"{k:06d}.png")
            lines.append(" ".join(f"{v:.9f}" for v in (TR @ pose @ invert(TR))[:3].ravel()))
        (folder / "poses.txt").write_text("\n".join(lines) + "\n")
        (folder / "times.txt").write_text("\n".join(f"{0.1 * k:.1f}" for k in range(count)) + "\n")
        text = [f"P{n}: " + " ".join(f"{v:.9f}" for v in P2.ravel()) for n in range(4)]
        text.append("Tr: " + " ".join(f"{v:.9f}" for v in TR[:3].ravel()))
        (folder / "calib.txt").write_text("\n".join(text) + "\n")
    return root


def real_data() -> Path:
    """The real mini set, or a skip that says how to name it."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data" / "semantic_kitti_mini"
    root = Path(os.environ.get("KD_SEG_REAL_DATA", default))
    if not (root / "sequences").is_dir():
        pytest.skip(f"no real scans in {root} (set KD_SEG_REAL_DATA)")
    return root
