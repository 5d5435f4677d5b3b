"""What an evaluation asks for predictions: a folder of .label files, or a network through the Segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.scans import Cloud, Scan, read_words
from kd_seg.scans.point_files import point_count

if TYPE_CHECKING:
    from kd_seg.serving.segmenter import Segmenter


@dataclass(frozen=True)
class Predicted:
    """Predictions for every row of one scan's file.

    Attributes:
        train: train ids [N], 0 = no class.
        outside: points the network could not see.
        unknown: predicted raw ids that the class table lacks.
    """

    train: TrainIds
    outside: int = 0
    unknown: int = 0


class Predictor(Protocol):
    """Gives a train id for every point of a scan."""

    classes: ClassTable

    def predict(self, scan: Scan) -> Predicted:
        """Predictions for all rows of the scan's file."""
        ...


class LabelFolder:
    """Predictions on disk: ``sequences/NN/predictions/XXXXXX.label``, or ``XXXXXX.label`` for a single sequence.

    Unknown raw ids become 0, as in the official tool, and are counted.
    """

    def __init__(self, folder: Path, classes: ClassTable) -> None:
        self.folder = folder
        self.classes = classes
        self.nested = (folder / "sequences").is_dir()

    def sequence_folder(self, sequence: str) -> Path:
        """Where the predictions of a sequence lie."""
        return self.folder / "sequences" / sequence / "predictions" if self.nested else self.folder

    def check(self, keys: Sequence[tuple[str, str]]) -> None:
        """Every scan, given as (sequence, file stem), has a prediction and nothing else has; DataError names the first.

        The official tool compares the numbers of files only.
        """
        sequences = sorted({sequence for sequence, _ in keys})
        if not self.nested and len(sequences) > 1:
            raise DataError(
                f"{self.folder} has no sequences/ folder, so it can hold one sequence only, but "
                f"{', '.join(sequences)} are asked for; name one with --sequences."
            )
        for sequence in sequences:
            folder = self.sequence_folder(sequence)
            if not folder.is_dir():
                raise DataError(f"{folder} does not exist; predict sequence {sequence} first.")
            wanted = {stem for name, stem in keys if name == sequence}
            found = {path.stem for path in folder.glob("*.label") if not path.name.startswith(".")}
            missing, extra = sorted(wanted - found), sorted(found - wanted)
            if missing:
                raise DataError(
                    f"{folder / missing[0]}.label is missing ({len(missing)} of {len(wanted)} scans have no "
                    "prediction); predict them first."
                )
            if extra:
                raise DataError(
                    f"{folder / extra[0]}.label belongs to no scan of sequence {sequence} ({len(extra)} such files); "
                    "evaluate on the data that were predicted."
                )

    def predict(self, scan: Scan) -> Predicted:
        """Read the scan's file; DataError if its length does not match."""
        path = self.sequence_folder(scan.sequence) / f"{scan.points_path.stem}.label"
        words = read_words(path)
        count = point_count(scan.points_path, scan.form)
        if len(words) != count:
            raise DataError(
                f"{path} has {len(words)} predictions, {scan.points_path.name} has {count} points; predict it again."
            )
        train, unknown = self.classes.to_train_lenient(words)
        return Predicted(train, unknown=unknown)


class NetworkPredictor:
    """Predictions of a student on single scans, at full point resolution."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.classes: ClassTable = segmenter.classes

    def predict(self, scan: Scan) -> Predicted:
        """Every row of the file; rows the student cannot see count as 0."""
        class_id = self.segmenter.segment(scan.points).class_id
        return Predicted(self.classes.class_to_train(class_id), outside=int((class_id == 255).sum()))


class FusedNetwork:
    """Predictions of a multi-scan teacher on fused clouds; only the scan's own rows are kept.

    Args:
        fuse: the fused cloud of a scan, own rows first, unaugmented (``source`` = row of the scan's file).
    """

    def __init__(self, segmenter: Segmenter, fuse: Callable[[Scan], Cloud]) -> None:
        self.segmenter = segmenter
        self.classes: ClassTable = segmenter.classes
        self.fuse = fuse

    def predict(self, scan: Scan) -> Predicted:
        """Every row of the file; rows that the fused cloud left out (not finite) count as 0."""
        if not np.isfinite(scan.points[:, :3]).all(axis=1).any():
            return Predicted(np.zeros(len(scan.points), dtype=np.uint8), outside=len(scan.points))
        cloud = self.fuse(scan)
        class_id = self.segmenter.segment(cloud.points).class_id[: cloud.own]
        train = np.zeros(len(scan.points), dtype=np.uint8)
        own = cloud.source[: cloud.own] >= 0
        train[cloud.source[: cloud.own][own]] = self.classes.class_to_train(class_id[own])
        left_out = len(train) - int(own.sum())
        return Predicted(train, outside=int((class_id[own] == 255).sum()) + left_out)
