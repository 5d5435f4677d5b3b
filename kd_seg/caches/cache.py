"""Reading a cache: arrays of single scans, memory-mapped."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.caches.build import missing_shards
from kd_seg.caches.header import CachePlan, check_header, read_header
from kd_seg.caches.shards import DAMAGE, FOLDER, Record, Shard, blocks, shard_name, shard_path
from kd_seg.core.errors import DataError
from kd_seg.scans import Key

LOG = logging.getLogger("kd_seg.caches")

OPEN_SHARDS = 64
"""Shards kept open at a time; each holds one file descriptor."""


class Cache:
    """An opened cache; it may be forked or pickled into loader workers, which map the files again.

    Args:
        plan: what it must fit, and the scans that must be in it.
        fix_command: the command that builds it, for messages.

    Attributes:
        header: as it stands on disk; its provenance is the teacher's.

    Raises:
        DataError: there is none, it does not fit, or a shard is missing; the message names the command.
    """

    def __init__(self, plan: CachePlan, fix_command: str) -> None:
        self.plan, self.fix_command = plan, fix_command
        self.header = read_header(plan.folder, plan.kind, fix_command)
        check_header(plan, self.header, fix_command)
        missing = missing_shards(plan)
        if missing:
            total = len(blocks(plan.keys, plan.kind.block))
            raise DataError(
                f"The {plan.kind.name} {plan.folder} lacks {len(missing)} of {total} shards (first {missing[0]}); "
                f"finish it with: {fix_command}"
            )
        LOG.debug("opened the %s %s for %d scans", plan.kind.name, plan.folder, len(plan.keys))
        self._open: OrderedDict[str, Shard] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory maps, which would be copied whole into another process."""
        return {**self.__dict__, "_open": OrderedDict()}

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.plan.folder

    def record(self, key: Key, names: Iterable[str]) -> Record:
        """The named arrays of one scan, copied; DataError names a damaged shard."""
        return {name: np.array(self.view(key, name)) for name in names}

    def view(self, key: Key, name: str) -> npt.NDArray[Any]:
        """An array of one scan, a read-only view of the file; DataError names a damaged shard."""
        shard = self._shard(shard_name(key, self.plan.kind.block))
        if key[1] not in shard:
            raise DataError(
                f"The {self.plan.kind.name} {self.folder} has no scan {key[0]}/{key[1]:06d}; rebuild it with: "
                f"{self.fix_command} --rebuild"
            )
        try:
            return shard.view(key[1], name)
        except DAMAGE as error:
            raise self._damaged(shard_name(key, self.plan.kind.block), error) from None

    def count(self, key: Key, name: str) -> int:
        """Rows of an array of one scan."""
        return len(self.view(key, name))

    def width(self, name: str) -> int:
        """Length of the second axis of an array, the same in all scans; 0 where the cache has no scan."""
        if not self.plan.keys:
            return 0
        shape = self.view(self.plan.keys[0], name).shape
        return int(shape[1]) if len(shape) > 1 else 1

    def each(self, sequence: str, name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(scan number, array) of every scan of a sequence, in order."""
        for key in sorted(key for key in self.plan.keys if key[0] == sequence):
            yield key[1], self.view(key, name)

    def bytes(self) -> int:
        """Size of the shards on disk."""
        return sum(path.stat().st_size for path in (self.folder / FOLDER).glob("*.safetensors"))

    def _shard(self, name: str) -> Shard:
        if name not in self._open:
            try:
                self._open[name] = Shard(shard_path(self.folder, name))
            except DAMAGE as error:
                raise self._damaged(name, error) from None
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _damaged(self, name: str, error: Exception) -> DataError:
        path = shard_path(self.folder, name)
        return DataError(
            f"{path} is damaged ({error}); delete this file of the {self.plan.kind.name} and run: {self.fix_command}"
        )
