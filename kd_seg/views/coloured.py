"""A scan's points in the colours of its classes, predictions and errors, for windows and for files of points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.core.files import write_bytes
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.scans import Points
from kd_seg.views.colours import Colours, class_colours, error_colours, height_colours


@dataclass(frozen=True)
class ColouredCloud:
    """Points and the ways to colour them.

    Attributes:
        name: for titles.
        points: [N, 4], all finite.
        train: train ids [N] of predictions where there are some, else of labels, else 0.
        ways: colours [N, 3] by name; the first is shown first.
    """

    name: str
    points: Points
    train: TrainIds
    ways: dict[str, Colours]


def coloured(
    name: str, points: Points, truth: TrainIds | None, predicted: TrainIds | None, classes: ClassTable
) -> ColouredCloud:
    """A cloud without its missing points; errors where truth and predictions are both known."""
    rows = np.flatnonzero(np.isfinite(points[:, :3]).all(axis=1))
    points = points[rows]
    ways: dict[str, Colours] = {}
    if predicted is not None and truth is not None:
        ways["errors"] = error_colours(predicted[rows], truth[rows])
    if predicted is not None:
        ways["predictions"] = class_colours(predicted[rows], classes)
    if truth is not None:
        ways["labels"] = class_colours(truth[rows], classes)
    ways["height"] = height_colours(points)
    known = predicted if predicted is not None else truth
    train = known[rows] if known is not None else np.zeros(len(rows), np.uint8)
    return ColouredCloud(name, points, train, ways)


def write_ply(path: Path, cloud: ColouredCloud, classes: ClassTable) -> None:
    """Write x, y, z, colour, intensity and raw class id as binary PLY, which MeshLab, CloudCompare and others open."""
    kinds = [("xyz", "<f4", 3), ("rgb", "u1", 3), ("intensity", "<f4"), ("label", "<u2")]
    rows = np.zeros(len(cloud.points), kinds)
    rows["xyz"], rows["intensity"] = cloud.points[:, :3], cloud.points[:, 3]
    rows["rgb"] = next(iter(cloud.ways.values()))
    rows["label"] = classes.class_to_raw(classes.train_to_class(cloud.train))
    properties = [
        *(f"float {axis}" for axis in "xyz"), *(f"uchar {colour}" for colour in ("red", "green", "blue")),
        "float intensity", "ushort label",
    ]  # fmt: skip
    header = [
        "ply", "format binary_little_endian 1.0", f"comment kd_seg: {cloud.name}".encode("ascii", "replace").decode(),
        f"comment colours: {next(iter(cloud.ways))}; label: raw id of {classes.name}", f"element vertex {len(rows)}",
        *(f"property {each}" for each in properties), "end_header",
    ]  # fmt: skip
    write_bytes(path, ("\n".join(header) + "\n").encode("ascii", "replace") + rows.tobytes())
