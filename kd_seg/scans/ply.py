"""A strict reader of .ply files: ascii and both binary orders, lists included, lengths checked before they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.scans.content import read_content
from kd_seg.scans.number_rows import parse_rows, text_lines
from kd_seg.scans.ply_header import Element, PlyHeader, parse_ply_header
from kd_seg.scans.point_table import Column, PointTable


def read_ply(path: Path) -> PointTable:
    """The columns of a .ply file's vertices; list properties are skipped.

    Raises DataError, one sentence, where the file contradicts itself, is cut off or has no vertices.
    """
    return parse_ply(read_content(path), str(path))


def parse_ply(content: bytes, where: str) -> PointTable:
    """As ``read_ply``, of a file's content; ``where`` names it in a DataError."""
    header = parse_ply_header(content, where)
    wanted = next((each for each in header.elements if each.name.casefold() in {"vertex", "point"}), None)
    if wanted is None:
        names = ", ".join(each.name for each in header.elements[:20]) or "none"
        raise DataError(f"{where} has no vertex element; its elements: {names}.")
    body = memoryview(content)[header.start :]
    if header.format == "ascii":
        columns = _ascii(header, wanted, text_lines(body, where), where)
    else:
        columns = _binary(header, wanted, body, where)
    return PointTable(tuple(each.name for each in wanted.properties), columns, wanted.count)


def _ascii(header: PlyHeader, wanted: Element, lines: list[str], where: str) -> dict[str, Column]:
    """One line a row, elements one after the other."""
    total = sum(element.count for element in header.elements if element.properties)
    if len(lines) != total:
        raise DataError(f"{where}: its header says {total:,} rows, its data have {len(lines):,}; "
                        "it is cut off or damaged.")  # fmt: skip
    start = 0
    for element in header.elements:
        if element is wanted:
            break
        start += element.count if element.properties else 0
    rows = lines[start : start + wanted.count] if wanted.properties else []
    if wanted.has_lists:
        rows = [_without_lists(line, wanted, f"{where}, data row {start + k + 1}") for k, line in enumerate(rows)]
    single = [each for each in wanted.properties if each.length is None]
    if not single:
        return {}
    table = parse_rows(rows, len(single), where)
    columns: dict[str, Column] = {}
    for number, each in enumerate(single):
        columns.setdefault(each.name, table[:, number])
    return columns


def _without_lists(line: str, element: Element, where: str) -> str:
    words, kept, at = line.split(), [], 0
    for each in element.properties:
        if at >= len(words):
            raise DataError(f"{where} ends before its property {each.name}; export it again.")
        if each.length is None:
            kept.append(words[at])
            at += 1
        elif words[at].isdigit() and len(words[at]) < 10:
            at += 1 + int(words[at])
        else:
            raise DataError(f"{where} has no number of entries for its list {each.name}; export it again.")
    if at != len(words):
        raise DataError(f"{where} holds {len(words)} numbers, its header says {at}; export it again.")
    return " ".join(kept)


def _binary(header: PlyHeader, wanted: Element, body: memoryview, where: str) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    content = np.frombuffer(body, np.uint8)
    at = 0
    for element in header.elements:
        if element.count * element.smallest > len(content) - at:
            fit = (len(content) - at) // element.smallest
            raise DataError(f"{where}: its header says {element.count:,} rows of {element.name}, its data end after "
                            f"at most {fit:,}; it is cut off.")  # fmt: skip
        read = _with_lists if element.has_lists else _plain
        found, size = read(element, content[at:], element is wanted, where)
        columns.update(found)
        at += size
    if bytes(content[at:]).strip(b"\0 \t\r\n"):
        raise DataError(
            f"{where} has {len(content) - at:,} bytes behind its last row; its header does not fit its data."
        )
    return columns


def _plain(element: Element, content: npt.NDArray[np.uint8], keep: bool, where: str) -> tuple[dict[str, Column], int]:
    """Columns and bytes of an element whose rows are equally long, without a copy."""
    step = element.smallest
    rows = content[: step * element.count].reshape(element.count, step)
    columns: dict[str, Column] = {}
    offset = 0
    for each in element.properties if keep else ():
        end = offset + each.dtype.itemsize
        columns.setdefault(each.name, rows[:, offset:end].view(each.dtype)[:, 0])
        offset = end
    return columns, step * element.count


def _with_lists(
    element: Element, content: npt.NDArray[np.uint8], keep: bool, where: str
) -> tuple[dict[str, Column], int]:
    """Columns and bytes of an element with lists, row by row."""
    from kd_seg.scans.ply_lists import walk  # Numba, which few files need

    lengths = np.array([each.length.itemsize if each.length is not None else 0 for each in element.properties])
    sizes = np.array([each.dtype.itemsize for each in element.properties])
    signed = np.array([each.length is not None and each.length.kind == "i" for each in element.properties])
    big = any((each.length or each.dtype).byteorder == ">" for each in element.properties)
    offsets = np.empty((element.count if keep else 1, len(sizes)), np.int64)
    size = int(walk(content, element.count, lengths, sizes, signed, big, offsets))
    if size < 0:
        raise DataError(f"{where}: row {-size:,} of {element.name} leaves the file; it is cut off or damaged.")
    columns: dict[str, Column] = {}
    for number, each in enumerate(element.properties if keep else ()):
        if each.length is None:
            places = offsets[:, number, None] + np.arange(each.dtype.itemsize)
            columns.setdefault(each.name, content[places].view(each.dtype)[:, 0])
    return columns, size
