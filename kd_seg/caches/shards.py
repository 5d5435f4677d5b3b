"""Shards: one safetensors file per block of scans, written whole, read through a memory map.

Array ``name`` of all scans of a shard lies end to end in tensor ``name``; ``name.offsets`` [S + 1] int64 tells where
each scan's begins, ``scans`` [S] int64 which scan numbers these are.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.files import write_bytes
from kd_seg.scans import Key

Record = dict[str, npt.NDArray[Any]]
"""The arrays of one scan by name. In all scans of a cache they have the same names, dtypes and trailing shapes."""

FOLDER = "shards"
_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
"""NumPy's dtypes by safetensors' names."""


def shard_name(key: Key, block: int) -> str:
    """Name of the shard that holds a scan, ``block`` scan numbers to a shard."""
    return f"{key[0]}_{key[1] // block:06d}"


def shard_path(folder: Path, name: str) -> Path:
    """File of a shard in a cache's folder."""
    return folder / FOLDER / f"{name}.safetensors"


def blocks(keys: Iterable[Key], block: int) -> OrderedDict[str, list[Key]]:
    """Keys by shard, in order."""
    made: OrderedDict[str, list[Key]] = OrderedDict()
    for key in sorted(keys):
        made.setdefault(shard_name(key, block), []).append(key)
    return made


def write_shard(path: Path, keys: Sequence[Key], records: Sequence[Record]) -> None:
    """Write the records of the scans ``keys`` whole."""
    from safetensors.numpy import save

    tensors = {"scans": np.array([index for _, index in keys], dtype=np.int64)}
    for name in records[0]:
        arrays = [record[name] for record in records]
        tensors[name] = np.ascontiguousarray(np.concatenate(arrays))
        tensors[f"{name}.offsets"] = np.cumsum([0] + [len(a) for a in arrays]).astype(np.int64)
    write_bytes(path, save(tensors))


class Shard:
    """An opened shard.

    Args:
        path: of the file.

    Raises:
        OSError, ValueError: the file is not there or not a whole shard.
    """

    def __init__(self, path: Path) -> None:
        self._content = np.memmap(path, dtype=np.uint8, mode="r")
        self._start = 8 + int(self._content[:8].view("<u8")[0])
        header = json.loads(self._content[8 : self._start].tobytes())
        header.pop("__metadata__", None)
        self._tensors: dict[str, npt.NDArray[Any]] = {name: self._map(entry) for name, entry in header.items()}
        self.scans: list[int] = self._tensors["scans"].tolist()
        self._rows = {index: row for row, index in enumerate(self.scans)}

    def _map(self, entry: dict[str, Any]) -> npt.NDArray[Any]:
        """A tensor as a read-only view of the file."""
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(self._content) - self._start:
            raise ValueError("a tensor lies outside the file")
        content = np.asarray(self._content)[self._start + begin : self._start + end]
        return content.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def __contains__(self, scan: int) -> bool:
        return scan in self._rows

    def view(self, scan: int, name: str) -> npt.NDArray[Any]:
        """An array of one scan: a read-only view of the file."""
        row = self._rows[scan]
        begin, end = self._tensors[f"{name}.offsets"][row : row + 2].tolist()
        tensor = self._tensors[name]
        if not 0 <= begin <= end <= len(tensor):
            raise ValueError(f"{name}.offsets is out of range")
        return tensor[begin:end]

    def whole(self, name: str) -> npt.NDArray[Any]:
        """An array of all scans, end to end: a read-only view of the file."""
        return self._tensors[name]


DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, AttributeError)
"""What reading a cut or changed shard raises."""
