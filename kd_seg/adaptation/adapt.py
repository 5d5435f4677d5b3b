"""The whole adaptation: rounds of predicting, voting, trusting and training, resumable, with figures of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.adaptation.consolidate import Drive, predict_drive, write_labels
from kd_seg.adaptation.dataset import add_streets, check_labelled, content_digest, drive_name, street_name
from kd_seg.adaptation.fit import as_stored
from kd_seg.adaptation.pictures import PictureReader, check_pictures, identity, with_pictures, write_answers
from kd_seg.adaptation.settings import AdaptSettings
from kd_seg.adaptation.statistics import ShareTaken, take_statistics
from kd_seg.adaptation.teacher import Teacher, fuses
from kd_seg.caches import Work
from kd_seg.checkpoint import read_spec, resolve, sha256, shipped
from kd_seg.classes import load_classes
from kd_seg.core.config import digest, validate
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.files import write_json
from kd_seg.core.progress import Progress
from kd_seg.scans import SemanticKitti
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorSettings
from kd_seg.training import Trainer, TrainingConfig
from kd_seg.training.prepare import prepare
from kd_seg.voxels import CartesianGrid

Train = Callable[[TrainingConfig, bool], Path]
"""Trains a configuration, resuming if asked, and returns the checkpoint."""

ClassIds = Callable[[str, int], npt.NDArray[np.int64]]
"""Class ids [N] by sequence and scan number."""

STATISTICS_SCANS = 60
"""Scans of a drive, spread over it, that statistics are taken from."""

REPORT, PLAN, PICTURES = "adaptation.json", "plan.json", "pictures"


@dataclass(frozen=True)
class AdaptRequest:
    """What is to be adapted.

    Attributes:
        drive: data root without labels (they are never opened). streets: data root with labels, of the same sensor.
        out: folder of the adaptation. sensor: how the sensor's points are taken, those of the streets too.
        device, threads: of the networks.
    """

    drive: Path
    streets: Path
    out: Path
    settings: AdaptSettings
    sensor: SensorSettings
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Attributes:
        checkpoint: the adapted student. figures: agreement of each round and of the student, as plain data.
    """

    checkpoint: Path
    figures: dict[str, Any]


def adapt(request: AdaptRequest, progress: Progress, train: Train) -> Adapted:
    """Adapt a student to the sensor of a drive; what an interrupted run has finished is not done again.

    Raises UsageError where ``out`` holds another adaptation, DataError where drive or streets cannot be used.
    """
    first, start, data = _begin(request)
    settings = request.settings
    checkpoint, student = first, None
    figures: dict[str, Any] = {"rounds": []}
    for number in range(1, settings.rounds + 1):
        folder = request.out / f"round_{number}"
        teacher, taken = _teacher(request, checkpoint, data)
        streets, taught = _label(request, teacher, data, folder, student, progress)
        figures["rounds"].append({"teacher": str(checkpoint), "statistics": taken.share, **taught})
        config = training_config(settings, start, folder / "data", streets, data, folder / "run")
        checkpoint = train(config, (folder / "run" / "state.pt").exists())
        own = replace(teacher, segmenter=Segmenter(checkpoint, request.device))
        student = _reader(Drive(data, folder / "predictions"), own, folder, progress)
        figures["rounds"][-1]["student"] = _student_figures(data, folder, settings, teacher)
    write_json(request.out / REPORT, figures)
    return Adapted(checkpoint, figures)


