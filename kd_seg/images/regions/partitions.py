"""Pictures cut into parts: connected components, tiles, superpixels; a part map is [H, W] int32, -1 = no part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from kd_seg.core.config import Settings
from kd_seg.images.teachers.interface import NO_PREDICTION, SemanticMap

PartMap = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Components:
    """Connected components of a semantic map.

    Attributes:
        parts: [H, W] int32, component of each pixel, -1 = none.
        teacher_class: [K] int16, teacher class. confidence: [K] float32, mean over the component's pixels.
        boxes: [K, 4] float32, left, top, right, bottom.
    """

    parts: PartMap
    teacher_class: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.teacher_class)


def components(semantic: SemanticMap, allowed: npt.NDArray[np.bool_], least: float, min_pixels: int) -> Components:
    """4-connected components of one class each.

    Args:
        allowed: [C2], teacher classes that make units at all.
        least: pixels of a lower confidence belong to no component.
        min_pixels: smaller components are dropped.
    """
    from skimage.measure import label

    table = np.zeros(256, dtype=bool)
    table[: len(allowed)] = allowed
    table[NO_PREDICTION] = False
    use = table[semantic.classes] & (semantic.confidence >= least)
    marked = np.where(use, semantic.classes.astype(np.int32) + 1, 0)
    found = label(marked, background=0, connectivity=1)
    sizes = np.bincount(found.ravel())
    big = sizes >= min_pixels
    big[0] = False
    renumber = np.full(len(sizes), -1, dtype=np.int32)
    renumber[big] = np.arange(int(big.sum()), dtype=np.int32)
    parts: PartMap = renumber[found]
    return describe(parts, int(big.sum()), semantic)


def describe(parts: PartMap, count: int, semantic: SemanticMap) -> Components:
    """Class, mean confidence and box of parts 0..count-1 of one class each; a part without pixels gets zeros."""
    inside = parts >= 0
    flat = parts[inside]
    total = np.bincount(flat, weights=semantic.confidence[inside], minlength=count)
    sizes = np.bincount(flat, minlength=count)
    teacher_class = np.zeros(count, dtype=np.int16)
    teacher_class[flat] = semantic.classes[inside]
    boxes = np.zeros((count, 4), dtype=np.float32)
    for part, place in enumerate(ndimage.find_objects(parts + 1, count)):
        if place is not None:
            boxes[part] = place[1].start, place[0].start, place[1].stop, place[0].stop
    return Components(parts, teacher_class, (total / np.maximum(sizes, 1)).astype(np.float32), boxes)


def erode(parts: PartMap, pixels: int) -> PartMap:
    """Without the band of ``pixels`` at each part's borders (the picture's own border is none)."""
    if pixels <= 0:
        return parts
    side = 2 * pixels + 1
    least = ndimage.minimum_filter(parts, size=side, mode="nearest")
    most = ndimage.maximum_filter(parts, size=side, mode="nearest")
    return np.where(least == most, parts, -1).astype(np.int32)


def whole(height: int, width: int) -> PartMap:
    """The whole picture as one part."""
    return np.zeros((height, width), dtype=np.int32)


def tiles(height: int, width: int, rows: int, columns: int) -> PartMap:
    """``rows`` x ``columns`` tiles of nearly equal size, numbered row by row."""
    down = np.arange(height) * rows // height
    across = np.arange(width) * columns // width
    return (down[:, None] * columns + across[None, :]).astype(np.int32)


def superpixels(rgb: npt.NDArray[np.uint8], segments: int, compactness: float, sigma: float) -> PartMap:
    """SLIC superpixels of a picture [H, W, 3] (Achanta et al., TPAMI 2012): a map [H, W] of ids 0..K-1 without gaps.

    SLIC may return more or fewer than ``segments``.
    """
    from skimage.segmentation import slic

    found = slic(rgb, n_segments=segments, compactness=compactness, sigma=sigma, start_label=0, channel_axis=-1)
    _, compact = np.unique(found, return_inverse=True)
    result: PartMap = compact.reshape(found.shape).astype(np.int32)
    return result


class SuperpixelSettings(Settings):
    """SLIC's settings; the defaults are SLidR's."""

    segments: int = Field(150, ge=1)
    compactness: float = Field(6.0, gt=0)
    sigma: float = Field(3.0, ge=0)

    def cut(self, picture: npt.NDArray[np.uint8]) -> PartMap:
        """Part map of a picture [H, W, 3]."""
        return superpixels(picture, self.segments, self.compactness, self.sigma)
