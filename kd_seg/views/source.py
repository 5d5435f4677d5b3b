"""From what a user names to one scan to draw: a scan file, a sequence or data root, predictions, a bag."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError, UsageError
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.scans import (
    Camera,
    FileFormat,
    KittiSequence,
    Points,
    Scan,
    SemanticKitti,
    Words,
    read_points,
    read_words,
    to_unit,
)
from kd_seg.scans.intensity import intensity_faults
from kd_seg.serving.sources import sequences_of


@dataclass(frozen=True)
class ShownScan:
    """One scan as a picture needs it.

    Attributes:
        name: for titles, such as "04/000003".
        points: [N, 4], intensity as the file has it.
        train: train ids [N], or None where nothing is known of classes.
        words: label words [N] with instances, or None.
        cameras: pictures taken with it.
        scan: where it came from, if it is a scan of the SemanticKITTI layout.
    """

    name: str
    points: Points
    train: TrainIds | None = None
    words: Words | None = None
    cameras: tuple[Camera, ...] = ()
    scan: Scan | None = None


def is_prediction(path: Path) -> bool:
    """Is this a .label file outside a ``labels`` folder, or a folder of predictions without scans of its own?"""
    if path.suffix == ".label":
        return path.parent.name != "labels"
    if not path.is_dir():
        return False
    if any(path.glob("*.label")) and not (path / "velodyne").is_dir():
        return path.name != "labels"
    sequences = path / "sequences"
    return sequences.is_dir() and not any(sequences.glob("*/velodyne")) and any(sequences.glob("*/predictions"))


def is_network(path: Path) -> bool:
    """Is this a checkpoint or a run folder?"""
    return path.suffix == ".safetensors" or (path / "checkpoints").is_dir()


def open_shot(path: Path, which: str | None, classes: ClassTable, form: FileFormat = FileFormat()) -> ShownScan:
    """The scan at ``path``.

    Args:
        path: a point file, a sequence folder or a data root.
        which: "SS/NNNNNN" or "NNNNNN" of a data root or sequence; None = the first one with a picture, else the first.
        classes: for its labels, unknown raw ids being 0.
        form: how point files lie.
    """
    if path.is_dir():
        return _shot_of(find_scan(path, which, form), classes)
    if which is not None:
        raise UsageError(f"--scan {which} is for data roots, sequences and bags; {path} holds one scan.")
    if path.suffix == ".bin" and path.parent.name == "velodyne" and _is_number(path.stem):
        return _shot_of(KittiSequence(path.parent.parent, form).scan(int(path.stem)), classes)
    if path.suffix == ".label":
        raise UsageError(f"{path} has no points of its own; name the data with --against, or view the scan itself.")
    points = read_points(path, form)
    if len(points) == 0:
        logging.getLogger("kd_seg").warning("%s holds no point", path)
    return ShownScan(path.name, points)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def find_scan(folder: Path, which: str | None, form: FileFormat = FileFormat()) -> Scan:
    """A scan of a data root or of a sequence folder by its name; DataError names what there is."""
    sequence, number = _split_name(which)
    if sequence is not None and (folder / "sequences").is_dir():
        sequences = list(SemanticKitti(folder, [sequence], form).sequences.values())
    else:
        found = sequences_of(folder, form)
        if found is None:
            raise DataError(
                f"{folder} has no sequences/ folder and is no sequence; give a data root, a sequence or one file."
            )
        sequences = [each for each in found if sequence is None or each.name == sequence]
    candidates = [s for s in sequences if number is None or number in s]
    if not candidates:
        raise DataError(f"{folder} has no scan {which}; it has {sum(len(s.indices) for s in sequences)} scans.")
    if number is not None:
        return candidates[0].scan(number)
    scans = [s.scan(index) for s in candidates for index in s.indices[:1]]
    if not scans:
        raise DataError(f"{folder} has no scans.")
    return next((scan for scan in scans if cameras_of(scan)), scans[0])


def _split_name(which: str | None) -> tuple[str | None, int | None]:
    if which is None:
        return None, None
    sequence, slash, number = which.rpartition("/")
    if not _is_number(number):
        raise UsageError(f"--scan {which!r} is not of the form SEQUENCE/NUMBER or NUMBER, such as 04/000003.")
    return (sequence if slash else None), int(number)


def _shot_of(scan: Scan, classes: ClassTable) -> ShownScan:
    words = scan.labels if scan.labels_path is not None and scan.labels_path.is_file() else None
    train = classes.to_train_lenient(words)[0] if words is not None else None
    return ShownScan(scan.name, scan.file_points, train, words, cameras_of(scan), scan)


def cameras_of(scan: Scan) -> tuple[Camera, ...]:
    """The scan's pictures; none where its calibration is broken, which a warning tells."""
    try:
        return scan.cameras
    except DataError as error:
        logging.getLogger("kd_seg").warning("drawn without pictures: %s", error)
        return ()


def predicted(path: Path, shot: ShownScan, classes: ClassTable) -> TrainIds:
    """What a .label file or a folder of them holds for a shot's points; DataError if it does not fit."""
    file = path
    if path.is_dir():
        if shot.scan is None:
            raise UsageError(
                f"{shot.name} is no scan of a sequence, so {path} cannot name its prediction; give the file."
            )
        nested = path / "sequences" / shot.scan.sequence / "predictions"
        file = (nested if nested.is_dir() else path) / f"{shot.scan.points_path.stem}.label"
    words = read_words(file)
    if len(words) != len(shot.points):
        raise DataError(
            f"{file} has {len(words)} predictions, {shot.name} has {len(shot.points)} points; predict it again."
        )
    return classes.to_train_lenient(words)[0]


def segmented(path: Path, shot: ShownScan, classes: ClassTable, intensity_range: str) -> TrainIds:
    """What a checkpoint or run predicts for a shot's points; a warning tells intensities of another range."""
    from kd_seg.serving.segmenter import Segmenter

    segmenter = Segmenter(path)
    if segmenter.classes.names != classes.names:
        raise UsageError(
            f"{path} was trained on {segmenter.classes.name}; view it with --classes {segmenter.classes.name}."
        )
    for sentence in intensity_faults([shot.points], intensity_range, "--intensity-range"):
        logging.getLogger("kd_seg").warning("%s", sentence)
    prediction = segmenter.segment(to_unit(shot.points, intensity_range))
    return classes.class_to_train(prediction.class_id)
