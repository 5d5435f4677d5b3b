"""What the instance library depends on: scan numbers, points, labels, poses, calibration and times of each sequence."""

from __future__ import annotations

from typing import Any

from kd_seg.caches.fingerprint import Fingerprint, content_digest, listing_digest, text_digest
from kd_seg.scans import KittiSequence, SemanticKitti

READ = 3
"""Scans whose points and labels are read in full; of the others the sizes of the files count."""


def fingerprint(data: SemanticKitti) -> Fingerprint:
    """Changes when points, labels, poses, calibration or times change, wherever they lie on disk."""
    return {name: _sequence(sequence) for name, sequence in data.sequences.items()}


def _sequence(sequence: KittiSequence) -> dict[str, Any]:
    folder = sequence.folder
    return {
        "scans": len(sequence.indices),
        "scan_numbers": text_digest(repr(sequence.indices)),
        "points": listing_digest([folder / "velodyne"], read=READ),
        "labels": listing_digest([folder / "labels"], read=READ),
        "poses": content_digest(folder / "poses.txt"),
        "calibration": content_digest(folder / "calib.txt"),
        "times": content_digest(folder / "times.txt"),
    }
