"""What the instance library depends on: scan numbers, labels, poses, calibration and times of each sequence."""

from __future__ import annotations

from typing import Any

from kd_seg.caches.fingerprint import Fingerprint, content_digest, listing_digest, text_digest
from kd_seg.scans import KittiSequence, SemanticKitti

LABEL_FILES = 3
"""Label files that are read in full; of the others the size counts."""


def fingerprint(data: SemanticKitti) -> Fingerprint:
    """Changes when scans, labels, poses, calibration or times change, wherever they lie on disk."""
    return {name: _sequence(sequence) for name, sequence in data.sequences.items()}


def _sequence(sequence: KittiSequence) -> dict[str, Any]:
    folder = sequence.folder
    return {
        "scans": len(sequence.indices),
        "scan_numbers": text_digest(repr(sequence.indices)),
        "labels": listing_digest([folder / "labels"], read=LABEL_FILES),
        "poses": content_digest(folder / "poses.txt"),
        "calibration": content_digest(folder / "calib.txt"),
        "times": content_digest(folder / "times.txt"),
    }
