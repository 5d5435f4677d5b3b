"""The teacher cache on disk: per scan a few named arrays, in shards that are written whole.

A cache is a folder with ``header.json`` (format version, what it was made from, settings) and
``shards/SS_BBBBBB.safetensors``, one per block of scan numbers. Array ``name`` of all scans of a shard lies end to end
in tensor ``name``; ``name.offsets`` [S + 1] int64 says where each scan's begins, ``scans`` [S] int64 which scan numbers
these are. Shards are read through a memory map; a merge of two builds is only a folder.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.config import digest
from kd_seg.core.errors import DataError
from kd_seg.scans import Key, KittiSequence, SemanticKitti

VERSION = 1
BLOCK = 50
"""Scan numbers per shard."""

OPEN_SHARDS = 64
"""Shards kept open at a time; each holds one file descriptor."""

Record = dict[str, npt.NDArray[Any]]
Make = Callable[[Key], Record]


@dataclass(frozen=True)
class Header:
    """What a cache is and what it was made from.

    Attributes:
        content: "units" or "regions".
        settings: all that its content depends on besides data and teacher.
        teacher: the teacher's identity, and provenance.
        vocabulary: teacher class names.
        data: fingerprint by sequence.
        version: of the format.
    """

    content: str
    settings: dict[str, Any]
    teacher: dict[str, Any]
    provenance: dict[str, Any]
    vocabulary: list[str]
    data: dict[str, dict[str, str]]
    version: int = VERSION


def cache_path(cache: Path, content: str, settings: dict[str, Any]) -> Path:
    """Folder of a cache below the data root's cache folder; other settings make another folder."""
    return cache / "images" / f"{content}-{digest(settings)}"


def fingerprint(data: SemanticKitti) -> dict[str, dict[str, str]]:
    """What a cache depends on, by sequence: scan numbers, pictures, calibration, poses. Never looks at labels/."""
    return {name: _sequence(sequence) for name, sequence in data.sequences.items()}


def _sequence(sequence: KittiSequence) -> dict[str, str]:
    pictures = hashlib.sha256()
    for folder in sorted(sequence.folder.glob("image_*")):
        pictures.update(repr(sorted((e.name, e.stat().st_size) for e in os.scandir(folder))).encode())
    return {
        "scan numbers": hashlib.sha256(repr(sequence.indices).encode()).hexdigest()[:16],
        "pictures": pictures.hexdigest()[:16],
        "calibration": file_digest(sequence.folder / "calib.txt"),
        "poses": file_digest(sequence.folder / "poses.txt"),
    }


def file_digest(path: Path) -> str:
    """Digest of a file's size, first and last 64 KiB; "none" where there is no file."""
    if not path.is_file():
        return "none"
    size = path.stat().st_size
    with open(path, "rb") as file:
        found = hashlib.sha256(str(size).encode() + file.read(1 << 16))
        file.seek(max(0, size - (1 << 16)))
        found.update(file.read())
    return found.hexdigest()[:16]


def read_header(folder: Path, mend: str) -> Header:
    """The header of a cache; DataError names the command that builds it where it is missing, broken or too old."""
    path = folder / "header.json"
    if not path.is_file():
        raise DataError(f"There is no teacher cache {folder}; build it with: {mend}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is broken; rebuild the teacher cache with: {mend} --rebuild") from None
    if version != VERSION:
        raise DataError(
            f"{path}: teacher cache of format {version}, this build reads {VERSION}; rebuild it with: {mend} --rebuild"
        )
    try:
        return Header(**content)
    except TypeError:
        raise DataError(f"{path} lacks entries; rebuild the teacher cache with: {mend} --rebuild") from None


