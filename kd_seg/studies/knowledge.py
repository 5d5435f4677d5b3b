"""What a teacher knows that a student does not: scores by range, and how much is found of small and of large objects.

    python -m kd_seg.studies.knowledge DATA NAME=SOURCE .. [--sequences 00 01] [--every 1] [--json]

DATA has labels and instance ids. A SOURCE is a checkpoint or run folder, which sees single scans, or a data root whose
labels are the predictions (``kd-seg adapt`` writes such roots: OUT/round_1/data).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.dataset import drive_name
from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import UsageError
from kd_seg.evaluation.confusion import Matrix, TrainIds, confusion_by_distance
from kd_seg.evaluation.metrics import scores
from kd_seg.evaluation.predictors import NetworkPredictor
from kd_seg.scans import Scan, SemanticKitti
from kd_seg.serving.segmenter import Segmenter

RANGES: tuple[tuple[float, float], ...] = ((0, 10), (10, 20), (20, 35), (35, 80))
"""Metres from the sensor."""
SIZES: tuple[tuple[int, int], ...] = ((1, 10), (10, 50), (50, 200), (200, 1_000_000))
"""Points of an object in the scan; each holds its lower end."""

Source = Callable[[Scan], TrainIds]


@dataclass
class Knowledge:
    """Counts of one source over all scans.

    Attributes:
        ranges: [RANGES, C + 1, C + 1] confusion matrices.
        found: [SIZES, 2] points of hard-class objects that have their class, and all of them; points without an
            instance id are of several objects and left out.
    """

    ranges: Matrix
    found: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(SIZES), 2), np.int64))

    def add(self, scan: Scan, truth: TrainIds, predicted: TrainIds, classes: ClassTable) -> None:
        """Count one scan."""
        self.ranges += confusion_by_distance(predicted, truth, scan.points, len(classes), RANGES)
        hard = np.flatnonzero(np.isin(truth, 1 + np.array(classes.hard)) & (_words(scan) >> 16 > 0))
        _, instance, points = np.unique(_words(scan)[hard], return_inverse=True, return_counts=True)
        right = predicted[hard] == truth[hard]
        for row, (least, most) in enumerate(SIZES):
            these = (points[instance] >= least) & (points[instance] < most)
            self.found[row] += (int(right[these].sum()), int(these.sum()))

    def row(self, classes: ClassTable) -> dict[str, Any]:
        """Percent: mIoU and hard classes within 80 m and by range, and the share found by points of the object."""
        whole = scores(self.ranges.sum(axis=0), classes)
        row: dict[str, Any] = {"miou": _percent(whole.miou_present), "hard": _percent(whole.miou_hard)}
        for (near, far), matrix in zip(RANGES, self.ranges, strict=True):
            row[f"hard {near:g}-{far:g} m"] = _percent(scores(matrix, classes).miou_hard)
        for (least, most), (right, points) in zip(SIZES, self.found.tolist(), strict=True):
            name = f"{least}-{most - 1}" if most < SIZES[-1][1] else f"{least} and more"
            row[f"found of objects of {name} points"] = _percent(right / points if points else None)
        row["iou"] = {name: _percent(whole.iou[name]) for name in (classes.names[column] for column in classes.hard)}
        return row


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def _words(scan: Scan) -> npt.NDArray[np.uint32]:
    if scan.labels is None:
        raise UsageError(f"{scan.name} has no labels; name labelled scans.")
    return scan.labels


def source_of(path: Path, classes: ClassTable) -> Source:
    """What gives train ids [N] of a scan: the labels of a data root, or a network that sees the scan alone."""
    if (path / "sequences").is_dir():
        given = SemanticKitti(path)

        def labels(scan: Scan) -> TrainIds:
            name = scan.sequence if scan.sequence in given.sequences else drive_name(scan.sequence)
            return classes.to_train(_words(given.scan(name, scan.index)), f"{name}/{scan.index:06d}")

        return labels
    predictor = NetworkPredictor(Segmenter(path, num_threads=1))
    if predictor.classes.names != classes.names:
        raise UsageError(f"{path} predicts the classes of {predictor.classes.name}, not {classes.name}; name another.")
    return lambda scan: predictor.predict(scan).train


def measure(data: SemanticKitti, sources: dict[str, Source], classes: ClassTable, every: int = 1) -> dict[str, Any]:
    """A row per source over every ``every``-th scan of the data."""
    nothing = np.zeros((len(RANGES), len(classes) + 1, len(classes) + 1), np.int64)
    counts = {name: Knowledge(nothing.copy()) for name in sources}
    for key in list(data.keys())[::every]:
        scan = data.scan(*key)
        truth = classes.to_train(_words(scan), scan.name)
        for name, source in sources.items():
            counts[name].add(scan, truth, source(scan), classes)
    return {name: count.row(classes) for name, count in counts.items()}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--sequences", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    classes = load_classes()
    pairs = [text.partition("=") for text in given.sources]
    if wrong := [name for name, sign, path in pairs if not (name and sign and path)]:
        raise UsageError(f"{wrong[0]!r} names no source; write NAME=PATH.")
    sources = {name: source_of(Path(path), classes) for name, _, path in pairs}
    rows = measure(SemanticKitti(given.data, given.sequences), sources, classes, given.every)
    if given.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(name, "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
