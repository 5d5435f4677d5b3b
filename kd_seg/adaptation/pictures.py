"""Image teachers of a drive: what its pictures show at its points, and how far that is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.adaptation.consolidate import Drive
from kd_seg.adaptation.evidence import (
    NO_ANSWER,
    Answers,
    Evidence,
    answers_of,
    answers_path,
    estimate,
    read_answers,
)
from kd_seg.adaptation.settings import DriveImagesSettings
from kd_seg.adaptation.teacher import Distribution
from kd_seg.classes import ClassTable
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.core.files import write_array
from kd_seg.core.progress import Progress
from kd_seg.images.fingerprint import fingerprint
from kd_seg.images.projection.cameras import SeenView, seen_views, shots
from kd_seg.images.teachers import IMAGE_TEACHERS, NO_PREDICTION, SemanticMap, build_teacher
from kd_seg.images.teachers.memory import Remembering
from kd_seg.images.units.cache import check_vocabulary
from kd_seg.images.units.class_maps import ClassMap, load_class_map
from kd_seg.objectives.shared.image_teacher import tools
from kd_seg.scans import KittiSequence, SemanticKitti


class PictureReader:
    """What pictures show at the points of scans, by an image teacher.

    Args:
        classes: of the point teacher. device: of the image teacher's network.

    Raises:
        KdSegError: the teacher cannot be built, or class map, classes and teacher do not fit.
    """

    def __init__(self, settings: DriveImagesSettings, data: SemanticKitti, classes: ClassTable, device: str) -> None:
        self._settings, self._data = settings, data
        self.class_map: ClassMap = load_class_map(settings.class_map, classes)
        teacher = build_teacher(settings.teacher, tools(data, classes, device, self.class_map.vocabulary))
        check_vocabulary(teacher.vocabulary, self.class_map, settings.class_map)
        self.provenance = teacher.provenance().to_json()
        self._predict = Remembering(teacher.predict)

    def answers(self, sequence: KittiSequence, index: int) -> Answers:
        """The answers [N] at a scan's points; where several pictures show a point, the surest."""
        scan = sequence.scan(index)
        answers = np.full(len(scan.points), NO_ANSWER, np.int16)
        surest = np.full(len(scan.points), -1.0, np.float32)
        for view in seen_views(scan, sequence, self._settings.projection):
            found = self._map(view)
            if found is None:
                continue
            cells, rows = view.pairs.cells(), view.pairs.rows
            teacher_class, confidence = found.classes[cells].astype(np.int64), found.confidence[cells]
            better = (teacher_class != NO_PREDICTION) & (confidence > surest[rows])
            answers[rows[better]] = answers_of(teacher_class[better], confidence[better])
            surest[rows[better]] = confidence[better]
        return answers

    def _map(self, view: SeenView) -> SemanticMap | None:
        output = self._predict(view.shot)
        if output is not None and output.semantic is None:
            raise ConfigError(
                f"teacher.images: a teacher of kind {self._settings.teacher.kind} gives no map of classes for "
                f"{view.shot.camera.image}; name one that does."
            )
        return None if output is None else output.semantic


def write_answers(reader: PictureReader, data: SemanticKitti, folder: Path, progress: Progress) -> None:
    """Write what pictures show at the points of every scan; files that are there are kept.

    Raises DataError where not one point of the drive has an answer.
    """
    answered = False
    with progress("reading pictures", len(data)) as advance:
        for name, sequence in data.sequences.items():
            for index in sequence.indices:
                path = answers_path(folder, name, index)
                if not path.exists():
                    write_array(path, reader.answers(sequence, index))
                answered = answered or bool((read_answers(folder, name, index) != NO_ANSWER).any())
                advance(1)
    if not answered:
        raise DataError(
            f"The image teacher has no class for any point of {data.root}; check that it knows the drive's pictures by "
            "sequence and name."
        )


def with_pictures(
    drive: Drive, reader: PictureReader, folder: Path, progress: Progress
) -> tuple[Drive, dict[str, Any]]:
    """The drive whose predictions are weighed by its pictures, and how far both teachers agree, as plain data.

    Args:
        folder: of the answers that :func:`write_answers` wrote.
    """

    def scans() -> Iterator[tuple[Answers, Distribution]]:
        with progress("comparing pictures with predictions", len(drive.data)) as advance:
            for name, sequence in drive.data.sequences.items():
                for index in sequence.indices:
                    yield read_answers(folder, name, index), drive.read(name, index)
                    advance(1)

    alone, likelihood = estimate(scans, reader.class_map)
    return replace(drive, evidence=Evidence(folder, likelihood)), {
        "provenance": reader.provenance,
        "classes": alone.to_json(),
    }


def identity(settings: DriveImagesSettings, data: SemanticKitti) -> dict[str, Any]:
    """What answers depend on, as plain data: settings, the image teacher's files and the drive's pictures."""
    return {
        "settings": settings.model_dump(mode="json"),
        "teacher": IMAGE_TEACHERS.get(settings.teacher.kind).identify(settings.teacher),
        "data": fingerprint(data),
    }


def check_pictures(settings: DriveImagesSettings, data: SemanticKitti) -> None:
    """DataError where not one scan of the drive has a picture of a camera that the settings name."""
    scans = (sequence.scan(index) for sequence in data.sequences.values() for index in sequence.indices)
    if not any(shots(scan, settings.projection) for scan in scans):
        raise DataError(
            f"{data.root} has no picture with a calibration (image_2 or image_3, and calib.txt); add them with "
            "kd-seg convert --camera, or leave teacher.images out."
        )