def check_header(folder: Path, found: Header, wanted: Header, mend: str) -> None:
    """DataError, in words and with the command, where a cache does not fit data or teacher.

    It may hold more sequences than are wanted. An empty ``wanted.teacher`` (its files are not here) is not compared.
    """
    problem = None
    if found.content != wanted.content or found.settings != wanted.settings:
        problem = "it was made with other settings"
    elif wanted.teacher and found.teacher != wanted.teacher:
        problem = "the teacher's files changed since"
    for name, entry in wanted.data.items():
        if problem is None and name not in found.data:
            problem = f"it has no sequence {name}"
        elif problem is None and found.data[name] != entry:
            changed = next(k for k, v in entry.items() if found.data[name].get(k) != v)
            problem = f"{changed} of sequence {name} changed"
    if problem is not None:
        raise DataError(f"The teacher cache {folder} does not fit: {problem}; rebuild it with: {mend} --rebuild")


def shard_name(key: Key) -> str:
    """Name of the shard that holds a scan."""
    return f"{key[0]}_{key[1] // BLOCK:06d}"


def blocks(keys: Iterable[Key]) -> OrderedDict[str, list[Key]]:
    """Keys by shard, in order."""
    made: OrderedDict[str, list[Key]] = OrderedDict()
    for key in sorted(keys):
        made.setdefault(shard_name(key), []).append(key)
    return made


@dataclass(frozen=True)
class Build:
    """How a cache is built.

    Attributes:
        mend: the command that builds it, for messages.
        part: (i, n), do the i-th of n parts of the shards, i from 1.
        rebuild: throw away what is there.
        workers: processes, each with a maker of its own.
        advance: told how many scans are done.
    """

    mend: str
    part: tuple[int, int] = (1, 1)
    rebuild: bool = False
    workers: int = 1
    advance: Callable[[int], None] = lambda count: None


def build_store(folder: Path, header: Header, keys: list[Key], maker: Callable[[], Make], how: Build) -> None:
    """Build what is missing of a cache; whole shards that are there stay, so an interrupted build goes on.

    Args:
        maker: makes what makes the record of one scan (it must pickle for several workers); all records have the same
            names, dtypes and trailing shapes.

    Raises:
        DataError: the folder holds a cache that does not fit (unless ``how.rebuild``).
    """
    if how.rebuild and folder.exists() and how.part[0] == 1:
        shutil.rmtree(folder)
    if (folder / "header.json").is_file():
        old = read_header(folder, how.mend)
        known = {name: entry for name, entry in header.data.items() if name in old.data}
        check_header(folder, old, replace(header, data=known), how.mend)
        header = replace(header, data={**old.data, **header.data})
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    _write_whole(folder / "header.json", json.dumps(asdict(header), indent=1, sort_keys=True).encode())
    shards = [(folder / "shards" / f"{name}.safetensors", members) for name, members in blocks(keys).items()]
    mine = shards[how.part[0] - 1 :: how.part[1]]
    how.advance(sum(len(members) for path, members in mine if path.is_file()))
    missing = [(path, members) for path, members in mine if not path.is_file()]
    if how.workers > 1 and len(missing) > 1:
        _build_side_by_side(missing, maker, how)
    elif missing:
        make = maker()
        for path, members in missing:
            _write_shard(path, members, make, how.advance)


_MAKE: list[Make] = []
"""What makes records in a worker process; set once when the process starts."""


