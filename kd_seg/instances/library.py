"""The instance library: every instance of the fused classes and the decoys, memory-mapped, looked up by key and scan.

On disk it is a folder: ``header.json`` (format, fingerprint of the data, settings) and one folder per block of scans
under ``shards/`` with ``records.npy`` (RECORD, sorted by scan and key), ``points.npy`` ([M, 4] float32, LiDAR frame of
the record's scan) and ``rows.npy`` ([M] int32, rows in the scan). A shard is written whole; a merge is only a folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.instances.fingerprint import difference, fingerprint
from kd_seg.instances.settings import LibrarySettings
from kd_seg.scans import Points, SemanticKitti

FORMAT = 1
BLOCK = 100
"""Scan numbers per shard."""


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
        ("shard", "<i4"),
        ("train", "u1"),
        ("role", "u1"),
        ("moving", "?"),
        ("pad", "u1"),
        ("centroid", "<f4", (3,)),
        ("lower", "<f4", (3,)),
        ("upper", "<f4", (3,)),
    ]
)
"""One appearance of an instance in one scan. ``key``: the 32-bit word, or a pseudo-instance's number above 2^32."""

Records = npt.NDArray[np.void]


def library_folder(cache: Path, classes: ClassTable, settings: LibrarySettings) -> Path:
    """Where the library of these settings lives; other settings live elsewhere, so they never get mixed up."""
    content = {"settings": settings.model_dump(mode="json"), "classes": classes.to_json(), "format": FORMAT}
    return cache / f"instances-{digest(content)}"


