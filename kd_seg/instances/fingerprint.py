"""What a cache was made from, cheaply: scan numbers, label sizes, poses, calibration, a few label files in full."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from kd_seg.scans import KittiSequence, SemanticKitti


def fingerprint(data: SemanticKitti) -> dict[str, Any]:
    """Plain data that changes when scans, labels, poses or calibration change; nothing of where they lie on disk."""
    return {name: _sequence(sequence) for name, sequence in data.sequences.items()}


def _sequence(sequence: KittiSequence) -> dict[str, Any]:
    indices = sequence.indices
    scans = hashlib.sha256(repr(indices).encode())
    labels = hashlib.sha256()
    folder = sequence.folder / "labels"
    if folder.is_dir():
        sizes = sorted((entry.name, entry.stat().st_size) for entry in os.scandir(folder))
        labels.update(repr(sizes).encode())
        for name, _ in sizes[:1] + sizes[len(sizes) // 2 : len(sizes) // 2 + 1] + sizes[-1:]:
            labels.update((folder / name).read_bytes())
    return {
        "scans": len(indices),
        "scan_numbers": scans.hexdigest()[:16],
        "labels": labels.hexdigest()[:16],
        "poses": _file(sequence.folder / "poses.txt"),
        "calibration": _file(sequence.folder / "calib.txt"),
        "times": _file(sequence.folder / "times.txt"),
    }


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "none"


def difference(made_from: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Where two fingerprints differ, in words; None where they agree on every sequence of ``now``.

    A library may hold more sequences than are asked for, not fewer.
    """
    for name, entry in now.items():
        if name not in made_from:
            return f"it has no sequence {name}"
        for key, value in entry.items():
            if made_from[name].get(key) != value:
                return f"{key.replace('_', ' ')} of sequence {name} changed"
    return None
