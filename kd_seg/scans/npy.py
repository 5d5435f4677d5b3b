"""A strict reader of .npy files: the header against the size of the file before an array is made."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from kd_seg.core.errors import DataError
from kd_seg.scans.content import LARGEST_SCAN, excerpt, read_content
from kd_seg.scans.point_table import PointTable

Array = npt.NDArray[Any]


_MOST_COLUMNS = 4096


def read_npy(path: Path) -> PointTable:
    """A saved array [N, 3] or wider: x, y, z and, if there, intensity; or a structured one with fields of these names.

    Raises DataError, one sentence, where it is no such array, cut off, or seems to be transposed.
    """
    return parse_npy(read_content(path), str(path))


def parse_npy(content: bytes, where: str) -> PointTable:
    """As ``read_npy``, of a file's content; ``where`` names it in messages."""
    array = parse_array(content, where)
    return _structured(array, where) if array.dtype.names is not None else _columns(array, where)


def read_array(path: Path) -> Array:
    """Any array that ``numpy.save`` wrote, without Python objects (read only); DataError where it is broken."""
    return parse_array(read_content(path), str(path))


def parse_array(content: bytes, where: str) -> Array:
    """As ``read_array``, of a file's content; ``where`` names it in a DataError."""
    shape, fortran, dtype, start = _header(content, where)
    if dtype.hasobject:
        raise DataError(f"{where} is not a readable .npy array (it holds Python objects); save numbers.")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size != len(content) - start:
        raise DataError(
            f"{where}: its header says {_plain(dtype)} {_shape(shape)}, {size:,} bytes, but "
            f"{len(content) - start:,} are there; it is cut off or damaged."
        )
    if count > LARGEST_SCAN * _MOST_COLUMNS:
        raise DataError(f"{where} declares {_shape(shape)}, a scan has at most {LARGEST_SCAN:,} points.")
    array = np.frombuffer(content, dtype, count, start) if size else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(content: bytes, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    stream = io.BytesIO(content)
    try:
        version = npy_format.read_magic(stream)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
    except Exception as error:  # a damaged header makes NumPy's parser fail in many ways; all mean the same
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{where} is not a readable .npy array ({reason[:120]}); save it with numpy.save.") from None
    if any(not isinstance(length, int) or isinstance(length, bool) or length < 0 for length in shape):
        raise DataError(f"{where} is not a readable .npy array (shape {shape}); save it with numpy.save.")
    return shape, fortran, dtype, stream.tell()


def _columns(array: Array, where: str) -> PointTable:
    if array.ndim != 2 or not 3 <= array.shape[1] <= _MOST_COLUMNS or array.dtype.kind not in "fiu":
        hint = "; it seems to be transposed" if array.ndim == 2 and array.shape[0] in range(3, 9) else ""
        raise DataError(
            f"{where} holds {_plain(array.dtype)} {_shape(array.shape)}; "
            f"points are numbers of shape [N, 3] or wider{hint}."
        )
    if array.shape[0] in (3, 4, 5) and array.shape[1] > 16:
        raise DataError(
            f"{where} holds {_shape(array.shape)}, which seems to be transposed; save its transpose [N, 4]."
        )
    names = ("x", "y", "z", "intensity")[: array.shape[1]]
    return PointTable(names, {name: array[:, k] for k, name in enumerate(names)}, len(array))


def _structured(array: Array, where: str) -> PointTable:
    names = array.dtype.names or ()
    if array.ndim != 1:
        array = array.reshape(-1)  # an organised cloud
    columns = {name: array[name] for name in names if array.dtype[name].kind in "fiu" and array[name].ndim == 1}
    return PointTable(names, columns, len(array))


def _plain(dtype: np.dtype[Any]) -> str:
    return excerpt(str(dtype), 60)[1:-1]


def _shape(shape: tuple[int, ...]) -> str:
    return excerpt(str(list(shape)), 60)[1:-1]
