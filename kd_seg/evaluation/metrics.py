"""SemanticKITTI's metrics, exactly as its official evaluator computes them, and means that it does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.evaluation.confusion import Matrix

_EPSILON = 1e-15


@dataclass(frozen=True)
class Scores:
    """Metrics of one confusion matrix, as fractions 0-1.

    Attributes:
        accuracy: official: true positives over all points predicted as some class (and not ignored).
        miou: official: mean IoU over all C classes; a class that is absent everywhere counts 0.
        miou_present: mean IoU over the classes with ground truth, None if there is none.
        miou_hard: the same over the hard classes with ground truth, None if there is none.
        iou: by class name, in the table's order; None where the class was neither true nor predicted.
    """

    accuracy: float
    miou: float
    miou_present: float | None
    miou_hard: float | None
    iou: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """The fixed keys of ``kd-seg eval --json`` (docs/files.md)."""
        return {
            "accuracy": self.accuracy,
            "miou": self.miou,
            "miou_present": self.miou_present,
            "miou_hard": self.miou_hard,
            "iou": dict(self.iou),
        }


def scores(matrix: Matrix, classes: ClassTable) -> Scores:
    """Metrics of a confusion matrix [C + 1, C + 1], as semantic-kitti-api counts them (Behley et al., ICCV 2019).

    The column of ignored truth is removed; the row of ignored predictions stays, so predicting nothing on a labelled
    point is a false negative.
    """
    counted = matrix.copy()
    counted[:, 0] = 0
    tp = np.diag(counted)
    fp = counted.sum(axis=1) - tp
    fn = counted.sum(axis=0) - tp
    union = tp + fp + fn
    iou = tp / (union + _EPSILON)
    accuracy = tp.sum() / (tp[1:].sum() + fp[1:].sum() + _EPSILON)
    present = counted[:, 1:].sum(axis=0) > 0
    hard = np.zeros(len(classes), dtype=bool)
    hard[list(classes.hard)] = True
    return Scores(
        accuracy=float(accuracy),
        miou=float(iou[1:].mean()),
        miou_present=_mean(iou[1:], present),
        miou_hard=_mean(iou[1:], present & hard),
        iou={name: float(iou[c + 1]) if union[c + 1] else None for c, name in enumerate(classes.names)},
    )


def _mean(values: npt.NDArray[np.float64], rows: npt.NDArray[np.bool_]) -> float | None:
    return float(values[rows].mean()) if rows.any() else None
