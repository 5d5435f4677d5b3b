"""The header of a .pcd file (PCL's Point Cloud Data, versions 0.5 to 0.7), parsed strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError
from kd_seg.scans.content import LARGEST_SCAN, excerpt

PADDING = "_"
"""Name of fields that fill a point up; any number of them may stand in a file."""

_KINDS = {
    **{("I", size): f"<i{size}" for size in (1, 2, 4, 8)},
    **{("U", size): f"<u{size}" for size in (1, 2, 4, 8)},
    ("F", 4): "<f4",
    ("F", 8): "<f8",
}
_LONGEST = 1 << 20
_MOST_FIELDS = 4096
_WORDS = {
    "VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA",
}  # fmt: skip


@dataclass(frozen=True)
class PcdField:
    """One field: ``count`` numbers of ``dtype`` a point."""

    name: str
    dtype: np.dtype[Any]
    count: int

    @property
    def bytes(self) -> int:
        """Bytes a point."""
        return self.dtype.itemsize * self.count


@dataclass(frozen=True)
class PcdHeader:
    """What a .pcd file says of itself.

    Attributes:
        points: WIDTH x HEIGHT, equal to POINTS where that is given.
        data: ascii, binary or binary_compressed.
        start: offset of the data in the file.
    """

    fields: tuple[PcdField, ...]
    points: int
    data: str
    start: int


def parse_pcd_header(content: bytes, where: str) -> PcdHeader:
    """The header of a file's content; DataError in one sentence where it contradicts itself or is no header."""
    words, start = _lines(content, where)
    names = words.get("FIELDS") or words.get("COLUMNS")
    if not names:
        raise DataError(f"{where} has no FIELDS line; it is no .pcd file.")
    if len(names) > _MOST_FIELDS:
        raise DataError(f"{where} declares {len(names)} fields, {_MOST_FIELDS} are the most that are read.")
    sizes = _numbers(words, "SIZE", len(names), where)
    kinds = [kind.upper() for kind in words.get("TYPE", ["F"] * len(names))]
    counts = _numbers(words, "COUNT", len(names), where) if "COUNT" in words else [1] * len(names)
    if len(kinds) != len(names):
        raise DataError(f"{where} has {len(names)} FIELDS but {len(kinds)} TYPEs; export it again.")
    fields = tuple(_field(*row, where) for row in zip(names, sizes, kinds, counts, strict=True))
    data = (words["DATA"] or [""])[0].lower()
    if data not in {"ascii", "binary", "binary_compressed"}:
        raise DataError(f"{where} has DATA {excerpt(data)}; known are ascii, binary and binary_compressed.")
    return PcdHeader(fields, _points(words, where), data, start)


def _lines(content: bytes, where: str) -> tuple[dict[str, list[str]], int]:
    """Words by keyword, and where the data begin."""
    words: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in words:
        end = content.find(b"\n", start, _LONGEST)
        if end < 0:
            raise DataError(f"{where} has no complete .pcd header (no DATA line); it is cut off or no .pcd file.")
        try:
            line = content[start:end].decode("utf-8").strip()
        except UnicodeDecodeError:
            raise DataError(f"{where} has no readable .pcd header; it is damaged or no .pcd file.") from None
        start = end + 1
        if not line or line.startswith("#"):
            continue
        keyword, *rest = line.split()
        keyword = keyword.upper()
        if keyword not in _WORDS:
            raise DataError(f"{where} has {excerpt(keyword)} in its header, which no .pcd file knows; export it again.")
        if keyword in words:
            raise DataError(f"{where} has two {keyword} lines; export it again.")
        words[keyword] = rest
    return words, start


def _field(name: str, size: int, kind: str, count: int, where: str) -> PcdField:
    dtype = _KINDS.get((kind, size))
    if dtype is None:
        raise DataError(
            f"{where}: field {excerpt(name)} has TYPE {excerpt(kind)} SIZE {size}; "
            "known are I and U of 1, 2, 4 or 8 bytes and F of 4 or 8."
        )
    return PcdField(name, np.dtype(dtype), count)


def _numbers(words: dict[str, list[str]], keyword: str, many: int, where: str) -> list[int]:
    if keyword not in words:
        raise DataError(f"{where} has no {keyword} line; it is damaged or no .pcd file.")
    if len(words[keyword]) != many:
        raise DataError(f"{where} has {many} FIELDS but {len(words[keyword])} {keyword} numbers; export it again.")
    return [_number(word, keyword, where) for word in words[keyword]]


def _number(word: str, keyword: str, where: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise DataError(f"{where}: {keyword} {excerpt(word)} is not a sensible whole number; export it again.")
    return int(word)


def _points(words: dict[str, list[str]], where: str) -> int:
    sizes = {
        keyword: _number((words[keyword] or [""])[0], keyword, where)
        for keyword in ("WIDTH", "HEIGHT", "POINTS")
        if keyword in words
    }
    if "WIDTH" not in sizes and "POINTS" not in sizes:
        raise DataError(f"{where} has neither WIDTH nor POINTS; it is damaged or no .pcd file.")
    grid = sizes["WIDTH"] * sizes.get("HEIGHT", 1) if "WIDTH" in sizes else sizes["POINTS"]
    points = sizes.get("POINTS", grid)
    if points != grid:
        raise DataError(f"{where} has WIDTH x HEIGHT {grid:,} but POINTS {points:,}; it is damaged, export it again.")
    if points > LARGEST_SCAN:
        raise DataError(
            f"{where} declares {points:,} points, a scan has at most {LARGEST_SCAN:,}; its header is wrong."
        )
    return points
