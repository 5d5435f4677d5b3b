"""A strict reader of .pcd files: ascii, binary and binary_compressed, nothing allocated before it is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kd_seg.core.errors import DataError
from kd_seg.scans.content import read_content
from kd_seg.scans.number_rows import parse_rows, text_lines
from kd_seg.scans.pcd_header import PADDING, PcdField, PcdHeader, parse_pcd_header
from kd_seg.scans.point_table import Column, PointTable

_LZF_RATIO = 132
"""Most bytes that one byte of an LZF stream can stand for: a reference of 2 bytes for up to 264."""


def read_pcd(path: Path) -> PointTable:
    """The columns of a .pcd file.

    Fields named ``_`` are padding. Of several fields of one name the first counts; a field with a COUNT other than 1 is
    skipped. VIEWPOINT is not applied: points stay in the frame that the file has them in.

    Raises DataError, one sentence, where the file contradicts itself or is cut off.
    """
    return parse_pcd(read_content(path), str(path))


def parse_pcd(content: bytes, where: str) -> PointTable:
    """As ``read_pcd``, of a file's content; ``where`` names it in messages."""
    header = parse_pcd_header(content, where)
    body = memoryview(content)[header.start :]
    if header.data == "ascii":
        columns = _ascii(header, body, where)
    elif header.data == "binary":
        columns = _binary(header, body, where)
    else:
        columns = _compressed(header, body, where)
    names = tuple(field.name for field in header.fields if field.name != PADDING)
    return PointTable(names, columns, header.points)


def _ascii(header: PcdHeader, body: memoryview, where: str) -> dict[str, Column]:
    lines = text_lines(body, where)
    width = sum(field.count for field in header.fields)
    if len(lines) != header.points:
        raise DataError(f"{where}: its header says {header.points:,} points, its data have {len(lines):,} rows; "
                        "it is cut off or damaged.")  # fmt: skip
    rows = parse_rows(lines, width, where)
    columns: dict[str, Column] = {}
    offset = 0
    for field in header.fields:
        if _is_column(field):
            columns.setdefault(field.name, rows[:, offset])
        offset += field.count
    return columns


def _binary(header: PcdHeader, body: memoryview, where: str) -> dict[str, Column]:
    step = sum(field.bytes for field in header.fields)
    check_length(len(body), header.points, step, where)
    _check_rest(body[header.points * step :], where)
    if step == 0:
        raise DataError(f"{where} declares fields without a single byte; export it again.")
    rows = np.frombuffer(body, np.uint8, header.points * step).reshape(header.points, step)
    columns: dict[str, Column] = {}
    offset = 0
    for field in header.fields:
        if _is_column(field):
            columns.setdefault(field.name, rows[:, offset : offset + field.bytes].view(field.dtype)[:, 0])
        offset += field.bytes
    return columns


def _compressed(header: PcdHeader, body: memoryview, where: str) -> dict[str, Column]:
    """Two uint32 sizes, then an LZF stream of every field's values one field after the other."""
    from kd_seg.scans.lzf import decompress  # Numba, which nothing else here needs

    if len(body) < 8:
        raise DataError(f"{where} ends before its compressed data; it is cut off.")
    packed, unpacked = (int(size) for size in np.frombuffer(body, "<u4", 2))
    if packed > len(body) - 8:
        raise DataError(f"{where}: {packed:,} compressed bytes declared, {len(body) - 8:,} are there; it is cut off.")
    _check_rest(body[8 + packed :], where)
    stored = [field for field in header.fields if field.bytes]
    if unpacked != header.points * sum(field.bytes for field in stored):  # PCL leaves padding out
        stored = [field for field in stored if field.name != PADDING]
    step = sum(field.bytes for field in stored)
    if unpacked != header.points * step or unpacked > packed * _LZF_RATIO:
        raise DataError(f"{where}: its header says {header.points:,} points of {step} bytes, its compressed data say "
                        f"{unpacked:,} bytes; it is damaged.")  # fmt: skip
    values = decompress(body[8 : 8 + packed], unpacked)
    if values is None:
        raise DataError(f"{where} has damaged compressed data; copy it again.")
    columns: dict[str, Column] = {}
    offset = 0
    for field in stored:
        if _is_column(field):
            columns.setdefault(field.name, np.frombuffer(values, field.dtype, header.points, offset))
        offset += field.bytes * header.points
    return columns


def _is_column(field: PcdField) -> bool:
    return field.count == 1 and field.name != PADDING


def check_length(there: int, points: int, step: int, where: str) -> None:
    """DataError where fewer than ``points`` rows of ``step`` bytes are there."""
    if there < points * step:
        raise DataError(f"{where}: its header says {points:,} points of {step} bytes, its data end after "
                        f"{there // step:,}; it is cut off.")  # fmt: skip


def _check_rest(rest: memoryview, where: str) -> None:
    """DataError where more follows the last point than zeros or blanks, which some writers fill a block up with."""
    if bytes(rest).strip(b"\0 \t\r\n"):
        raise DataError(f"{where} has {len(rest):,} bytes behind its last point; its header does not fit its data.")
