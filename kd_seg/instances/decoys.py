"""Decoys of static clutter: patches of building, fence, vegetation and so on, the same patch in every scan.

The world is cut into cells of 3 m; a hash of cell and raw class decides whether the cell holds a patch, and how large
it is (0.5 to 3 m). So a patch is found again in other scans without looking at them, and it densifies under fusion
exactly as a standing instance does: without decoys a teacher learns that dense means a hard class
(docs/multi_to_single.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import Matrix
from kd_seg.core.kernels import kernel

Array = npt.NDArray[Any]


CELL = 3.0
SMALLEST = 0.5
CLUTTER = 2 << 56
"""Keys of clutter patches start here, above every label word."""


def clutter_keys(
    xyz: npt.NDArray[np.float32], raw: npt.NDArray[np.uint16], pose: Matrix, share: float, seed: int
) -> npt.NDArray[np.uint64]:
    """Patch of each point [N]: its key, or 0 for a point outside every patch.

    Args:
        xyz: [N, >=3] in the LiDAR frame.
        raw: raw class of each point.
        pose: LiDAR to world.
        share: of cells that hold a patch.
        seed: other seeds choose other cells.
    """
    threshold = np.uint64(min(int(share * 2.0**24), (1 << 24) - 1)) if share > 0 else np.uint64(0)
    return _keys(np.ascontiguousarray(xyz), raw, pose, threshold, np.uint64(seed))


@kernel
def _mix(value: np.uint64) -> np.uint64:
    """splitmix64, the finaliser of a well-spread 64-bit hash."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def _keys(xyz: Array, raw: Array, pose: Array, threshold: np.uint64, seed: np.uint64) -> Array:
    keys = np.zeros(len(xyz), dtype=np.uint64)
    for i in range(len(xyz)):
        x, y, z = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        wx = (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]) / CELL
        wy = (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]) / CELL
        wz = (pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3]) / CELL
        cx, cy, cz = np.floor(wx), np.floor(wy), np.floor(wz)
        h = _mix(seed + np.uint64(raw[i]))
        h = _mix(h + np.uint64(np.int64(cx)))
        h = _mix(h + np.uint64(np.int64(cy)))
        h = _mix(h + np.uint64(np.int64(cz)))
        if (h >> np.uint64(40)) >= threshold:
            continue
        # side of the patch and its place in the cell, from other bits of the hash
        side = (SMALLEST + (CELL - SMALLEST) * np.float64(h & np.uint64(1023)) / 1023.0) / CELL
        low_x = (1.0 - side) * np.float64((h >> np.uint64(10)) & np.uint64(1023)) / 1023.0
        low_y = (1.0 - side) * np.float64((h >> np.uint64(20)) & np.uint64(1023)) / 1023.0
        fx, fy = wx - cx, wy - cy
        if fx >= low_x and fx < low_x + side and fy >= low_y and fy < low_y + side:
            identity = _mix(h) & np.uint64((1 << 40) - 1)
            keys[i] = np.uint64(CLUTTER) | (np.uint64(raw[i]) << np.uint64(40)) | identity
    return keys
