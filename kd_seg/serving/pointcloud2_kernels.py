"""The loops of ``pointcloud2``, compiled: words of clouds taken apart and put together, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel

Words = npt.NDArray[np.uint32]
Pairs = npt.NDArray[np.uint64]
Classes = npt.NDArray[np.uint8]

_EXPONENT = np.uint32(0x7F800000)


# Unsigned places with a constant distance from point to point, because Numba looks out for negative ones.
_ONE, _TWO, _THREE, _HALF = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(32)


@kernel
def take_words(words: Words, places: tuple[np.uint64, ...], xyz: Words, intensity: Words) -> None:
    """Copy the bits of x, y, z into ``xyz`` [3 N] and of the intensity [N]; ``places`` as in ``Layout.words``."""
    for i in range(np.uint64(len(intensity))):
        point, at = places[4] * i, _THREE * i
        xyz[at] = words[point + places[0]]
        xyz[at + _ONE] = words[point + places[1]]
        xyz[at + _TWO] = words[point + places[2]]
        intensity[i] = words[point + places[3]]


@kernel
def pack_segmentation(
    xyz: Words,
    inverse: npt.NDArray[np.int32],
    answers: Pairs,
    out: Pairs,
    class_id: Classes,
) -> bool:
    """Fill ``out`` uint64 [3 N] and ``class_id`` [N]; True if every coordinate is finite. Little-endian hosts only.

    Args:
        xyz: [3 N] bits of the coordinates.
        inverse: [N] voxel of each point. answers: [2 (V + 1)] uint64, ``PointPredictions.words`` two by two.
    """
    broken = False
    last = np.uint64(len(answers) - 2)
    for i in range(np.uint64(len(inverse))):
        at, row = _THREE * i, _TWO * np.uint64(inverse[i]) if inverse[i] >= 0 else last
        x, y, z = xyz[at], xyz[at + _ONE], xyz[at + _TWO]
        first, second = answers[row], answers[row + _ONE]
        out[at] = np.uint64(x) | np.uint64(y) << _HALF
        out[at + _ONE] = np.uint64(z) | first << _HALF
        out[at + _TWO] = first >> _HALF | second << _HALF
        class_id[i] = first
        broken |= ((x & _EXPONENT) == _EXPONENT) | ((y & _EXPONENT) == _EXPONENT) | ((z & _EXPONENT) == _EXPONENT)
    return not broken


@kernel
def pack_visualization(xyz: Words, class_id: Classes, rgb: npt.NDArray[Any], out: Words) -> bool:
    """Fill ``out`` uint32 [N, 4] from bit patterns and colour words [256]; True if every coordinate is finite."""
    dense = True
    for i in range(len(xyz)):
        for k in range(3):
            word = xyz[i, k]
            out[i, k] = word
            dense = dense and (word & _EXPONENT) != _EXPONENT
        out[i, 3] = rgb[class_id[i]]
    return dense


@kernel
def kept_are_finite(xyz: Words, keep: npt.NDArray[np.bool_]) -> bool:
    """Whether every coordinate, given as bit patterns [N, 3], of the points in ``keep`` [N] is finite."""
    broken = False
    for i in range(len(xyz)):
        for k in range(3):
            broken |= keep[i] & ((xyz[i, k] & _EXPONENT) == _EXPONENT)
    return not broken
