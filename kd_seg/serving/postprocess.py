"""From a network's logits to the class, probability and entropy of every point. Points of a voxel share them.

With t = logit - largest logit, the largest softmax value is 1 / sum(e^t), and the entropy is
log(sum(e^t)) - sum(t e^t) / sum(e^t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_seg.classes import INVALID
from kd_seg.core.kernels import contracting_kernel, kernel

Float32 = npt.NDArray[np.float32]
Classes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]

TILE = 128
"""Voxels worked on at a time, class by class, so that one instruction serves several of them."""


@dataclass(frozen=True)
class PointPredictions:
    """What a network predicts for one cloud.

    Attributes:
        inverse: [N] int32, voxel of each point, -1 without.
        words: [V + 1, 4] uint32: class id, bits of the largest softmax value, bits of the softmax entropy / ln C, 0.
            The last row is for points without a voxel: 255, 0, 1.
    """

    inverse: npt.NDArray[np.int32]
    words: npt.NDArray[np.uint32]

    def spread(self) -> tuple[Classes, Float32, Float32]:
        """Class, probability and entropy of every point [N]."""
        count = len(self.inverse)
        class_id, probability, entropy = np.empty(count, np.uint8), np.empty(count, "<u4"), np.empty(count, "<u4")
        gather(self.inverse, self.words.reshape(-1), class_id, probability, entropy)
        return class_id, probability.view(np.float32), entropy.view(np.float32)


def point_predictions(logits: Float32, inverse: npt.NDArray[np.int32]) -> PointPredictions:
    """Predictions for points whose voxels have ``logits`` [V, C]; ``inverse`` [N], -1 = without a voxel."""
    voxels, classes = logits.shape
    words = np.zeros((voxels + 1, 4), np.uint32)
    figures = words.view(np.float32)
    total, weighted = np.empty(voxels, np.float32), np.empty(voxels, np.float32)
    tile = np.zeros((classes, TILE), np.float32)
    weigh(np.ascontiguousarray(logits), tile, words[:voxels].reshape(-1), total, weighted)
    scale = np.float32(1.0 / math.log(max(classes, 2)))
    fill_figures(total, np.log(total), weighted, scale, figures[:voxels].reshape(-1))
    words[voxels, 0], figures[voxels, 2] = INVALID, 1.0
    return PointPredictions(inverse, words)


# Numba looks out for negative places; unsigned ones, with a constant distance from row to row, are twice as quick.
ONE, TWO, FOUR = np.uint64(1), np.uint64(2), np.uint64(4)

LOG2_E = np.float32(1.44269504)
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
TO_WHOLE = np.float32(1.5 * 2**23)
"""A float32 of this size has no room for a fraction: adding it rounds, and the low bits are the whole number."""

LEAST = np.float32(-87.0)
"""e to this is the smallest normal number that is easily made; beside a sum of 1 and more it is nothing."""


@contracting_kernel
def _exp(t: np.float32) -> np.float32:
    """e^t for t from LEAST to 0, within 2 units of the last place (S. Moshier, Cephes, expf); NaN stays NaN."""
    moved = np.float32(t * LOG2_E + TO_WHOLE)
    whole = np.float32(moved - TO_WHOLE)
    rest = np.float32(np.float32(t - whole * LN_2_HIGH) - whole * LN_2_LOW)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * (rest * rest) + rest + np.float32(1.0)
    exponent = np.uint32(np.uint32(moved.view(np.uint32) + np.uint32(127)) << np.uint32(23))
    return series * exponent.view(np.float32)


@kernel
def weigh(logits: Float32, tile: Float32, words: Words, total: Float32, weighted: Float32) -> None:
    """Per row of ``logits`` [V, C]: column of the first largest into ``words`` [4 V], sum of e^t and of t e^t."""
    voxels, classes = logits.shape
    largest, best = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    sums, products = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for first in range(0, voxels, tile.shape[1]):
        count = min(tile.shape[1], voxels - first)
        part = logits[first : first + count]
        for v in range(count):
            for c in range(classes):
                tile[c, v] = part[v, c]
        _find_largest(tile, largest, best)
        _sum_up(tile, largest, sums, products)
        found, all_sums, all_products = words[4 * first :], total[first:], weighted[first:]
        for v in range(np.uint64(count)):
            found[FOUR * v] = np.uint32(best[v])
            all_sums[v], all_products[v] = sums[v], products[v]


@kernel
def _find_largest(tile: Float32, largest: Float32, best: Float32) -> None:
    """Largest value of each column of ``tile`` [C, TILE] and its row, the first of several."""
    for v in range(TILE):
        largest[v], best[v] = tile[0, v], 0.0
    for c in range(1, len(tile)):
        row = np.float32(c)
        for v in range(TILE):
            here, before = tile[c, v], largest[v]
            best[v] = row if here > before else best[v]
            largest[v] = here if here > before else before


@contracting_kernel
def _sum_up(tile: Float32, largest: Float32, sums: Float32, products: Float32) -> None:
    """Sums over each column of ``tile`` [C, TILE] of e^t and of t e^t."""
    for v in range(TILE):
        sums[v], products[v] = 0.0, 0.0
    for c in range(len(tile)):
        for v in range(TILE):
            t = tile[c, v] - largest[v]
            t = LEAST if t < LEAST else t
            power = _exp(t)
            sums[v] += power
            products[v] += power * t


@kernel
def fill_figures(
    total: Float32,
    logarithm: Float32,
    weighted: Float32,
    scale: np.float32,
    figures: Float32,
) -> None:
    """Largest softmax value and entropy (times ``scale``, within 0 and 1) into every row of ``figures`` [4 V]."""
    for v in range(np.uint64(len(total))):
        entropy = (logarithm[v] - weighted[v] / total[v]) * scale
        figures[FOUR * v + ONE] = np.float32(1.0) / total[v]
        figures[FOUR * v + TWO] = min(max(entropy, np.float32(0.0)), np.float32(1.0))


@kernel
def gather(
    inverse: npt.NDArray[np.int32],
    words: Words,
    class_id: Classes,
    probability: Words,
    entropy: Words,
) -> None:
    """Prediction of each point [N] from its voxel's ``words`` [4 (V + 1)]; the last row's for points without one."""
    last = np.uint64(len(words) - 4)
    for i in range(np.uint64(len(inverse))):
        row = FOUR * np.uint64(inverse[i]) if inverse[i] >= 0 else last
        class_id[i] = words[row]
        probability[i] = words[row + ONE]
        entropy[i] = words[row + TWO]
