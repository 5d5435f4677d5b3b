"""Evaluate predictions of scans, one scan at a time, so that any number of scans needs the memory of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.shard import parse_shard
from kd_seg.evaluation.confusion import confusion, confusion_by_distance
from kd_seg.evaluation.predictors import Predictor
from kd_seg.evaluation.result import Evaluation
from kd_seg.scans import SPLITS, FileFormat, Scan, SemanticKitti
from kd_seg.scans.intensity import intensity_faults


@dataclass(frozen=True)
class Selection:
    """The scans to evaluate: every ``of``-th scan of some sequences, starting at the ``part``-th; opens one at a time.

    Attributes:
        data: the data root, with the wanted sequences only.
        part, of: the shard, 1 <= part <= of.
    """

    data: SemanticKitti
    part: int = 1
    of: int = 1

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[Scan]:
        return (self.data.scan(*key) for key in self.keys())

    def keys(self) -> list[tuple[str, int]]:
        """(sequence, scan number) of every scan of the shard."""
        return self.data.keys()[self.part - 1 :: self.of]

    def stems(self) -> list[tuple[str, str]]:
        """(sequence, file name without suffix) of every scan of all shards."""
        every = self.data.keys()
        return [(name, self.data.scan(name, index).points_path.stem) for name, index in every]


def select(
    root: Path,
    sequences: list[str] | None,
    split: str | None,
    shard: str | None = None,
    form: FileFormat = FileFormat(),
) -> Selection:
    """Scans with labels by sequences, or by the name of an official split.

    Args:
        shard: "i/n" with i from 1 to n, or None for all scans.
        form: how the .bin files are read.

    Raises:
        UsageError: a wrong split, a sequence named twice, a wrong shard.
        DataError: a sequence is missing or has no labels.
    """
    if sequences is None:
        if split not in SPLITS:
            raise UsageError(f"There is no split {split!r}; give {', '.join(SPLITS)}, or name --sequences.")
        sequences = _of_split(root, split)
    doubled = [name for name, count in Counter(sequences).items() if count > 1]
    if doubled:
        raise UsageError(f"--sequences names {doubled[0]} twice, whose scans would count twice; name it once.")
    data = SemanticKitti(root, sequences, form)
    for name, sequence in data.sequences.items():
        if not sequence.has_labels:
            raise DataError(f"{sequence.folder} has no labels/ folder, so {name} cannot be evaluated; predict it.")
    selection = Selection(data, *parse_shard(shard))
    if not len(selection):
        raise DataError(f"{root} has no scans in {', '.join(sequences)} (shard {shard or '1/1'}); check --data.")
    return selection


def _of_split(root: Path, split: str) -> list[str]:
    """The sequences of an official split; DataError where the root has others alone."""
    folder = root / "sequences"
    missing = [name for name in SPLITS[split] if not (folder / name).is_dir()]
    if missing and folder.is_dir():
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise DataError(
            f"{folder} has no sequence {missing[0]}, which is in the split {split}; it has: "
            f"{', '.join(found) or 'none'}. Name those to score with --sequences."
        )
    return list(SPLITS[split])


LOOKED_AT = 5
"""Scans, evenly spread, whose intensities are compared with what they are taken as."""


def intensity_warnings(selection: Selection) -> list[str]:
    """What is odd about the intensities of a few scans, beside the range that they are read with."""
    keys = selection.keys()
    step = max(1, -(-len(keys) // LOOKED_AT))
    clouds = (selection.data.scan(*key).file_points for key in keys[::step])
    return intensity_faults(clouds, selection.data.form.intensity_range, "--intensity-range")


def evaluate(
    predictor: Predictor, scans: Iterable[Scan], distances: bool = False, about: dict[str, Any] | None = None
) -> Evaluation:
    """Count predictions against labels over scans; every point of every scan counts once.

    Args:
        distances: also count per interval of range.
        about: what is evaluated on what, kept with the result.

    Raises:
        DataError: a scan without labels, an unknown raw id in labels, or lengths that differ.
    """
    total = Evaluation.empty(predictor.classes, distances)
    for scan in scans:
        total = total + evaluate_scan(predictor, scan, distances)
    return replace(total, about=about or {})


def evaluate_scan(predictor: Predictor, scan: Scan, distances: bool = False) -> Evaluation:
    """The evaluation of one scan, all rows of its file; DataError without labels or where a prediction does not fit."""
    words = scan.labels
    if words is None:
        raise DataError(f"Scan {scan.name} has no labels; predict it instead of evaluating it.")
    truth = predictor.classes.to_train(words, str(scan.labels_path))
    predicted = predictor.predict(scan)
    count = len(predictor.classes)
    return Evaluation(
        classes=predictor.classes,
        scans=1,
        points=len(truth),
        matrix=confusion(predicted.train, truth, count),
        by_distance=confusion_by_distance(predicted.train, truth, scan.points, count) if distances else None,
        outside=predicted.outside,
        unknown=predicted.unknown,
    )
