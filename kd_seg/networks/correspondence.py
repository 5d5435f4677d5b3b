"""Which row of one sparse tensor is which row of another: voxels matched by their coordinates.

Sorted voxels on the CPU are searched from the place of the one before, which takes a tenth of torch's binary search.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_seg.core.kernels import kernel

Shape = tuple[int, int, int]
Rows = npt.NDArray[np.int32]


def voxel_codes(coordinates: Tensor, shape: Shape) -> Tensor:
    """64-bit code ``((b * X + x) * Y + y) * Z + z`` of each row of [V, 4] integer coordinates (b, x, y, z)."""
    b, x, y, z = coordinates.long().unbind(dim=1)
    return ((b * shape[0] + x) * shape[1] + y) * shape[2] + z


def covering_shape(*coordinates: Tensor) -> Shape:
    """A shape that holds all rows of several [V, 4] coordinate tensors."""
    largest = [int(c[:, axis].max()) + 1 for axis in (1, 2, 3) for c in coordinates if len(c)]
    per_axis = len(largest) // 3
    if per_axis == 0:
        return (1, 1, 1)
    x, y, z = (max(largest[i * per_axis : (i + 1) * per_axis]) for i in range(3))
    return (x, y, z)


def find_rows(of: Tensor, among: Tensor, shape: Shape | None = None) -> Tensor:
    """Row in ``among`` [W, 4] of every voxel of ``of`` [V, 4]; -1 where it has none.

    Rows may come in any order (that of a sparse tensor is unspecified); ``among`` must hold no voxel twice.
    """
    if of.dtype == among.dtype == torch.int32 and of.device.type == among.device.type == "cpu":
        at = np.empty(len(of), dtype=np.int64)
        if search_rows(of.numpy(), among.numpy(), at):
            return torch.from_numpy(at)
    if shape is None:
        shape = covering_shape(of, among)
    wanted, codes = voxel_codes(of, shape), voxel_codes(among, shape)
    if len(codes) == 0:
        return torch.full_like(wanted, -1)
    order: Tensor | None = None
    if not bool((codes[1:] > codes[:-1]).all()):
        codes, order = torch.sort(codes)
    place = torch.searchsorted(codes, wanted).clamp_max(len(codes) - 1)
    found = codes[place] == wanted
    rows = place if order is None else order[place]
    return torch.where(found, rows, -1)


@kernel
def search_rows(of: Rows, among: Rows, found: npt.NDArray[np.int64]) -> bool:
    """Row in ``among`` [W, 4] of each row of ``of`` [V, 4], -1 where there is none, into ``found``.

    False, and nothing found, where ``among`` is not in ascending order. Rows of ``of`` may come in any order; the
    closer their neighbours, the quicker.
    """
    for i in range(1, len(among)):
        if not _less(among, i - 1, among, i):
            return False
    at, end = 0, len(among)
    for i in range(len(of)):
        at = _first_not_below(among, of, i, at, end)
        same = at < end and not _less(of, i, among, at)
        found[i] = at if same else -1
    return True


@kernel
def _first_not_below(among: Rows, of: Rows, i: int, at: int, end: int) -> int:
    """First row of ``among`` that is not below row ``i`` of ``of``, in steps that grow from ``at``, then by halves."""
    low = high = at
    step = 1
    if at < end and _less(among, at, of, i):
        low = high = at + 1
        while high < end and _less(among, high, of, i):
            low = high + 1
            high = min(high + step, end)
            step *= 2
    else:
        while low > 0 and not _less(among, low - 1, of, i):
            high = low - 1
            low = max(0, low - step)
            step *= 2
    while low < high:
        middle = (low + high) // 2
        if _less(among, middle, of, i):
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _less(a: Rows, i: int, b: Rows, j: int) -> bool:
    """Whether row i of a comes before row j of b."""
    for column in range(4):
        if a[i, column] != b[j, column]:
            return bool(a[i, column] < b[j, column])
    return False


def correspondence(student: Tensor, teacher: Tensor, shape: Shape | None = None) -> Tensor:
    """pi: the teacher's row [V_S] of every student voxel, from coordinates [V_S, 4] and [V_T, 4] of one level.

    The student's voxels must be a subset of the teacher's: the teacher's cloud holds every row of the student's under
    the same transform and grid, and a strided convolution's output set grows with its input set. AssertionError tells
    of a broken pipeline.
    """
    rows = find_rows(student, teacher, shape)
    missing = int((rows < 0).sum())
    assert missing == 0, (
        f"{missing} of {len(rows)} student voxels have no teacher voxel; the clouds differ in transform"
    )
    return rows
