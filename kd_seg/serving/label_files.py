"""Point files in, SemanticKITTI ``.label`` files out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import INVALID
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.files import write_bytes
from kd_seg.scans import FileFormat
from kd_seg.scans.point_files import read_point_file
from kd_seg.scans.point_table import PointFile
from kd_seg.serving.parameters import cloud_settings, point_format
from kd_seg.serving.pointcloud2 import Decoded
from kd_seg.serving.records import Record
from kd_seg.serving.sensor_input import FrameFigures, SensorSettings, frame_figures, mismatches, prepare
from kd_seg.serving.sources import Task

if TYPE_CHECKING:
    from kd_seg.serving.segmenter import Segmenter

FILE_SENSOR = {"input.intensity_range": "unit", "input.zero_is_invalid": False}
"""What files of SemanticKITTI are taken to hold, where the parameters do not say: points (0, 0, 0) are points."""

LOOKED_AT = 5
"""Scans at the start whose figures are compared with checkpoint and settings."""


@dataclass
class Done:
    """What was labelled.

    Attributes:
        invalid: points without a class (outside the grid, not finite), raw id 0 in the file.
        empty: scans without a single point.
        skipped: scans that an earlier call had labelled.
        seconds: reading and writing included.
        warnings: what does not fit the checkpoint in the first scans, and what was odd in any; kinds: those told.
    """

    scans: int = 0
    points: int = 0
    invalid: int = 0
    empty: int = 0
    skipped: int = 0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        """The summary that ``kd-seg predict --json`` prints for files."""
        return {
            "scans": self.scans,
            "points": self.points,
            "scans_per_second": round(self.scans / self.seconds, 3) if self.seconds > 0 else 0.0,
            "invalid": self.invalid,
            "empty": self.empty,
            "skipped": self.skipped,
            "warnings": self.warnings,
        }

    def warn(self, sentence: str) -> None:
        """Keep a warning once."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def sensor_of(tasks: Sequence[Task], values: dict[str, Any]) -> SensorSettings:
    """How the files' points are taken; ``values`` are parameters by name.

    Raises UsageError where there is a .pcd, .ply or .npy whose intensity range nobody has named.
    """
    other = next((task.points for task in tasks if task.points.suffix.lower() != ".bin"), None)
    if other is not None and "input.intensity_range" not in values:
        raise UsageError(
            f"{other.name} does not record the range of its intensities; add --set input.intensity_range=unit "
            "(0 to 1), byte (0 to 255) or uint16 (0 to 65535)."
        )
    return cloud_settings({**FILE_SENSOR, **values}).sensor


def format_of(tasks: Sequence[Task], values: dict[str, Any], overrides: Sequence[str] = ()) -> FileFormat:
    """How files lie, by the parameters ``input.columns``, ``input.dtype`` and ``input.intensity_fields``.

    Args:
        overrides: what was given one by one, as ``name=value``. A parameter file, which the node has too, may name
            fields of its clouds where the files have none.

    Raises UsageError where one of them is named that none of the files can follow.
    """
    suffixes = {task.points.suffix.lower() for task in tasks}
    for name in ("input.columns", "input.dtype"):
        if name in values and tasks and ".bin" not in suffixes:
            raise UsageError(f"{name} is for .bin files; {tasks[0].points.name} names its own columns.")
    asked = {override.partition("=")[0].strip() for override in overrides}
    if "input.intensity_fields" in asked and suffixes == {".bin"}:
        raise UsageError("input.intensity_fields is for files that name their fields; .bin files have columns alone.")
    return point_format(values)


def label_files(
    segmenter: Segmenter,
    tasks: Iterable[Task],
    settings: SensorSettings,
    form: FileFormat = FileFormat(),
    record: Record | None = None,
    done: Done | None = None,
    most: int | None = None,
) -> Done:
    """Label every file, one at a time; each .label file is written whole.

    Args:
        record: of the output folder, None = none is kept.
        done: what an earlier call did, to add to.
        most: points that a scan may have (``input.max_points``), None = any number.

    Raises DataError where a file is at fault, or where no point of any scan lies in the checkpoint's range; nothing is
    written then.
    """
    done = done or Done()
    started = time.monotonic()
    present = 0
    held: list[tuple[Task, int]] = []  # scans without a class, until another scan shows that the range fits
    for task in tasks:
        plain = form if task.points.suffix.lower() == ".bin" else FileFormat(intensity_fields=form.intensity_fields)
        file = read_point_file(task.points, plain)
        if most is not None and len(file.points) > most:
            raise DataError(f"{task.points} holds {len(file.points):,} points, input.max_points is {most:,}.")
        class_id, figures = _label(segmenter, file, settings)
        present += figures.present
        _judge(done, task, file, figures, settings, segmenter)
        done.scans, done.points = done.scans + 1, done.points + len(class_id)
        done.invalid += int((class_id == INVALID).sum())
        if done.invalid == done.points and not done.skipped:
            held.append((task, len(class_id)))
            continue
        _write_held(segmenter, held, record)
        _write(segmenter, task, class_id, record)
    if present and done.invalid == done.points and not done.skipped:
        raise DataError(
            f"No point of {'the scan' if done.scans == 1 else f'the {done.scans} scans'} lies inside the checkpoint's "
            "range, so none has a class; are these metres in the sensor's frame?"
        )
    _write_held(segmenter, held, record)
    done.seconds = time.monotonic() - started
    if done.empty:
        done.warn(f"{done.empty} of {done.scans} scans hold no point")
    return done


def _write_held(segmenter: Segmenter, held: list[tuple[Task, int]], record: Record | None) -> None:
    """Write scans of so many points without a class, and forget them."""
    for task, points in held:
        _write(segmenter, task, np.full(points, INVALID, np.uint8), record)
    held.clear()


def _write(segmenter: Segmenter, task: Task, class_id: npt.NDArray[np.uint8], record: Record | None) -> None:
    content = segmenter.classes.class_to_raw(class_id).astype("<u4").tobytes()
    if record is not None:
        record.begin(task, content, int((class_id == INVALID).sum()))
    write_bytes(task.target, content)


def _label(
    segmenter: Segmenter, file: PointFile, settings: SensorSettings
) -> tuple[npt.NDArray[np.uint8], FrameFigures]:
    points = file.points
    cloud = Decoded(points[:, :3], np.ascontiguousarray(points[:, 3]), 1, len(points), None)
    prepared = prepare(cloud, settings)
    class_id = segmenter.predict_voxels(prepared)[0].spread()[0]
    return class_id, frame_figures(cloud, prepared, class_id)


def _judge(
    done: Done, task: Task, file: PointFile, figures: FrameFigures, settings: SensorSettings, segmenter: Segmenter
) -> None:
    """Count and tell what is odd about a scan."""
    if len(file.points) == 0:
        done.empty += 1
        return
    if done.scans >= LOOKED_AT:
        return
    found = mismatches(figures, settings, segmenter.sensor)
    if file.intensity is None:
        found.pop("intensity_constant", None)
        names = f"; its fields: {', '.join(file.names)}; name one with --set input.intensity_fields=[NAME]"
        done.warn(f"{task.points.suffix} files hold no intensity, taken as 0{names if file.names else ''}")
    elif file.others:
        done.warn(
            f"intensity is taken from the field {file.intensity}; there is also {', '.join(file.others)} "
            "(--set input.intensity_fields=[NAME])"
        )
    for kind, sentence in found.items():
        if kind not in done.kinds:
            done.kinds.add(kind)
            done.warn(sentence)


def output_root(out: Path) -> Path:
    """The folder that a record of predictions belongs to."""
    return out.parent if out.suffix == ".label" else out
