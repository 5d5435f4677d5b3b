"""Figures of predictions on a drive that need no label: agreement over time, shares of classes, entropy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.teacher import Distribution
from kd_seg.adaptation.vote import Codes


@dataclass
class Agreement:
    """Counts over a drive; add its scans in order.

    Attributes:
        together: points whose place the scan before saw too, by class. alike: those of them with its class there.
        points: predicted points by class. entropy: sum of entropies, as shares of the largest.
    """

    classes: tuple[str, ...]
    together: npt.NDArray[np.int64] = field(init=False)
    alike: npt.NDArray[np.int64] = field(init=False)
    points: npt.NDArray[np.int64] = field(init=False)
    entropy: float = 0.0
    _before: tuple[Codes, npt.NDArray[np.int64]] | None = None

    def __post_init__(self) -> None:
        count = len(self.classes)
        self.together, self.alike, self.points = (np.zeros(count, np.int64) for _ in range(3))

    def begin_sequence(self) -> None:
        """The next scan has none before it."""
        self._before = None

    def add(self, codes: Codes, distribution: Distribution) -> None:
        """One scan: places [N] and probabilities [N, C] of its points."""
        known = (distribution.sum(axis=1) > 0) & (codes >= 0)
        codes, distribution = codes[known], distribution[known]
        class_id = distribution.argmax(axis=1)
        self.points += np.bincount(class_id, minlength=len(self.classes))
        safe = np.maximum(distribution, 1e-9)
        self.entropy += float(-(safe * np.log(safe)).sum() / np.log(len(self.classes)))
        places, winner = _majority(codes, class_id, len(self.classes))
        if self._before is not None and len(self._before[0]):
            before, classes_before = self._before
            at = np.minimum(np.searchsorted(before, codes), len(before) - 1)
            seen = before[at] == codes
            self.together += np.bincount(class_id[seen], minlength=len(self.classes))
            same = seen & (classes_before[at] == class_id)
            self.alike += np.bincount(class_id[same], minlength=len(self.classes))
        self._before = (places, winner)

    def to_json(self) -> dict[str, Any]:
        """Agreement over all points and by class (None where no place was seen twice), shares, mean entropy."""
        total = max(int(self.points.sum()), 1)
        by_class = {
            name: {
                "share": float(self.points[k]) / total,
                "agreement": float(self.alike[k] / self.together[k]) if self.together[k] else None,
            }
            for k, name in enumerate(self.classes)
        }
        seen = int(self.together.sum())
        return {
            "points": int(self.points.sum()),
            "agreement": int(self.alike.sum()) / seen if seen else None,
            "flicker": 1.0 - int(self.alike.sum()) / seen if seen else None,
            "entropy": self.entropy / total,
            "classes": by_class,
        }


def _majority(codes: Codes, class_id: npt.NDArray[np.int64], classes: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Places, sorted, and the most frequent class of each."""
    places, inverse = np.unique(codes, return_inverse=True)
    counts = np.bincount(inverse * classes + class_id, minlength=len(places) * classes).reshape(-1, classes)
    return places, counts.argmax(axis=1)
