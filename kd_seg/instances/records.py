"""What the instance library holds of an instance in one scan, and how tables of such rows lie in a cache."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Role(IntEnum):
    """Why a record is in the library."""

    HARD = 0
    STUFF = 1
    DECOY_CAR = 2
    DECOY_CLUTTER = 3


RECORD = np.dtype(
    [
        ("key", "<u8"),
        ("scan", "<i4"),
        ("count", "<i4"),
        ("first", "<i8"),
        ("word", "<u4"),
        ("train", "u1"),
        ("role", "u1"),
        ("moving", "?"),
        ("pad", "u1"),
        ("centroid", "<f4", (3,)),
        ("lower", "<f4", (3,)),
        ("upper", "<f4", (3,)),
    ]
)
"""One appearance of an instance in one scan. ``key``: the 32-bit word, or a pseudo-instance's number above 2^32;
``first``, ``count``: its points among those of its scan; ``centroid``, ``lower``, ``upper``: metres, LiDAR frame."""

Records = npt.NDArray[np.void]


def as_bytes(table: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """Rows [N] of a structured table as bytes [N, size of a row], which a cache can hold."""
    return np.ascontiguousarray(table).view(np.uint8).reshape(len(table), table.dtype.itemsize)


def from_bytes(rows: npt.NDArray[np.uint8], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The table [N] of ``as_bytes``, a view.

    Raises:
        ValueError: a row has another size than ``dtype``.
    """
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != dtype.itemsize:
        raise ValueError(f"rows of shape {rows.shape} are no table of {dtype.itemsize} bytes a row")
    return np.ascontiguousarray(rows).view(dtype).reshape(len(rows))
