"""Soft predictions of a teacher on scans without labels: averaged over views, on single scans or fused clouds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.dataset import undecoded
from kd_seg.adaptation.kinds import movers
from kd_seg.adaptation.settings import DriveTeacherSettings
from kd_seg.adaptation.views import turned
from kd_seg.core.geometry import invert, transform
from kd_seg.scans import Points, Scan
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorSettings, prepare

Distribution = npt.NDArray[np.float32]
"""[N, C] class probabilities of points; rows of zeros where the network gives none."""

SPARSE_POINTS = 45_000
"""A scan with fewer is sparse: there fused clouds help a network that was trained on single scans; on denser ones they
cost."""

MOVES = 0.4
"""Probability of moving classes from which a single scan is believed against the fused cloud."""


@dataclass(frozen=True)
class Teacher:
    """A network and how it looks at a drive.

    Attributes:
        sensor: how the drive's points are taken.
        fuse: predict clouds fused over scans, for ``settings.fuse`` "auto" beside single ones.
    """

    segmenter: Segmenter
    settings: DriveTeacherSettings
    sensor: SensorSettings
    fuse: bool

    def predict(self, scan: Scan, neighbours: Sequence[Scan]) -> Distribution:
        """Probabilities [N, C] of a scan's points, the mean over views.

        Args:
            neighbours: scans whose points are moved into the scan's frame, where clouds are fused; both need poses.
        """
        points = self.prepared(scan)
        if not self.fuse:
            return self._mean(points, len(points))
        cloud = np.concatenate([points, *(self._moved(other, scan) for other in neighbours)])
        if self.settings.fuse == "ego":
            return self._mean(cloud, len(points))
        single, fused = self._mean(points, len(points)), self._mean(cloud, len(points))
        return combined(single, fused, movers(self.segmenter.classes))

    def _mean(self, cloud: Points, count: int) -> Distribution:
        """Probabilities of a cloud's first points, the mean over views."""
        total = np.zeros((count, len(self.segmenter.classes)), np.float32)
        for view in range(self.settings.views):
            total += self.segmenter.distribution(turned(cloud, view, self.settings.views))[:count]
        return total / self.settings.views

    def prepared(self, scan: Scan) -> Points:
        """Points [N, 4] as the network takes them."""
        return prepare(undecoded(scan.file_points), self.sensor)  # as a live cloud is, intensities included

    def _moved(self, other: Scan, scan: Scan) -> Points:
        assert other.pose is not None
        assert scan.pose is not None
        points, level = self.prepared(other), self.sensor.correction()  # poses are those of the sensor's own frame
        points[:, :3] = transform(level @ invert(scan.pose) @ other.pose @ invert(level), points[:, :3])
        return points


def combined(single: Distribution, fused: Distribution, moving: Sequence[int]) -> Distribution:
    """One distribution [N, C] from that of a scan and that of the fused cloud: their mean, as a rule.

    What stands is denser in the fused cloud. What moves leaves a trail there, so where the single scan sees one of the
    ``moving`` classes, and the fused cloud less of it, the single scan alone counts.
    """
    moves = single[:, moving].sum(axis=1)
    alone = (moves > MOVES) & (moves > fused[:, moving].sum(axis=1))
    return np.where(alone[:, None], single, (single + fused) / 2)


def fuses(settings: DriveTeacherSettings, points_per_scan: int, has_poses: bool) -> bool:
    """Whether clouds are fused: as the settings say, for ``auto`` where scans are sparse and poses are known."""
    return has_poses and (settings.fuse == "ego" or (settings.fuse == "auto" and points_per_scan < SPARSE_POINTS))
