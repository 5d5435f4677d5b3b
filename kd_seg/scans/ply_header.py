"""The header of a .ply file (Stanford's polygon format 1.0), parsed strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError
from kd_seg.scans.content import LARGEST_SCAN, excerpt

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
"""NumPy type by PLY's names, old and new."""

FORMATS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
"""Byte order by format."""

_LONGEST = 1 << 20
_MOST_PROPERTIES = 4096


@dataclass(frozen=True)
class Property:
    """One property of an element.

    Attributes:
        dtype: of its value, or of each entry of a list.
        length: dtype of the number of entries before a list, None for a single value.
    """

    name: str
    dtype: np.dtype[Any]
    length: np.dtype[Any] | None = None


@dataclass(frozen=True)
class Element:
    """``count`` rows of properties."""

    name: str
    count: int
    properties: tuple[Property, ...]

    @property
    def has_lists(self) -> bool:
        """Whether rows differ in length."""
        return any(each.length is not None for each in self.properties)

    @property
    def smallest(self) -> int:
        """Bytes of a row whose lists are empty."""
        return sum((each.length or each.dtype).itemsize for each in self.properties)


@dataclass(frozen=True)
class PlyHeader:
    """Elements in the order of their data, the format, and where the data begin."""

    elements: tuple[Element, ...]
    format: str
    start: int


def parse_ply_header(content: bytes, where: str) -> PlyHeader:
    """The header of a file's content; DataError in one sentence where it is no PLY header or contradicts itself."""
    lines, start = _lines(content, where)
    order: str | None = None
    elements: list[tuple[str, int, list[Property]]] = []
    for line in lines:
        keyword, *words = line.split()
        if keyword == "format":
            order = _format(words, order, where)
        elif keyword == "element":
            elements.append((*_element(words, where), []))
        elif keyword == "property" and elements and order is not None:
            elements[-1][2].append(_property(words, FORMATS[order], where))
        elif keyword not in {"comment", "obj_info"}:
            raise DataError(f"{where} has the header line {excerpt(line)}, which PLY does not know; export it again.")
    if order is None:
        raise DataError(f"{where} has no format line; it is damaged or no .ply file.")
    if sum(len(properties) for _, _, properties in elements) > _MOST_PROPERTIES:
        raise DataError(f"{where} declares more than {_MOST_PROPERTIES} properties; its header is wrong.")
    return PlyHeader(tuple(Element(name, count, tuple(rest)) for name, count, rest in elements), order, start)


def _lines(content: bytes, where: str) -> tuple[list[str], int]:
    """Header lines between "ply" and "end_header", and where the data begin."""
    if content[:3] != b"ply" or content[3:4] not in (b"\n", b"\r", b" ", b"\t"):
        raise DataError(f"{where} does not begin with the line ply; it is no .ply file.")
    mac = content[3:4] == b"\r" and content[4:5] != b"\n"
    terminator = b"\r" if mac else b"\n"
    lines: list[str] = []
    start = content.find(terminator) + 1
    while start > 0:
        end = content.find(terminator, start, _LONGEST)
        if end < 0:
            break
        line = content[start:end].decode("latin-1").strip()
        start = end + 1
        if line == "end_header":
            return lines, start
        if line:
            lines.append(line)
    raise DataError(f"{where} has no end_header line; it is cut off or no .ply file.")


def _format(words: list[str], known: str | None, where: str) -> str:
    if known is not None:
        raise DataError(f"{where} has two format lines; export it again.")
    if len(words) != 2 or words[0] not in FORMATS or words[1] != "1.0":
        raise DataError(f"{where} has format {excerpt(' '.join(words))}; known are {', '.join(FORMATS)}, each 1.0.")
    return words[0]


def _element(words: list[str], where: str) -> tuple[str, int]:
    if len(words) != 2 or not (words[1].isascii() and words[1].isdigit() and len(words[1]) < 19):
        raise DataError(f"{where} has the element {excerpt(' '.join(words))}, which is not a name and a count.")
    count = int(words[1])
    if count > LARGEST_SCAN:
        raise DataError(
            f"{where} declares {count:,} rows of {excerpt(words[0])}, at most {LARGEST_SCAN:,} are read; "
            "its header is wrong."
        )
    return words[0], count


def _property(words: list[str], order: str, where: str) -> Property:
    if len(words) == 2 and words[0] in TYPES:
        return Property(words[1], np.dtype(order + TYPES[words[0]]))
    if len(words) == 4 and words[0] == "list" and words[1] in TYPES and words[2] in TYPES:
        length = np.dtype(order + TYPES[words[1]])
        if length.kind in "iu":
            return Property(words[3], np.dtype(order + TYPES[words[2]]), length)
    raise DataError(f"{where} has the property {excerpt(' '.join(words))}, which PLY does not know; export it again.")
