"""From a teacher's predictions of a drive to labels: predict, vote over time, trust, find instances."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.agreement import Agreement
from kd_seg.adaptation.dataset import begin_drive, words_of, write_scan
from kd_seg.adaptation.evidence import Evidence
from kd_seg.adaptation.object_votes import ObjectVotes, object_votes
from kd_seg.adaptation.settings import AdaptSettings
from kd_seg.adaptation.teacher import Distribution, Teacher
from kd_seg.adaptation.trust import TrustThresholds, score
from kd_seg.adaptation.vote import Codes, Vote, vote, world_codes
from kd_seg.classes import ClassTable
from kd_seg.core.files import write_array
from kd_seg.core.geometry import transform
from kd_seg.core.progress import Progress
from kd_seg.scans import KittiSequence, SemanticKitti


@dataclass(frozen=True)
class Drive:
    """A drive and the folder that holds predictions of it.

    Attributes:
        predictions: one .npy file per scan, float16 [N, C].
        evidence: what pictures say, where the drive has cameras and an image teacher.
    """

    data: SemanticKitti
    predictions: Path
    evidence: Evidence | None = None

    def path(self, sequence: str, index: int) -> Path:
        """File of a scan's predictions."""
        return self.predictions / sequence / f"{index:06d}.npy"

    def read(self, sequence: str, index: int) -> Distribution:
        """Probabilities [N, C] of a scan, weighed by the evidence."""
        result: Distribution = np.load(self.path(sequence, index)).astype(np.float32)
        return self.evidence.apply(result, sequence, index) if self.evidence is not None else result


def predict_drive(drive: Drive, teacher: Teacher, progress: Progress) -> None:
    """Write the teacher's predictions of every scan; those that are there are kept."""
    with progress("predicting the drive", len(drive.data)) as advance:
        for name, sequence in drive.data.sequences.items():
            for position, index in enumerate(sequence.indices):
                path = drive.path(name, index)
                if not path.exists():
                    before = sequence.indices[max(0, position - teacher.settings.scans + 1) : position]
                    neighbours = [sequence.scan(other) for other in before] if teacher.fuse else []
                    write_array(path, teacher.predict(sequence.scan(index), neighbours).astype(np.float16))
                advance(1)


def places(sequence: KittiSequence, index: int, voxel_m: float) -> Codes:
    """Where in the world each point [N] of a scan is; without poses each scan is a world of its own."""
    scan = sequence.scan(index)
    xyz = scan.points[:, :3].astype(np.float64)
    return world_codes(transform(scan.pose, xyz) if scan.pose is not None else xyz, voxel_m)


class Voter:
    """Votes of the scans of one sequence; keeps the last few that were read."""

    def __init__(self, drive: Drive, sequence: KittiSequence, settings: AdaptSettings) -> None:
        self._drive, self._sequence = drive, sequence
        poses = sequence.poses is not None
        self._reach = settings.vote.scans if settings.vote.enabled and poses else 0
        self._voxel_m = settings.vote.voxel_m
        self._kept: OrderedDict[int, tuple[Codes, Distribution]] = OrderedDict()

    def vote(self, position: int) -> Vote:
        """The vote for the points of the scan at a position of the sequence."""
        indices = self._sequence.indices
        around = indices[max(0, position - self._reach) : position + self._reach + 1]
        own = self._read(indices[position])[0]
        return vote(own, [self._read(index) for index in around])

    def _read(self, index: int) -> tuple[Codes, Distribution]:
        if index not in self._kept:
            codes = places(self._sequence, index, self._voxel_m)
            self._kept[index] = (codes, self._drive.read(self._sequence.name, index))
            while len(self._kept) > 2 * self._reach + 2:
                self._kept.popitem(last=False)
        return self._kept[index]


def write_labels(
    drive: Drive,
    root: Path,
    teacher: Teacher,
    settings: AdaptSettings,
    student: Callable[[str, int], npt.NDArray[np.int64]] | None,
    progress: Progress,
) -> tuple[Agreement, Agreement]:
    """Write the consolidated, trusted predictions as labels of the drive below ``root``.

    Args:
        student: class ids that the last student predicts, by sequence and scan; None = nobody may contradict.

    Returns:
        Agreement over time of the predictions before and after voting.
    """
    classes = teacher.segmenter.classes
    before, after = Agreement(tuple(classes.names)), Agreement(tuple(classes.names))
    thresholds = TrustThresholds(settings.trust, len(classes))
    objects = _objects(drive, settings, classes, root.parent / "objects", progress)
    with progress("voting", len(drive.data)) as advance:
        for _, sequence, index, found in _votes(drive, settings, objects):
            codes = places(sequence, index, settings.vote.voxel_m)
            if index == sequence.indices[0] or sequence.poses is None:
                before.begin_sequence()
                after.begin_sequence()
            before.add(codes, drive.read(sequence.name, index))
            after.add(codes, found.distribution)
            points = teacher.prepared(sequence.scan(index))  # as below, so that no point is in another range there
            thresholds.add(found.distribution.argmax(axis=1), score(found), points)
            advance(1)
    with progress("writing labels", len(drive.data)) as advance:
        correction = teacher.sensor.correction()
        folders = {name: begin_drive(root, s, correction) for name, s in drive.data.sequences.items()}
        for name, sequence, index, found in _votes(drive, settings, objects):
            points = teacher.prepared(sequence.scan(index))
            class_id = found.distribution.argmax(axis=1)
            trusted = thresholds.trusted(class_id, score(found), points) & np.isfinite(points[:, :3]).all(axis=1)
            if student is not None:
                trusted &= student(name, index) == class_id
            identity = np.zeros(len(points), np.int32)
            if objects is not None:
                identity = np.where(np.isin(class_id, classes.things), objects.identity(name, index), 0)
            known = np.where(found.distribution.sum(axis=1) > 0, class_id, 255)
            write_scan(
                folders[name], sequence.points_path(index).stem, points, trusted, words_of(known, identity, classes)
            )
            advance(1)
    return before, after


def _objects(
    drive: Drive, settings: AdaptSettings, classes: ClassTable, folder: Path, progress: Progress
) -> ObjectVotes | None:
    """What the scans say together about each object, where the settings want objects."""
    if not settings.instances:
        return None
    with progress("linking objects", len(drive.data)) as advance:

        def counted() -> Iterator[tuple[str, KittiSequence, int, Vote]]:
            for found in _votes(drive, settings, None):
                yield found
                advance(1)

        return object_votes(counted(), classes, folder)


def _votes(
    drive: Drive, settings: AdaptSettings, objects: ObjectVotes | None
) -> Iterator[tuple[str, KittiSequence, int, Vote]]:
    """(sequence's name, sequence, scan number, vote) of every scan of the drive."""
    for name, sequence in drive.data.sequences.items():
        voter = Voter(drive, sequence, settings)
        for position, index in enumerate(sequence.indices):
            found = voter.vote(position)
            if objects is not None:
                found = objects.apply(found, objects.identity(name, index))
            yield name, sequence, index, found
