"""What is asked of the training scans before the first step: a run on nothing would end with a loss of 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.networks import Encoding
from kd_seg.scans import Key, Scan, SemanticKitti
from kd_seg.scans.intensity import intensity_faults
from kd_seg.voxels import voxelize

LOOKED_AT = 5
"""Scans, evenly spread, that are read before training begins."""


def check_labels(data: SemanticKitti) -> None:
    """DataError where a sequence that labels are learned from has none."""
    for name, sequence in data.sequences.items():
        if not sequence.has_labels and len(sequence.indices):
            raise DataError(
                f"Sequence {name} has no labels/ ({sequence.folder / 'labels'}), which the objectives learn from; "
                "leave it out of data.train, or name it in data.unlabelled."
            )


def check_scans(
    data: SemanticKitti, keys: Sequence[Key], labelled: bool, classes: ClassTable, encoding: Encoding, intensity: str
) -> list[str]:
    """Warnings about a few of the scans that a run draws from.

    Args:
        labelled: whether their labels are learned from.
        intensity: the declared range, ``data.sensor.intensity_range``.

    Raises DataError where none of them has a point inside the grid, or none a labelled one there.
    """
    unique = list(dict.fromkeys(keys))
    step = max(1, -(-len(unique) // LOOKED_AT))
    scans = [data.scan(*key) for key in unique[::step]]
    if not scans:
        return []
    inside = [_inside(scan, encoding) for scan in scans]
    points = sum(len(each) for each in inside)
    seen = sum(int(each.sum()) for each in inside)
    names = scans[0].name if len(scans) == 1 else f"{len(scans)} scans, {scans[0].name} the first,"
    if points and not seen:
        raise DataError(
            f"No point of {names} lies inside the grid ({data.root}); are these metres in the sensor's frame? See grid."
        )
    if (
        labelled
        and points
        and not any(_labelled(scan, each, classes) for scan, each in zip(scans, inside, strict=True))
    ):
        raise DataError(
            f"No labelled point of {names} lies inside the grid, so there is nothing to learn ({data.root}); check the "
            "labels, data.classes and grid."
        )
    warnings = intensity_faults((scan.file_points for scan in scans), intensity, "data.sensor.intensity_range")
    if points and seen < 0.5 * points:
        warnings.append(
            f"{100 * (1 - seen / points):.0f} % of the points of {names} lie outside the grid; are these metres in the "
            "sensor's frame?"
        )
    return warnings


def _inside(scan: Scan, encoding: Encoding) -> npt.NDArray[np.bool_]:
    """Rows [N] of a scan's file that have a voxel."""
    inside: npt.NDArray[np.bool_] = voxelize(np.ascontiguousarray(scan.points[:, :3]), encoding.grid).inverse >= 0
    return inside


def _labelled(scan: Scan, inside: npt.NDArray[np.bool_], classes: ClassTable) -> bool:
    words = scan.labels
    return words is not None and bool((classes.to_train(words, scan.name)[inside] > 0).any())
