"""Which row of one sparse tensor is which row of another: voxels matched by their coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

Shape = tuple[int, int, int]


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
