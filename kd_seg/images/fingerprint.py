"""What the caches of image teachers depend on: scan numbers, pictures, calibration and poses of each sequence."""

from __future__ import annotations

from typing import Any

from kd_seg.caches.fingerprint import Fingerprint, file_digest, listing_digest, text_digest
from kd_seg.scans import KittiSequence, SemanticKitti


def fingerprint(data: SemanticKitti) -> Fingerprint:
    """Changes when scans, pictures, calibration or poses change. It does not depend on labels."""
    return {name: _sequence(sequence) for name, sequence in data.sequences.items()}


def _sequence(sequence: KittiSequence) -> dict[str, Any]:
    folder = sequence.folder
    return {
        "scan numbers": text_digest(repr(sequence.indices)),
        "pictures": listing_digest(sorted(folder.glob("image_*"))),
        "calibration": file_digest(folder / "calib.txt"),
        "poses": file_digest(folder / "poses.txt"),
    }
