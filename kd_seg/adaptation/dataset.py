"""The data root that a student adapts on: labelled streets, and the drive with what its teacher predicted as labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.caches.fingerprint import file_digest, listing_digest
from kd_seg.classes import ClassTable
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.core.files import write_bytes
from kd_seg.core.geometry import Matrix, invert
from kd_seg.core.progress import Progress
from kd_seg.drives.folder import calibration_text, poses_text
from kd_seg.scans import KittiSequence, Points, SemanticKitti
from kd_seg.serving.pointcloud2 import Decoded
from kd_seg.serving.sensor_input import SensorSettings, prepare

STREETS, DRIVE = "streets", "drive"
LINKED = ("times.txt", "image_2", "image_3")


def street_name(sequence: str) -> str:
    """Name of a street's sequence in the combined root."""
    return f"{STREETS}_{sequence}"


def drive_name(sequence: str) -> str:
    """Name of a drive's sequence in the combined root."""
    return f"{DRIVE}_{sequence}"


def add_streets(root: Path, streets: SemanticKitti, sensor: SensorSettings, progress: Progress) -> list[str]:
    """Put every labelled sequence of the streets into the combined root: linked, or prepared as the drive is.

    Args:
        sensor: how the sensor's points are taken. Streets of that sensor need the same gain, height and levelling,
            as the student meets them so when it is served.

    Returns the names. Raises DataError for a sequence without labels.
    """
    check_labelled(streets)
    taken = replace(sensor, intensity_range="unit", zero_is_invalid=False, own_vehicle=SensorSettings.own_vehicle)
    as_they_are = taken == SensorSettings(intensity_range="unit", zero_is_invalid=False)
    with progress("streets", len(streets)) as advance:
        for name, sequence in streets.sequences.items():
            if as_they_are:
                link(sequence.folder, root / "sequences" / street_name(name))
                advance(len(sequence.indices))
            else:
                _prepare_street(root, sequence, taken, advance)
    return [street_name(name) for name in streets.sequences]


def check_labelled(streets: SemanticKitti) -> None:
    """DataError where a sequence of the streets has no labels."""
    for sequence in streets.sequences.values():
        if not sequence.has_labels:
            raise DataError(f"{sequence.folder} has no labels/; streets must be labelled (kd-seg simulate makes them).")


def _prepare_street(
    root: Path, sequence: KittiSequence, sensor: SensorSettings, advance: Callable[[int], None]
) -> None:
    """Write a street's points as the network takes them; labels and pictures are linked."""
    folder = _begin(root, sequence, street_name(sequence.name), sensor.correction())
    link(sequence.folder / "labels", folder / "labels")
    for index in sequence.indices:
        path = folder / "velodyne" / sequence.points_path(index).name
        if not path.exists():
            points = prepare(undecoded(sequence.scan(index).points), sensor)
            write_bytes(path, np.ascontiguousarray(points, "<f4").tobytes())
        advance(1)


def content_digest(data: SemanticKitti) -> str:
    """Digest of a data root's points, poses and calibration: names and sizes, and some of the files in full."""
    return digest(
        {
            name: [
                listing_digest([sequence.folder / "velodyne"], read=3),
                file_digest(sequence.folder / "poses.txt"),
                file_digest(sequence.folder / "calib.txt"),
            ]
            for name, sequence in data.sequences.items()
        }
    )


def undecoded(points: Points) -> Decoded:
    """Points [N, 4] of a file as a cloud that :func:`kd_seg.serving.sensor_input.prepare` takes."""
    return Decoded(points[:, :3], np.ascontiguousarray(points[:, 3]), 1, len(points), None)


def begin_drive(root: Path, sequence: KittiSequence, correction: Matrix) -> Path:
    """The folder of a drive's sequence: poses, calibration, times and pictures, never its labels.

    Args:
        correction: [4, 4], from the sensor's frame to the levelled one that the points are written in.
    """
    return _begin(root, sequence, drive_name(sequence.name), correction)


def _begin(root: Path, sequence: KittiSequence, name: str, correction: Matrix) -> Path:
    folder = root / "sequences" / name
    for file in LINKED:
        if (sequence.folder / file).exists():
            link(sequence.folder / file, folder / file)
    calibration, back = sequence.calibration, invert(correction)
    if calibration is not None:
        tr = calibration.tr @ back
        write_bytes(folder / "calib.txt", calibration_text(tr, calibration.projections).encode())
        if sequence.poses is not None:
            write_bytes(folder / "poses.txt", poses_text(sequence.poses @ back, tr).encode())
    return folder


def write_scan(
    folder: Path, stem: str, points: Points, trusted: npt.NDArray[np.bool_], words: npt.NDArray[np.uint32]
) -> None:
    """Points [N, 4] (intensities 0-1) and label words [N]; points that are not trusted are unlabelled.

    Args:
        stem: name of the scan's files without suffix, as in the drive: its pictures, which are linked, have it too.
    """
    write_bytes(folder / "velodyne" / f"{stem}.bin", np.ascontiguousarray(points, "<f4").tobytes())
    write_bytes(folder / "labels" / f"{stem}.label", np.where(trusted, words, 0).astype("<u4").tobytes())


def words_of(
    class_id: npt.NDArray[np.int64], identity: npt.NDArray[np.int32], classes: ClassTable
) -> npt.NDArray[np.uint32]:
    """Label words [N] from class ids [N] (255 = none) and identities [N] (0 = none), which wrap at 16 bits."""
    raw = classes.class_to_raw(class_id.astype(np.uint8)).astype(np.uint32)
    number = np.where(identity > 0, (identity - 1) % 65535 + 1, 0).astype(np.uint32)
    return np.where(raw > 0, raw | (number << np.uint32(16)), 0).astype(np.uint32)


def link(source: Path, target: Path) -> None:
    """A symbolic link to a file or folder; DataError where something else is in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = source.resolve()
    if target.is_symlink() and Path(os.readlink(target)) == wanted:
        return
    if target.exists() or target.is_symlink():
        raise DataError(f"{target} is in the way of a link to {wanted}; delete it, or choose another --out.")
    target.symlink_to(wanted)