def _build_side_by_side(missing: list[tuple[Path, list[Key]]], maker: Callable[[], Make], how: Build) -> None:
    """Shards by fresh processes (none forked: field T25)."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(how.workers, mp_context=context, initializer=_start, initargs=(maker,)) as pool:
        futures = {pool.submit(_work, path, members): len(members) for path, members in missing}
        try:
            for future in as_completed(futures):
                future.result()
                how.advance(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(maker: Callable[[], Make]) -> None:
    import torch

    torch.set_num_threads(1)
    _MAKE.append(maker())


def _work(path: Path, keys: list[Key]) -> None:
    _write_shard(path, keys, _MAKE[0], lambda count: None)


def _write_shard(path: Path, keys: list[Key], make: Make, advance: Callable[[int], None]) -> None:
    from safetensors.numpy import save

    records = []
    for key in keys:
        records.append(make(key))
        advance(1)
    tensors = {"scans": np.array([index for _, index in keys], dtype=np.int64)}
    for name in records[0]:
        arrays = [record[name] for record in records]
        tensors[name] = np.ascontiguousarray(np.concatenate(arrays))
        tensors[f"{name}.offsets"] = np.cumsum([0] + [len(a) for a in arrays]).astype(np.int64)
    _write_whole(path, save(tensors))


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_DTYPES = {"F16": "f2", "F32": "f4", "I16": "i2", "I32": "i4", "I64": "i8", "U8": "u1"}


def _rows(tensor: Any, start: int, end: int) -> npt.NDArray[Any]:
    """Rows of a stored tensor; safetensors itself refuses to slice out nothing."""
    if start == end:
        return np.zeros((0, *tensor.get_shape()[1:]), dtype=_DTYPES[tensor.get_dtype()])
    rows: npt.NDArray[Any] = tensor[start:end]
    return rows


class Store:
    """Reads a cache; may be forked or pickled into loader workers.

    Args:
        folder: of the cache.
        wanted: what it must fit, see ``check_header``.
        keys: scans that must be in it.
        mend: the command that builds it, for messages.
    """

    def __init__(self, folder: Path, wanted: Header, keys: list[Key], mend: str) -> None:
        self.folder, self.mend, self._keys = folder, mend, keys
        self.header = read_header(folder, mend)
        check_header(folder, self.header, wanted, mend)
        missing = [name for name in blocks(keys) if not (folder / "shards" / f"{name}.safetensors").is_file()]
        if missing:
            raise DataError(
                f"The teacher cache {folder} lacks shard {missing[0]} ({len(missing)} in all); finish it with: {mend}"
            )
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def record(self, key: Key, names: Iterable[str]) -> Record:
        """The named arrays of one scan (copies)."""
        return {name: self._read(key, name, rows=True) for name in names}

    def lengths(self, key: Key, name: str) -> int:
        """Rows of one array of one scan."""
        return int(self._read(key, name, rows=False))

    def _read(self, key: Key, name: str, rows: bool) -> Any:
        """Rows of an array, or how many there are; DataError names a damaged shard."""
        from safetensors import SafetensorError

        file, position = self._find(key)
        try:
            start, end = file.get_slice(f"{name}.offsets")[position : position + 2]
            return _rows(file.get_slice(name), int(start), int(end)) if rows else int(end - start)
        except (SafetensorError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
            raise self._damaged(shard_name(key), error) from None

    def width(self, name: str) -> int:
        """Length of the second axis of an array, the same in all records; 0 where the cache has no shard."""
        if not self._keys:
            return 0
        shape = self._find(self._keys[0])[0].get_slice(name).get_shape()
        return int(shape[1]) if len(shape) > 1 else 1

    def bytes(self) -> int:
        """Size on disk."""
        return sum(path.stat().st_size for path in (self.folder / "shards").glob("*.safetensors"))

    def _find(self, key: Key) -> tuple[Any, int]:
        from safetensors import SafetensorError, safe_open

        if self._process != os.getpid():
            self._open, self._process = OrderedDict(), os.getpid()
        name = shard_name(key)
        if name not in self._open:
            path = self.folder / "shards" / f"{name}.safetensors"
            try:
                file = safe_open(path, framework="numpy")
                scans = {int(index): row for row, index in enumerate(file.get_tensor("scans"))}
            except (SafetensorError, OSError) as error:
                raise self._damaged(name, error) from None
            self._open[name] = (file, scans)
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        file, scans = self._open[name]
        if key[1] not in scans:
            raise DataError(
                f"The teacher cache {self.folder} has no scan {key[0]}/{key[1]:06d}; run: {self.mend} --rebuild"
            )
        return file, scans[key[1]]

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(
            f"Shard {name} of the teacher cache {self.folder} is damaged ({error}); delete it and run: {self.mend}"
        )
