"""Boxes of a detector: weaker overlapping ones of the same class go, and the tiles of a picture are put together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.images.teachers.interface import Detections


def overlaps(box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """IoU of a box [4] with others [K, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.prod(np.maximum(high - low, 0.0), axis=1)
    area = np.prod(np.maximum(others[:, 2:] - others[:, :2], 0.0), axis=1) + float(np.prod(box[2:] - box[:2]))
    return np.asarray(both / np.maximum(area - both, 1e-9))


def suppress(found: Detections, least: float, overlap: float = 0.5) -> Detections:
    """Drop boxes of a confidence below ``least``, and those that overlap a more confident one of their class."""
    waiting = [int(k) for k in np.argsort(-found.confidence, kind="stable") if found.confidence[k] >= least]
    kept: list[int] = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        shares = overlaps(found.boxes[best], found.boxes[waiting]) if waiting else np.zeros(0)
        same = found.classes[waiting] == found.classes[best] if waiting else np.zeros(0, dtype=bool)
        waiting = [k for k, share, alike in zip(waiting, shares, same, strict=True) if share < overlap or not alike]
    rows = np.array(kept, dtype=np.int64)
    masks = found.masks[rows] if found.masks is not None else None
    return Detections(found.boxes[rows], found.classes[rows], found.confidence[rows], masks)


def merge_tiles(parts: list[Detections]) -> Detections:
    """The boxes of all tiles of a picture (they do not overlap, so nothing is suppressed again)."""
    return Detections(
        np.concatenate([p.boxes for p in parts]),
        np.concatenate([p.classes for p in parts]),
        np.concatenate([p.confidence for p in parts]),
    )
