"""The instance library: every instance of the fused classes and the decoys, looked up by key and scan.

It is a cache (see ``kd_seg.caches``) with three arrays per scan: ``records`` (RECORD as bytes, sorted by key),
``points`` ([M, 4] float32, LiDAR frame of the scan, end to end in the order of the records) and ``rows`` ([M] int32,
their rows in the scan's file).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.caches import Cache, CacheKind, CachePlan, Header
from kd_seg.classes import ClassTable
from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.instances.fingerprint import fingerprint
from kd_seg.instances.linking import link_keys, standing_classes
from kd_seg.instances.records import RECORD, Records, from_bytes
from kd_seg.instances.settings import LibrarySettings
from kd_seg.scans import Points, SemanticKitti

LIBRARY = CacheKind("instance library", version=2, block=100)


def library_plan(cache: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings) -> CachePlan:
    """The library of these settings for these scans; other settings live in another folder, so they never mix."""
    content: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "classes": classes.to_json()}
    if data.form.intensity_range != "unit":  # kd_seg 0.1.0 kept intensities as the files had them
        content["intensity_range"] = data.form.intensity_range
    folder = cache / f"instances-{digest({**content, 'format': 1})}"  # named as by 0.1.0, so that a rebuild replaces it
    return CachePlan(folder, LIBRARY, Header("instances", content, fingerprint(data)), data.keys())


class SequenceInstances:
    """The records of one sequence, sorted by (key, scan) and by (scan, key), and their points."""

    def __init__(self, name: str, records: Records, cache: Cache) -> None:
        self.name = name
        self.records = records
        self._cache = cache
        self._by_scan = np.argsort(records["scan"], kind="stable")
        self._scans = records["scan"][self._by_scan]

    def at(self, scan: int) -> npt.NDArray[np.int64]:
        """Numbers [K] of the records of one scan, by key."""
        low, high = np.searchsorted(self._scans, [scan, scan + 1])
        return self._by_scan[low:high]

    def appearances(self, key: int, first: int, last: int) -> npt.NDArray[np.int64]:
        """Numbers [K] of the records of ``key`` in scans ``first..last``, never by the key alone (loop closures)."""
        low, high = np.searchsorted(self.records["key"], np.array([key, key + 1], dtype=np.uint64))
        scans = self.records["scan"][low:high]
        inner = np.searchsorted(scans, [first, last + 1])
        return np.arange(low + inner[0], low + inner[1])

    def points(self, record: int) -> Points:
        """Points [count, 4] of a record, LiDAR frame of its scan (a read-only view of the file)."""
        return self._of_record(record, "points")

    def rows(self, record: int) -> npt.NDArray[np.int32]:
        """Rows [count] of a record's points in its scan's file."""
        return self._of_record(record, "rows")

    def _of_record(self, record: int, name: str) -> npt.NDArray[Any]:
        entry = self.records[record]
        whole = self._cache.view((self.name, int(entry["scan"])), name)
        return whole[entry["first"] : entry["first"] + entry["count"]]


class InstanceLibrary:
    """An opened library; sequences are read when first asked for.

    Args:
        cache: folder that holds libraries.
        data: the training scans; a library made from others is refused.
        fix_command: the command that builds it, for messages.

    Raises:
        DataError: it is missing, incomplete, of another format, or made from other data.
    """

    def __init__(
        self, cache: Path, data: SemanticKitti, classes: ClassTable, settings: LibrarySettings, fix_command: str
    ) -> None:
        self.cache = Cache(library_plan(cache, data, classes, settings), fix_command)
        self.data = data
        self.classes = classes
        self.settings = settings
        self._sequences: dict[str, SequenceInstances] = {}

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.cache.folder

    def sequence(self, name: str) -> SequenceInstances:
        """The records of a sequence."""
        if name not in self._sequences:
            self._sequences[name] = self._read(name)
        return self._sequences[name]

    def _read(self, name: str) -> SequenceInstances:
        records = read_table(self.cache, name, "records", RECORD)
        poses = self.data.sequences[name].poses
        if self.settings.link and poses is not None:
            records = link_keys(records, poses, standing_classes(self.classes.names))
        order = np.lexsort((records["scan"], records["key"]))
        return SequenceInstances(name, records[order], self.cache)

    @cached_property
    def size(self) -> int:
        """Records in all sequences."""
        return sum(len(self.sequence(name).records) for name in self.data.sequences)


def read_table(cache: Cache, sequence: str, name: str, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The rows of a structured array of all scans of a sequence, scan after scan (a copy).

    Raises:
        DataError: the rows have another layout.
    """
    try:
        parts = [from_bytes(rows, dtype) for _, rows in cache.each(sequence, name)]
    except ValueError:
        raise DataError(
            f"{name} of the {cache.plan.kind.name} {cache.folder} has an unknown layout; rebuild it with: "
            f"{cache.fix_command} --rebuild"
        ) from None
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])
