"""Exceptions that a machine or a library raises, as the one sentence that a user can act on."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from kd_seg.core.errors import DataError, KdSegError, MissingDependencyError
from kd_seg.core.imports import import_failure

_FIXES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "your quota is used up: free some space, or write to another disk",
    errno.EROFS: "it lies on a read-only file system: write elsewhere",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of its path is a file: choose another path",
    errno.EISDIR: "it is a folder: name a file",
    errno.EEXIST: "something of this name is in the way: choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead back to themselves: choose another path",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.EIO: "the disk failed: copy it from another place",
    errno.EFBIG: "the file system takes no file of this size",
    errno.EAGAIN: "the system has no more processes or memory: use fewer workers",
}


def expected(error: Exception) -> KdSegError:
    """The error to show for any exception: itself where kd_seg raised it on purpose, else what it means.

    Whatever is left is a fault of kd_seg's own: its sentence names the place and asks for a report.
    """
    if isinstance(error, KdSegError):
        return error
    failure = import_failure(error)
    if failure is not None:
        return failure
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(of_os_error(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MissingDependencyError("There is not enough memory for this; use smaller clouds, batches or networks.")
    if isinstance(error, sqlite3.Error):
        return DataError(f"A .db3 file cannot be read or written ({one_line(error)}); check the file and the disk.")
    if isinstance(error, RecursionError):
        return DataError("An input is nested too deeply; simplify it.")
    return KdSegError(
        f"kd-seg failed in a way that it should not ({one_line(error)}, at {_place(error.__traceback__)}); "
        "run it again as kd-seg --debug ... and report what it prints."
    )


def of_os_error(error: OSError) -> str:
    """File, reason and fix of an error of the operating system."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    where = printable(" and ".join(names)) or "A file"
    fix = _FIXES.get(error.errno or 0, "check the path and the disk")
    return f"{where} cannot be read or written ({error.strerror or one_line(error)}); {fix}."


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the output in errors of writing that name no file, as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def one_line(error: BaseException) -> str:
    """An error's type and the first line of its text, printable, at most 200 characters of it."""
    text = next(iter(str(error).strip().splitlines()), "")[:200]
    return f"{type(error).__name__}: {printable(text)}" if text else type(error).__name__


def printable(text: str) -> str:
    """The text with "?" for what a terminal would not show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _place(traceback: TracebackType | None) -> str:
    """File and line of the innermost frame."""
    place = "an unknown place"
    while traceback is not None:
        place = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