def label(request: AdaptRequest, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """The first round's labels without any training.

    Returns the data root of the labelled streets and the drive with its labels, and agreement over time as plain data.
    Raises as :func:`adapt`, which goes on from here in the same folder.
    """
    first, _, data = _begin(request)
    folder = request.out / "round_1"
    teacher, taken = _teacher(request, first, data)
    _, figures = _label(request, teacher, data, folder, None, progress)
    return folder / "data", {"statistics": taken.share, **figures}


def _label(
    request: AdaptRequest,
    teacher: Teacher,
    data: SemanticKitti,
    folder: Path,
    student: ClassIds | None,
    progress: Progress,
) -> tuple[list[str], dict[str, Any]]:
    """Predict, vote, trust and write one round's data root: the streets' names in it, and agreement over time."""
    reader = _read_pictures(request, teacher, data, progress)  # first, so that faults show before the long part
    drive, pictures = Drive(data, folder / "predictions"), {}
    predict_drive(drive, teacher, progress)
    if reader is not None:
        drive, pictures["pictures"] = with_pictures(drive, reader, request.out / PICTURES, progress)
    streets = add_streets(folder / "data", SemanticKitti(request.streets), request.sensor, progress)
    backward = student if request.settings.trust.backward else None
    before, after = write_labels(drive, folder / "data", teacher, request.settings, backward, progress)
    return streets, {"fused": teacher.fuse, **pictures, "before": before.to_json(), "voted": after.to_json()}


def _read_pictures(
    request: AdaptRequest, teacher: Teacher, data: SemanticKitti, progress: Progress
) -> PictureReader | None:
    """Write what the drive's pictures show, where an image teacher is asked for."""
    images = request.settings.teacher.images
    if images is None:
        return None
    reader = PictureReader(images, data, teacher.segmenter.classes, str(teacher.segmenter.device))
    write_answers(reader, data, request.out / PICTURES, progress)
    return reader


def _check_classes(teacher: Path, student: Path) -> None:
    names = [read_spec(path).classes.names for path in (teacher, student)]
    if names[0] != names[1]:
        raise UsageError(
            f"{teacher} and {student} have different classes; adapt with a teacher of the student's class table."
        )


def _begin(request: AdaptRequest) -> tuple[Path, Path, SemanticKitti]:
    """The teacher's and the student's checkpoint and the drive, once ``out`` is sure to hold this adaptation alone."""
    data = SemanticKitti(request.drive)
    if len(data) == 0:
        raise DataError(f"{request.drive} holds no scan; convert a recording with kd-seg convert.")
    settings = request.settings
    teacher = resolve(settings.teacher.checkpoint) if settings.teacher.checkpoint else shipped()
    student = resolve(settings.student) if settings.student else shipped()
    _check_classes(teacher, student)
    if settings.teacher.images is not None:
        check_pictures(settings.teacher.images, data)
    _check_training(request, student, data)
    _claim(request, teacher, student, data)
    return teacher, student, data


def _check_training(request: AdaptRequest, student: Path, data: SemanticKitti) -> None:
    """What would else fail after the long part: streets without labels, a training section that is none."""
    streets = SemanticKitti(request.streets)
    check_labelled(streets)
    names, folder = [street_name(name) for name in streets.sequences], request.out / "round_1"
    training_config(request.settings, student, folder / "data", names, data, folder / "run")


def _claim(request: AdaptRequest, teacher: Path, student: Path, data: SemanticKitti) -> None:
    """Write what is adapted from what; refuse a folder that holds another adaptation."""
    images = request.settings.teacher.images
    content = {
        "drive": str(request.drive.resolve()),
        "streets": str(request.streets.resolve()),
        "teacher": sha256(teacher),
        "student": sha256(student),
        "settings": digest(request.settings.model_dump(mode="json", exclude={"teacher": {"images"}})),
        "sensor": digest({name: list(v) if isinstance(v, tuple) else v for name, v in request.sensor.__dict__.items()}),
        **({"images": digest(identity(images, data))} if images is not None else {}),
    }
    content["content of the drive"] = content_digest(data)
    content["content of the streets"] = content_digest(SemanticKitti(request.streets))
    path = request.out / PLAN
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        older = {name for name in content if name.startswith("content of")} - set(found)  # plans that did not note it
        changed = [name for name in (found | content) if found.get(name) != content.get(name) and name not in older]
        if changed:
            raise UsageError(
                f"{request.out} holds an adaptation that differs in {', '.join(changed)}; choose another --out, or "
                "delete it."
            )
        return
    if request.out.exists() and any(request.out.iterdir()):
        raise UsageError(f"{request.out} is not empty and holds no adaptation; choose another --out.")
    write_json(path, content)


def _teacher(request: AdaptRequest, checkpoint: Path, data: SemanticKitti) -> tuple[Teacher, ShareTaken]:
    """The teacher of a round, and which statistics of the drive it took."""
    segmenter = Segmenter(checkpoint, request.device, num_threads=request.threads)
    sizes = [data.sequences[name].points_path(index).stat().st_size // 16 for name, index in data.keys()[::10]]
    poses = all(sequence.poses is not None for sequence in data.sequences.values())
    fused = fuses(request.settings.teacher, int(np.median(sizes)), poses)
    teacher = Teacher(segmenter, request.settings.teacher, as_stored(request.sensor, data), fused)
    if request.settings.teacher.statistics == "trained":
        return teacher, ShareTaken(0.0, {})
    keys = data.keys()[:: max(1, -(-len(data) // STATISTICS_SCANS))]
    return teacher, take_statistics(segmenter, [teacher.prepared(data.scan(*key)) for key in keys])


def training_config(
    settings: AdaptSettings,
    start: Path,
    root: Path,
    streets: list[str],
    data: SemanticKitti,
    run: Path,
) -> TrainingConfig:
    """The training of one round: streets and drive, from the student's checkpoint, in its grid.

    Raises UsageError for a student with a cylindrical grid, and for ``data.classes`` that are not its classes.
    """
    spec = read_spec(start)
    grid = spec.encoding.grid
    if not isinstance(grid, CartesianGrid):
        raise UsageError(f"{start} has a cylindrical grid; adapt a student with a cartesian one.")
    content = json.loads(json.dumps(settings.training))
    classes = content.get("data", {}).get("classes", spec.classes.name)
    if load_classes(classes).names != spec.classes.names:
        raise UsageError(
            f"training.data.classes: {classes} has other classes than {start}; leave it out, or name the table of "
            f"{spec.classes.name}."
        )
    content.setdefault("purpose", f"A student adapted to the drive {data.root} without its labels.")
    content["data"] = {
        **content.get("data", {}),
        "root": str(root),
        "train": [*streets, *(drive_name(name) for name in data.sequences)],
        "predicted": [drive_name("*")],
        "classes": classes,
    }
    content["grid"] = {
        "voxel_size": list(grid.voxel_size),
        "lower": list(grid.lower),
        "upper": list(grid.upper),
        "clamp": grid.clamp,
    }
    content["student"] = {
        **content.get("student", {}),
        "network": spec.network,
        "size": spec.size,
        "features": list(spec.encoding.features),
        "init": str(start),
    }
    content["run"] = {**content.get("run", {}), "folder": str(run)}
    return validate(TrainingConfig, content, "the training section of the adaptation")


def _reader(drive: Drive, student: Teacher, folder: Path, progress: Progress) -> ClassIds:
    """Class ids of the round's student by sequence and scan, predicted once and read back."""
    own = Drive(drive.data, folder / "student")
    predict_drive(
        own, replace(student, settings=student.settings.model_copy(update={"views": 1}), fuse=False), progress
    )
    return lambda name, index: own.read(name, index).argmax(axis=1)


def _student_figures(data: SemanticKitti, folder: Path, settings: AdaptSettings, teacher: Teacher) -> dict[str, Any]:
    from kd_seg.adaptation.agreement import Agreement
    from kd_seg.adaptation.consolidate import places

    drive, found = Drive(data, folder / "student"), Agreement(tuple(teacher.segmenter.classes.names))
    for name, sequence in data.sequences.items():
        for index in sequence.indices:
            if index == sequence.indices[0] or sequence.poses is None:
                found.begin_sequence()
            found.add(places(sequence, index, settings.vote.voxel_m), drive.read(name, index))
    return found.to_json()


def train_in_process(report: Callable[[dict[str, Any]], None], progress: Progress) -> Train:
    """Training in this process; what objectives need on disk (fused instances, a teacher's cache) comes first."""

    def train(config: TrainingConfig, resume: bool) -> Path:
        prepare(config, Work("kd-seg adapt with the same arguments", progress))
        # Without a state there is nothing to resume: what a kill left of the run is begun again.
        threads = torch.get_num_threads()
        try:
            trainer = Trainer(config, report, resume=resume, overwrite=not resume)
            trainer.fit()
        finally:
            torch.set_num_threads(threads)  # run.threads is the training's own, the teachers have another
        return trainer.run.last

    return train
