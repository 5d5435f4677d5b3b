"""Scans, labels and predictions drawn by seed: what tests/fixtures/official_evaluator.json was computed on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from kd_seg.classes import load_classes

CASES = {
    "all_classes": {"table": "semantic_kitti_19", "seed": 11, "absent": (), "unknown": False},
    "absent_and_unknown": {"table": "semantic_kitti_19", "seed": 12, "absent": (11, 31, 32, 253, 255), "unknown": True},
    "moving": {"table": "semantic_kitti_25", "seed": 13, "absent": (256, 257, 259), "unknown": True},
}
"""Cases by name; ``absent`` raw ids are neither true nor predicted, ``unknown`` puts unknown ones into predictions."""


def write_case(root: Path, name: str) -> str:
    """Write sequence 08 of three scans below ``root`` (velodyne, labels, predictions); returns a digest of all files.

    Labels are drawn over all known raw ids with random instance ids; predictions repeat 70 % of them, 5 % are raw 0.
    Points lie at ranges of 0 to 60 m, some exactly at 0, 10 and 20 m.
    """
    case = CASES[name]
    rng = np.random.default_rng(case["seed"])
    raw_ids = np.array([r for r in sorted(load_classes(case["table"]).raw_train) if r not in case["absent"]])
    digest = hashlib.sha256()
    for scan, count in enumerate((4000, 2500, 1)):
        points = rng.normal(size=(count, 4)).astype(np.float32)
        points[:, :3] /= np.linalg.norm(points[:, :3], axis=1, keepdims=True)
        points[:, :3] *= rng.uniform(0, 60, size=(count, 1)).astype(np.float32)
        if count > 30:
            points[:30, :3] = 0
            points[10:20, 0] = 10
            points[20:30, 1] = 20
        truth = rng.choice(raw_ids, size=count)
        predicted = np.where(rng.random(count) < 0.7, truth, rng.choice(raw_ids, size=count))
        predicted[rng.random(count) < 0.05] = 0
        if case["unknown"]:
            predicted[rng.random(count) < 0.02] = 7
            predicted[rng.random(count) < 0.02] = 300
        words = truth.astype(np.uint32) | (rng.integers(0, 1 << 16, size=count).astype(np.uint32) << 16)
        files = {
            f"velodyne/{scan:06d}.bin": points.astype("<f4").tobytes(),
            f"labels/{scan:06d}.label": words.astype("<u4").tobytes(),
            f"predictions/{scan:06d}.label": predicted.astype("<u4").tobytes(),
        }
        for path, content in files.items():
            file = root / "sequences" / "08" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            digest.update(content)
    return digest.hexdigest()
