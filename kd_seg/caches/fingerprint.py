"""What a cache was made from, cheaply: digests of files, of parts of files and of listings, nothing of their place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGITS = 16
"""Hex digits of a digest."""

Fingerprint = dict[str, dict[str, Any]]
"""By sequence: what was read of it, by name, such as "poses"; other data give other values."""

_END = 1 << 16


def text_digest(text: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def content_digest(path: Path) -> str:
    """Digest of a whole file; "none" where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS] if path.is_file() else "none"


def file_digest(path: Path) -> str:
    """Digest of a file's size, first and last 64 KiB; "none" where there is no file."""
    if not path.is_file():
        return "none"
    size = path.stat().st_size
    with open(path, "rb") as file:
        found = hashlib.sha256(str(size).encode() + file.read(_END))
        file.seek(max(0, size - _END))
        found.update(file.read())
    return found.hexdigest()[:DIGITS]


def listing_digest(folders: Iterable[Path], read: int = 0) -> str:
    """Digest of the names and sizes of the files in folders that exist (no hidden ones), and of some files in full.

    Args:
        read: how many files of each folder are read: the first, the middle and the last at most.
    """
    found = hashlib.sha256()
    for folder in folders:
        if not folder.is_dir():
            continue
        shown = (entry for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
        sizes = sorted((entry.name, entry.stat().st_size) for entry in shown)
        found.update(repr(sizes).encode())
        for name, _ in [*sizes[:1], *sizes[len(sizes) // 2 : len(sizes) // 2 + 1], *sizes[-1:]][:read]:
            found.update((folder / name).read_bytes())
    return found.hexdigest()[:DIGITS]


def difference(made_from: Fingerprint, now: Fingerprint) -> str | None:
    """What changed, such as "poses of sequence 00"; None where the fingerprints agree on the sequences of both.

    What was not recorded when the cache was made, by an earlier version, is not compared.
    """
    for name, entry in now.items():
        for what, value in entry.items():
            if what in made_from.get(name, {}) and made_from[name][what] != value:
                return f"{what.replace('_', ' ')} of sequence {name}"
    return None
