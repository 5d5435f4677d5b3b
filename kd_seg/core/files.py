"""The one way files are written: whole, under a temporary name beside the target, synced to disk, then renamed.

A reader finds the old content or the new one, never a part, also after a crash of the machine: file and folder are
synced before a writer returns.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TEMPORARY = ".tmp"
"""Suffix of what is being written; such names begin with a dot."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes ``path`` when the block ends, and is removed where the block fails.

    Raises:
        OSError: it cannot be written; the error names ``path``, as the temporary name means nothing to a user.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # where the folder itself is in the way, the first error counts
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes ``folder`` when the block ends, and is removed where the block fails.

    Raises:
        FileExistsError: ``folder`` is there already and not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(folder)
    temporary.mkdir()
    try:
        yield temporary
        put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While the block runs, other processes that lock the same folder wait; the folder is made if missing.

    Where a file system has no locks of folders (some network ones), nobody waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def in_use(folder: Path) -> Iterator[Callable[[], bool]]:
    """Mark a folder as one that this process writes to while the block runs; the folder is made if missing.

    Yields what tells whether no other process marks it, which may not begin to until the block ends. Where a file
    system has no locks of folders, nobody else is seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)

    def alone() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield alone
    finally:
        os.close(handle)


def put_in_place(finished: Path, path: Path) -> None:
    """Give a finished file or folder its name, synced to disk; a file of that name is replaced.

    Raises:
        FileExistsError: ``path`` is a folder that is not empty.
    """
    for one in [*sorted(finished.rglob("*")), finished] if finished.is_dir() else [finished]:
        _sync(one)
    try:
        os.replace(finished, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(errno.EEXIST, "the folder is there already", str(path)) from None
        raise
    _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes whole; the folder is made if missing."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any, indent: int | None = 1, sort_keys: bool = False) -> None:
    """Write JSON and a final newline whole.

    Raises:
        ValueError: NaN or infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(content, indent=indent, sort_keys=sort_keys, allow_nan=False) + "\n")


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write one array as ``.npy`` whole."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays as an uncompressed ``.npz`` whole; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def remove_temporaries(folder: Path, names: Iterable[str] | None = None, below: bool = False) -> None:
    """Remove what killed writers left in ``folder``.

    Args:
        names: of the targets whose leftovers go; None = all.
        below: also in the folders below it.
    """
    wanted = None if names is None else set(names)
    for path in list(folder.rglob(f".*{TEMPORARY}") if below else folder.glob(f".*{TEMPORARY}")):
        target = path.name[1 : -len(TEMPORARY)].rpartition(".")[0]
        if wanted is None or target in wanted:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """``.NAME.RANDOM.tmp`` in the same folder: random, as jobs on several machines may write the same target."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def _sync(path: Path) -> None:
    """Have the system write a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync folders, and say so
            raise
    finally:
        os.close(handle)
