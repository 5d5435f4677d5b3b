"""An adaptation as a strip of pictures: what the teacher predicted, what was trusted, what the student predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd_seg.adaptation.adapt import REPORT
from kd_seg.adaptation.consolidate import Drive
from kd_seg.adaptation.dataset import drive_name
from kd_seg.classes import ClassTable
from kd_seg.core.errors import UsageError
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.scans import Scan, SemanticKitti
from kd_seg.views.colours import class_colours
from kd_seg.views.raster import birds_eye
from kd_seg.views.sheet import Sheet
from kd_seg.views.sheets import share_rows

COLUMNS, EXTENT_M, SIDE, MARGIN = 6, 30.0, 2.5, 0.3


def adaptation_sheet(folder: Path, drive: Path, classes: ClassTable) -> Sheet:
    """Six scans spread over the drive, seen from above, one row per stage of the last round.

    Raises UsageError where ``folder`` holds no finished adaptation.
    """
    rounds = sorted(folder.glob("round_*"), key=lambda path: int(path.name.partition("_")[2]))
    if not rounds or not (folder / REPORT).is_file():
        raise UsageError(f"{folder} holds no finished adaptation; run kd-seg adapt.")
    data, last = SemanticKitti(drive), rounds[-1]
    keys = data.keys()
    chosen = [keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, COLUMNS).round().astype(int))]
    labelled = SemanticKitti(last / "data", [drive_name(name) for name in data.sequences])
    sheet = Sheet(2 * MARGIN + COLUMNS * (SIDE + 0.1), 1.2 + 3 * (SIDE + 0.45) + 1.4)
    sheet.title(
        folder.resolve().name, f"{len(keys)} scans; {EXTENT_M:.0f} m around the sensor; what is not trusted is dark"
    )
    stages = (
        ("Teacher", lambda key: _predicted(Drive(data, last / "predictions"), key)),
        ("Trusted labels", lambda key: _labels(labelled.scan(drive_name(key[0]), key[1]), classes)),
        ("Student", lambda key: _predicted(Drive(data, last / "student"), key)),
    )
    shown = []
    for row, (title, ids_of) in enumerate(stages):
        top = 1.3 + row * (SIDE + 0.45)
        for column, key in enumerate(chosen):
            ids = ids_of(key)
            image = birds_eye(data.scan(*key).points, class_colours(ids, classes), EXTENT_M, size=500)
            name = f"{title}, {key[0]}/{key[1]:06d}" if column == 0 else f"{key[0]}/{key[1]:06d}"
            sheet.birds_eye((MARGIN + column * (SIDE + 0.1), top, SIDE), image, EXTENT_M, name)
            shown.append(ids)
    sheet.legend((MARGIN, 1.3 + 3 * (SIDE + 0.45), 15.2), share_rows(np.concatenate(shown), classes), columns=7)
    return sheet


def _predicted(drive: Drive, key: tuple[str, int]) -> TrainIds:
    """Train ids [N] of stored probabilities; 0 where there are none."""
    probabilities = drive.read(*key)
    return np.where(probabilities.any(axis=1), probabilities.argmax(axis=1) + 1, 0).astype(np.uint8)


def _labels(scan: Scan, classes: ClassTable) -> TrainIds:
    words = scan.labels
    assert words is not None
    return classes.to_train(words, scan.name)
