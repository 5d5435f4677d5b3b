"""Trust: which consolidated predictions teach a student."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.settings import TrustSettings
from kd_seg.adaptation.vote import Vote
from kd_seg.scans import Points

BINS = 512
"""Scores are counted in so many steps of 0 to 1."""


def score(vote: Vote) -> npt.NDArray[np.float32]:
    """How sure a prediction is [N], 0-1: its probability, halved where the scans that voted all disagree with it."""
    result: npt.NDArray[np.float32] = vote.distribution.max(axis=1) * (0.5 + 0.5 * vote.agreement)
    return result


def range_bins(points: Points, settings: TrustSettings) -> npt.NDArray[np.int64]:
    """Which range [N] a point is in: 0 .. len(ranges_m)."""
    return np.searchsorted(np.array(settings.ranges_m), np.hypot(points[:, 0], points[:, 1]), side="right")


class TrustThresholds:
    """Scores from which predictions are trusted, by class and range: the surest share of each, over the whole drive.

    Balanced by class as in Y. Zou et al., "Unsupervised domain adaptation for semantic segmentation via class-balanced
    self-training", ECCV 2018, so that a class that is never sure teaches with its surest points too.

    Args:
        classes: C.
    """

    def __init__(self, settings: TrustSettings, classes: int) -> None:
        self._settings = settings
        self._counts = np.zeros((classes, len(settings.ranges_m) + 1, BINS), np.int64)

    def add(self, class_id: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], points: Points) -> None:
        """Count the predictions [N] of one scan."""
        known = scores > 0
        bins = np.minimum((scores[known] * BINS).astype(np.int64), BINS - 1)
        np.add.at(self._counts, (class_id[known], range_bins(points, self._settings)[known], bins), 1)

    def table(self) -> npt.NDArray[np.float64]:
        """Threshold of each class and range [C, R]: at least ``least``; above 1 where a class was never predicted."""
        from_top = self._counts[:, :, ::-1].cumsum(axis=2)
        total = from_top[:, :, -1]
        wanted = np.ceil(self._settings.share * total)[:, :, None]
        steps = (from_top >= wanted).argmax(axis=2)
        lowest = (BINS - 1 - steps) / BINS
        return np.where(total > 0, np.maximum(lowest, self._settings.least), 2.0)

    def trusted(
        self, class_id: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], points: Points
    ) -> npt.NDArray[np.bool_]:
        """Which predictions [N] teach."""
        limit = self.table()[class_id, range_bins(points, self._settings)]
        return np.asarray((scores > 0) & (scores >= limit))
