"""From a recording to figures of its sensor and the node's parameter file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError, UsageError
from kd_seg.drives.calibration.figures import SensorFigures, measure
from kd_seg.drives.calibration.parameters_file import ParameterLine, parameter_lines, parameter_text, warnings
from kd_seg.drives.recording import BagRecording, FolderRecording, RecordedCloud, Recording
from kd_seg.scans import FileFormat, Sensor, is_bag
from kd_seg.serving.pointcloud2 import DEFAULT_INTENSITY_FIELDS


@dataclass(frozen=True)
class Calibrated:
    """What was measured.

    Attributes:
        text: the parameter file. frames: the clouds, for a picture.
    """

    source: Path
    figures: SensorFigures
    lines: tuple[ParameterLine, ...]
    text: str
    warnings: tuple[str, ...]
    frames: tuple[RecordedCloud, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``kd-seg calibrate --json`` prints it."""
        parameters = {f"input.{line.name}": line.value for line in self.lines}
        return {"figures": asdict(self.figures), "parameters": parameters, "warnings": list(self.warnings)}


def calibrate(
    source: Path,
    sensor: Sensor,
    topic: str | None = None,
    clouds: int = 100,
    intensity_fields: tuple[str, ...] = DEFAULT_INTENSITY_FIELDS,
    advance: Callable[[int], None] = lambda count: None,
    form: FileFormat = FileFormat(),
) -> Calibrated:
    """Measure a sensor on evenly spread clouds of a recording.

    Args:
        source: a bag, a folder of point files, a sequence folder or its velodyne/.
        sensor: what the checkpoint was trained for.
        clouds: how many to read at most, 1 or more.
        form: how point files lie.

    Raises UsageError for a source of another kind and for less than one cloud, DataError where no cloud can be read.
    """
    if clouds < 1:
        raise UsageError(f"--clouds {clouds}: at least 1 cloud must be read.")
    recording = open_recording(source, topic, intensity_fields, form)
    count = len(recording)
    wanted = frozenset(np.unique(np.linspace(0, count - 1, min(clouds, count)).round().astype(int)).tolist())
    frames = []
    for frame in recording.frames(wanted):
        frames.append(frame)
        advance(1)
    if not frames:
        raise DataError(f"{source} holds no cloud that can be read ({recording.rejected()}); check the topic.")
    figures = measure(frames)
    fields = [recording.intensity_field] if isinstance(recording, BagRecording) else list(form.intensity_fields)
    lines = parameter_lines(figures, sensor, [name for name in fields if name])
    said = list(warnings(figures, sensor))
    if isinstance(recording, BagRecording) and recording.times_fault:
        said.append(recording.times_fault)
    said += [f"{number} clouds were refused: {reason}." for reason, number in recording.rejected().items()]
    return Calibrated(source, figures, tuple(lines), parameter_text(lines, source.name), tuple(said), tuple(frames))


def open_recording(
    source: Path, topic: str | None, intensity_fields: tuple[str, ...], form: FileFormat = FileFormat()
) -> Recording:
    """The recording that a path names; UsageError where it is none, or an option is given that has no effect on it."""
    if not source.exists():
        raise UsageError(f"{source} does not exist; give a bag or a folder of point files.")
    if is_bag(source):
        return BagRecording(source, topic, intensity_fields, with_times=True)
    if topic is not None:
        raise UsageError(f"--topic is for bags; {source} is none.")
    if not source.is_dir():
        raise UsageError(f"{source} is neither a bag nor a folder of point files.")
    velodyne = source / "velodyne"
    recording = FolderRecording(velodyne if velodyne.is_dir() else source, None, form)
    if form.intensity_fields and all(path.suffix.lower() == ".bin" for path in recording.paths):
        raise UsageError(f"input.intensity_fields is for files that name their fields; {recording.source} holds none.")
    return recording
