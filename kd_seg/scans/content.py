"""Whole files into memory: regular ones of a sensible size, each failure one sentence."""

from __future__ import annotations

import stat
from pathlib import Path

from kd_seg.core.errors import DataError

LARGEST_FILE = 1 << 31
"""Bytes; a larger file holds no single scan and is refused before it is read."""

LARGEST_SCAN = 20_000_000
"""Points; a file that declares more is refused before anything is allocated."""


def read_content(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a regular file; DataError names the file where it cannot be read or is larger than ``largest``."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no regular file; copy its content to a file first.")
        if status.st_size > largest:
            raise DataError(f"{path} has {status.st_size:,} bytes, more than the {largest:,} that are read; split it.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check the path and the data set."
        ) from None
    except ValueError as error:  # a null byte in the path
        raise DataError(f"{str(path)!r} is no path of a file ({error}); check the path.") from None


def read_lines(path: Path, largest: int = 1 << 28) -> list[tuple[int, str]]:
    """Numbered lines (from 1) of a plain text file without the blank ones; DataError names the file.

    A byte order mark at the start is left out.
    """
    content = read_content(path, largest).removeprefix(b"\xef\xbb\xbf")
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not plain text; copy it again.") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def excerpt(text: str, longest: int = 40) -> str:
    """Text quoted for a message: escaped, cut after ``longest`` characters."""
    return ascii(text if len(text) <= longest else text[:longest] + "...")
