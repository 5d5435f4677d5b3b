"""A teacher's probabilities of every point of every scan: the likeliest classes, two bytes each, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.caches import Cache, CacheKind, CachePlan, Header, Record, Work, build_cache, cache_path
from kd_seg.caches.fingerprint import listing_digest, text_digest
from kd_seg.classes import INVALID, ClassTable
from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix, invert, transform
from kd_seg.core.kernels import kernel
from kd_seg.objectives.point_teacher.settings import PointTeacherSettings
from kd_seg.objectives.point_teacher.teacher import FrozenTeacher, identify
from kd_seg.scans import Key, KittiSequence, Points, SemanticKitti

Array = npt.NDArray[Any]


KIND = CacheKind("cache of a teacher's probabilities", version=1, block=50)
CONTENT = "probabilities"
STEPS = 255
"""Of a stored probability, from 0 to 1."""

Bytes = npt.NDArray[np.uint8]


def plan(settings: PointTeacherSettings, data: SemanticKitti, classes: ClassTable, cache: Path) -> CachePlan:
    """The cache of these settings and data; the teacher is not compared where its file is not here."""
    content: dict[str, Any] = {"checkpoint": settings.checkpoint, "top": settings.top}
    if settings.sees == "ego":
        content["scans"] = settings.scans
    fingerprint = {name: _fingerprint(sequence, settings.sees == "ego") for name, sequence in data.sequences.items()}
    header = Header(
        content=CONTENT,
        settings=content,
        data=fingerprint,
        teacher=identify(settings.checkpoint),
        vocabulary=list(classes.names),
    )
    return CachePlan(cache_path(cache, "teachers", CONTENT, content), KIND, header, data.keys())


def _fingerprint(sequence: KittiSequence, posed: bool) -> dict[str, str]:
    found = {
        "scan numbers": text_digest(repr(sequence.indices)),
        "points": listing_digest([sequence.folder / "velodyne"], read=3),
    }
    if posed:
        found["poses"] = text_digest(repr(None if sequence.poses is None else sequence.poses.tolist()))
    return found


def build(settings: PointTeacherSettings, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work) -> None:
    """Build what is missing; see ``kd_seg.caches.build_cache``."""
    device = torch.device(work.device)
    made = plan(settings, data, classes, cache)
    made.header.provenance.update(FrozenTeacher(settings.checkpoint, classes, device).about())
    build_cache(made, partial(Maker, settings, data, classes, device), work)


class Maker:
    """Makes the records of scans, one process's worth."""

    def __init__(
        self, settings: PointTeacherSettings, data: SemanticKitti, classes: ClassTable, device: torch.device
    ) -> None:
        self.data, self.settings = data, settings
        self.teacher = FrozenTeacher(settings.checkpoint, classes, device)

    def __call__(self, keys: Sequence[Key]) -> Iterator[Record]:
        """The record of each scan."""
        for key in keys:
            points = self.data.scan(*key).points
            cloud = np.concatenate([points, *self._earlier(key)]) if self.settings.sees == "ego" else points
            classes, shares = compress(self.teacher.scan(cloud)[: len(points)], self.settings.top)
            yield {"classes": classes, "shares": shares, "counts": np.array([len(points)], np.int32)}

    def _earlier(self, key: Key) -> list[Points]:
        """Points of the scans before one in its frame, as far as the sequence reaches back."""
        sequence = self.data.sequences[key[0]]
        at = sequence.indices.index(key[1])
        pose = _pose(sequence, key[1])
        moved = []
        for index in sequence.indices[max(0, at - self.settings.scans + 1) : at]:
            points = sequence.scan(index).points.copy()
            points[:, :3] = transform(invert(pose) @ _pose(sequence, index), points[:, :3])
            moved.append(points)
        return moved


def _pose(sequence: KittiSequence, index: int) -> Matrix:
    pose = sequence.pose_of(index)
    if pose is None:
        raise DataError(
            f"{sequence.folder} has no poses.txt, which a point_teacher with sees: ego needs; add it, or set sees: own."
        )
    return pose


def compress(probabilities: npt.NDArray[np.float32], top: int) -> tuple[Bytes, Bytes]:
    """The ``top`` likeliest classes [N, top] of rows [N, C], likeliest first, and their probabilities in 1/255.

    Rows of zeros have class 255 throughout. Where C is below ``top`` the rest is filled with class 255 and 0.
    """
    count, width = probabilities.shape
    classes, shares = np.full((count, top), INVALID, np.uint8), np.zeros((count, top), np.uint8)
    kept = min(top, width)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :kept]
    likely = np.take_along_axis(probabilities, order, axis=1)
    known = probabilities.any(axis=1)
    classes[known, :kept] = order[known]
    shares[known, :kept] = np.rint(likely[known] * STEPS)
    return classes, shares


@kernel
def average(
    classes: Array,
    shares: Array,
    source: Array,
    inverse: Array,
    voxels: int,
    width: int,
) -> tuple[Array, Array]:
    """Mean probabilities [V, C] float32 of the points of each voxel, and how many [V] int32 had any.

    Args:
        classes, shares: [M, top] of a scan's rows. source: [N] row of each point in it, -1 = of no row.
        inverse: [N] voxel of each point, -1 = none. voxels, width: V and C.
    """
    total = np.zeros((voxels, width), dtype=np.float32)
    number = np.zeros(voxels, dtype=np.int32)
    for i in range(len(source)):
        row, voxel = source[i], inverse[i]
        if row < 0 or voxel < 0 or classes[row, 0] == INVALID:
            continue
        number[voxel] += 1
        told = np.float32(0.0)
        listed = 0
        for k in range(classes.shape[1]):
            if classes[row, k] < width:
                told += np.float32(shares[row, k]) / np.float32(STEPS)
                listed += 1
        # what the listed classes leave is spread over the others, so that none is impossible
        rest = max(np.float32(1.0) - told, np.float32(0.0)) / np.float32(max(width - listed, 1))
        for c in range(width):
            total[voxel, c] += rest
        for k in range(classes.shape[1]):
            c = classes[row, k]
            if c < width:
                total[voxel, c] += np.float32(shares[row, k]) / np.float32(STEPS) - rest
    for voxel in range(voxels):
        if number[voxel] > 1:
            for c in range(width):
                total[voxel, c] /= np.float32(number[voxel])
    return total, number


def opened(
    settings: PointTeacherSettings, data: SemanticKitti, classes: ClassTable, cache: Path, fix_command: str
) -> Cache:
    """The cache; DataError with the command to build it where there is none that fits."""
    return Cache(plan(settings, data, classes, cache), fix_command)


def provenance(store: Cache) -> dict[str, Any]:
    """What the teacher was, as the cache has it."""
    return store.header.provenance
