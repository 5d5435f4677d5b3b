"""Point files, sequences and data roots in, SemanticKITTI ``.label`` files out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_seg.checkpoint import write_whole
from kd_seg.classes import INVALID
from kd_seg.core.errors import UsageError
from kd_seg.scans import KittiSequence, Points, SemanticKitti, read_points
from kd_seg.scans.point_files import BAG_SUFFIXES, READERS
from kd_seg.serving.parameters import cloud_settings
from kd_seg.serving.pointcloud2 import Decoded
from kd_seg.serving.sensor_input import SensorSettings, frame_figures, mismatches, prepare

if TYPE_CHECKING:
    from kd_seg.serving.segmenter import Segmenter

FILE_SENSOR = {"input.intensity_range": "unit", "input.zero_is_invalid": False}
"""What files of SemanticKITTI are taken to hold, where the parameters do not say: points (0, 0, 0) are points."""


@dataclass(frozen=True)
class Task:
    """One point file to be labelled."""

    points: Path
    target: Path


@dataclass(frozen=True)
class Done:
    """What was labelled.

    Attributes:
        invalid: points without a class (outside the grid, not finite), raw id 0 in the file.
        seconds: reading and writing included.
        warnings: what does not fit the checkpoint in the first scan.
    """

    scans: int
    points: int
    invalid: int
    seconds: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The keys that design 5 fixes for ``kd-seg predict --json``, and more."""
        return {
            "scans": self.scans,
            "points": self.points,
            "scans_per_second": round(self.scans / self.seconds, 3) if self.seconds > 0 else 0.0,
            "invalid": self.invalid,
            "warnings": list(self.warnings),
        }


def plan(source: Path, out: Path, part: int = 1, parts: int = 1) -> list[Task]:
    """What is to be labelled and where it goes.

    A sequence or data root goes to ``out/sequences/NN/predictions/XXXXXX.label``; a point file to ``out`` if that ends
    in .label, else to ``out/STEM.label``.

    Args:
        part, parts: take every ``parts``-th file from the ``part``-th (from 1).

    Raises:
        UsageError: the source is nothing that can be labelled. DataError: a folder is not what it should be.
    """
    if source.is_file():
        if source.suffix.lower() not in READERS:
            known = ", ".join([*sorted(READERS), *BAG_SUFFIXES])
            raise UsageError(f"{source} is no point file or bag that can be labelled; known suffixes: {known}.")
        return [Task(source, out if out.suffix == ".label" else out / f"{source.stem}.label")]
    if not source.exists():
        raise UsageError(f"{source} does not exist; check the path.")
    sequences = [KittiSequence(source)] if (source / "velodyne").is_dir() else SemanticKitti(source).sequences.values()
    if out.suffix == ".label":
        raise UsageError(f"{source} holds many scans, so --out must be a folder, not {out.name}.")
    tasks = []
    for sequence in sequences:
        folder = out / "sequences" / sequence.name / "predictions"
        for index in sequence.indices:
            path = sequence.points_path(index)
            tasks.append(Task(path, folder / f"{path.stem}.label"))
    return tasks[part - 1 :: parts]


def sensor_of(source: Path, values: dict[str, Any]) -> SensorSettings:
    """How the source's points are taken; ``values`` are parameters by name.

    Raises:
        UsageError: a .pcd, .ply or .npy whose intensity range nobody has named.
    """
    if source.is_file() and source.suffix.lower() != ".bin" and "input.intensity_range" not in values:
        raise UsageError(
            f"{source.name} does not say which range its intensities have; add --set input.intensity_range=unit "
            "(0 to 1), byte (0 to 255) or uint16 (0 to 65535)."
        )
    return cloud_settings({**FILE_SENSOR, **values}).sensor


def label_files(segmenter: Segmenter, tasks: Iterable[Task], settings: SensorSettings) -> Done:
    """Label every file, one at a time; each .label file is written whole."""
    scans = points = invalid = 0
    warnings: tuple[str, ...] = ()
    started = time.monotonic()
    for task in tasks:
        class_id, said = _label(segmenter, read_points(task.points), settings, first=scans == 0)
        warnings += said
        write_whole(task.target, segmenter.classes.class_to_raw(class_id).astype("<u4").tobytes())
        scans, points, invalid = scans + 1, points + len(class_id), invalid + int((class_id == INVALID).sum())
    return Done(scans, points, invalid, time.monotonic() - started, warnings)


def _label(
    segmenter: Segmenter, points: Points, settings: SensorSettings, first: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    cloud = Decoded(points[:, :3], np.ascontiguousarray(points[:, 3]), 1, len(points), None)
    prepared = prepare(cloud, settings, segmenter.sensor)
    class_id = segmenter.segment(prepared).class_id
    if not first:
        return class_id, ()
    figures = frame_figures(cloud, prepared, class_id)
    return class_id, tuple(mismatches(figures, settings, segmenter.sensor).values())