def shard_names(data: SemanticKitti) -> list[tuple[str, str, tuple[int, ...]]]:
    """(shard, sequence, scan numbers) of every block of every sequence, in order."""
    names = []
    for name, sequence in data.sequences.items():
        blocks: dict[int, list[int]] = {}
        for index in sequence.indices:
            blocks.setdefault(index // BLOCK, []).append(index)
        names += [(f"{name}_{block * BLOCK:06d}", name, tuple(scans)) for block, scans in sorted(blocks.items())]
    return names


def missing_shards(folder: Path, data: SemanticKitti) -> list[str]:
    """Names of the shards that a library still lacks."""
    return [name for name, _, _ in shard_names(data) if not (folder / "shards" / name).is_dir()]


@dataclass(frozen=True)
class Header:
    """header.json of a library."""

    format: int
    data: dict[str, Any]
    settings: dict[str, Any]

    def to_json(self) -> str:
        """The text of the file."""
        content = {
            "kind": "kd_seg instance library",
            "format": self.format,
            "data": self.data,
            "settings": self.settings,
        }
        return json.dumps(content, indent=1) + "\n"


def read_header(folder: Path, mend: str) -> Header:
    """Read header.json; DataError says what is wrong and how to rebuild (``mend``, a command)."""
    path = folder / "header.json"
    if not path.is_file():
        raise DataError(f"There is no instance library at {folder}; build it with: {mend}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        header = Header(int(content["format"]), dict(content["data"]), dict(content["settings"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is not a library header; rebuild it with: {mend} --rebuild") from None
    if header.format != FORMAT:
        raise DataError(
            f"{path} has format {header.format}, this build reads {FORMAT}; rebuild it with: {mend} --rebuild"
        )
    return header


class SequenceInstances:
    """The records of one sequence, sorted by (key, scan) and by (scan, key), and their points."""

    def __init__(self, records: Records, folders: list[Path]) -> None:
        self.records = records
        self.folders = folders
        self._by_scan = np.argsort(records["scan"], kind="stable")
        self._scans = records["scan"][self._by_scan]
        self._maps: dict[tuple[int, str], np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory maps, which would be copied whole into another process."""
        return {**self.__dict__, "_maps": {}}

    def at(self, scan: int) -> npt.NDArray[np.int64]:
        """Numbers of the records of one scan, by key."""
        low, high = np.searchsorted(self._scans, [scan, scan + 1])
        return self._by_scan[low:high]

    def appearances(self, key: int, first: int, last: int) -> npt.NDArray[np.int64]:
        """Numbers of the records of ``key`` in scans ``first..last``, never by the key alone (loop closures)."""
        low, high = np.searchsorted(self.records["key"], np.array([key, key + 1], dtype=np.uint64))
        scans = self.records["scan"][low:high]
        inner = np.searchsorted(scans, [first, last + 1])
        return np.arange(low + inner[0], low + inner[1])

    def points(self, record: int) -> Points:
        """Points [count, 4] of a record, LiDAR frame of its scan (a read-only view of the file)."""
        return self._rows(record, "points")

    def rows(self, record: int) -> npt.NDArray[np.int32]:
        """Rows [count] of a record's points in its scan's file."""
        return self._rows(record, "rows")

    def _rows(self, record: int, what: str) -> np.ndarray:
        entry = self.records[record]
        key = (int(entry["shard"]), what)
        if key not in self._maps:
            self._maps[key] = np.load(self.folders[key[0]] / f"{what}.npy", mmap_mode="r", allow_pickle=False)
        return self._maps[key][entry["first"] : entry["first"] + entry["count"]]


class InstanceLibrary:
    """An opened library; sequences are read when first asked for.

    Attributes:
        folder: of the library.
        data: the scans it was made from.
    """

    def __init__(self, folder: Path, data: SemanticKitti, settings: LibrarySettings, mend: str) -> None:
        self.folder = folder
        self.data = data
        self.settings = settings
        self.mend = mend
        self._sequences: dict[str, SequenceInstances] = {}

    @classmethod
    def open(
        cls, cache: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings, mend: str
    ) -> InstanceLibrary:
        """The library of these settings for these scans.

        Args:
            cache: folder that holds libraries.
            data: the training scans; a library made from others is refused.
            mend: the command that builds it, for messages.

        Raises DataError where it is missing, incomplete, of another format, or made from other data.
        """
        folder = library_folder(cache, classes, settings)
        header = read_header(folder, mend)
        absent = [name for name in data.sequences if name not in header.data]
        if absent:
            raise DataError(f"The instance library {folder} has no sequence {absent[0]}; add it with: {mend}")
        found = difference(header.data, fingerprint(data))
        if found is not None:
            raise DataError(
                f"The instance library {folder} does not fit the data: {found}; rebuild it with: {mend} --rebuild"
            )
        library = cls(folder, data, settings, mend)
        missing = missing_shards(folder, data)
        if missing:
            total = len(shard_names(data))
            raise DataError(
                f"The instance library {folder} lacks {len(missing)} of {total} shards (first {missing[0]}); "
                f"finish it with: {mend}"
            )
        return library

    def sequence(self, name: str) -> SequenceInstances:
        """The records of a sequence."""
        if name not in self._sequences:
            self._sequences[name] = self._read(name)
        return self._sequences[name]

    def _read(self, name: str) -> SequenceInstances:
        folders = [self.folder / "shards" / shard for shard, sequence, _ in shard_names(self.data) if sequence == name]
        parts = []
        for number, folder in enumerate(folders):
            try:
                part = np.load(folder / "records.npy", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                raise DataError(f"{folder}/records.npy is broken; rebuild it with: {self.mend} --rebuild") from None
            if part.dtype != RECORD:
                raise DataError(f"{folder}/records.npy has an unknown layout; rebuild it with: {self.mend} --rebuild")
            part["shard"] = number
            parts.append(part)
        records = np.concatenate(parts) if parts else np.zeros(0, dtype=RECORD)
        if self.settings.link:
            from kd_seg.instances.linking import link_keys

            poses = self.data.sequences[name].poses
            if poses is not None:
                records = link_keys(records, poses)
        order = np.lexsort((records["scan"], records["key"]))
        return SequenceInstances(records[order], folders)

    @cached_property
    def size(self) -> int:
        """Records in all sequences."""
        return sum(len(self.sequence(name).records) for name in self.data.sequences)
