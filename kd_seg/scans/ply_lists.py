"""The kernel that walks through rows of a binary .ply file whose lists differ in length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel


@kernel
def walk(
    content: npt.NDArray[np.uint8],
    rows: int,
    lengths: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    signed: npt.NDArray[np.bool_],
    big: bool,
    offsets: npt.NDArray[np.int64],
) -> np.int64 | int:
    """Bytes of ``rows`` rows, or minus the number (from 1) of the first row that leaves ``content``.

    ``lengths`` [P] bytes of each property's list length (0 = no list), ``sizes`` [P] bytes of its value or entry,
    ``signed`` [P] whether that length has a sign. ``offsets`` [rows or 1, P] gets where each property begins.
    """
    at, end = np.int64(0), np.int64(len(content))
    for row in range(rows):
        for number in range(len(sizes)):
            offsets[min(row, len(offsets) - 1), number] = at
            if lengths[number] == 0:
                at += sizes[number]
                if at > end:
                    return -(row + 1)
                continue
            width = lengths[number]
            if at + width > end:
                return -(row + 1)
            entries = np.uint64(0)
            for k in range(width):
                place = at + k if big else at + width - 1 - k
                entries = (entries << np.uint64(8)) | np.uint64(content[place])
            negative = signed[number] and (entries >> np.uint64(8 * width - 1)) != 0
            at += width
            if negative or entries > np.uint64((end - at) // sizes[number]):
                return -(row + 1)
            at += np.int64(entries) * sizes[number]
    return at
