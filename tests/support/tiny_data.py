"""A tiny data set in SemanticKITTI's layout: a plane, boxes and posts, labelled by shape; made by seed."""

from pathlib import Path

import numpy as np

TR = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, -0.08], [1.0, 0.0, 0.0, -0.27]])
P2 = np.array([[718.856, 0.0, 607.1928, 45.38225], [0.0, 718.856, 185.2157, -0.1130887], [0.0, 0.0, 1.0, 0.003779761]])


def tiny_cloud(rng: np.random.Generator, points: int = 2500) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 4] and label words [N]: road (40), cars (10, with ids), posts (80)."""
    ground = np.column_stack([rng.uniform(-20, 20, (points, 2)), rng.normal(-1.73, 0.02, points)])
    parts, words = [ground], [np.full(points, 40, np.uint32)]
    for instance in range(1, 5):
        centre = rng.uniform(-15, 15, 2)
        box = rng.uniform(-1, 1, (200, 3)) * (2.0, 0.9, 0.7) + (*centre, -0.9)
        parts.append(box)
        words.append(np.full(200, 10 | instance << 16, np.uint32))
        post = np.column_stack([rng.normal(0, 0.05, (60, 2)) + rng.uniform(-15, 15, 2), rng.uniform(-1.7, 2, 60)])
        parts.append(post)
        words.append(np.full(60, 80, np.uint32))
    xyz, word = np.concatenate(parts), np.concatenate(words)
    remission = np.where(word & 0xFFFF == 40, 0.3, np.where(word & 0xFFFF == 80, 0.6, 0.1))
    cloud = np.column_stack([xyz, remission]).astype(np.float32)
    return cloud, word


def write_tiny(root: Path, sequences: tuple[str, ...] = ("00", "01"), scans: int = 3, labels: bool = True) -> Path:
    """Write the data set below ``root`` and return it."""
    for sequence in sequences:
        folder = root / "sequences" / sequence
        for name in ("velodyne", "labels") if labels else ("velodyne",):
            (folder / name).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(int(sequence))
        for scan in range(scans):
            cloud, words = tiny_cloud(rng)
            cloud.tofile(folder / "velodyne" / f"{scan:06d}.bin")
            if labels:
                words.tofile(folder / "labels" / f"{scan:06d}.label")
        row = " ".join(f"{v:.9e}" for v in P2.ravel())
        tr = " ".join(f"{v:.9e}" for v in TR.ravel())
        (folder / "calib.txt").write_text("".join(f"P{i}: {row}\n" for i in range(4)) + f"Tr: {tr}\n")
        poses = [np.eye(4)[:3] for _ in range(scans)]
        for i, pose in enumerate(poses):
            pose[2, 3] = float(i)
        (folder / "poses.txt").write_text("".join(" ".join(f"{v:.9e}" for v in p.ravel()) + "\n" for p in poses))
        (folder / "times.txt").write_text("".join(f"{0.1 * i:.6f}\n" for i in range(scans)))
    return root
