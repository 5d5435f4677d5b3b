"""Rows of numbers written as text, as ASCII PCD and PLY files hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.scans.content import excerpt

_WINDOWS_NAN = re.compile(r"[+-]?(?:nan\([a-z0-9]*\)|1\.#(?:QNAN|SNAN|IND)[0-9]*)", re.IGNORECASE)


def text_lines(content: bytes | memoryview, where: str) -> list[str]:
    """Lines of ASCII text without the blank ones; DataError where it is no text."""
    try:
        text = bytes(content).decode("ascii")
    except UnicodeDecodeError:
        raise DataError(f"{where} declares text but holds other bytes; export it again.") from None
    return [line for line in text.replace("\r", "\n").split("\n") if line and not line.isspace()]


def parse_rows(lines: Sequence[str], width: int, where: str) -> npt.NDArray[np.float64]:
    """Numbers [len(lines), width]; DataError names the first row that is not ``width`` numbers between blanks."""
    if not lines:
        return np.zeros((0, width))
    try:
        return _parse(lines, width)
    except ValueError:
        pass
    try:  # how Windows writes NaN
        return _parse([_WINDOWS_NAN.sub("nan", line) for line in lines], width)
    except ValueError:
        raise DataError(_first_fault(lines, width, where)) from None


def _parse(lines: Sequence[str], width: int) -> npt.NDArray[np.float64]:
    rows: npt.NDArray[np.float64] = np.loadtxt(lines, dtype=np.float64, comments=None, ndmin=2)
    if rows.shape != (len(lines), width):
        raise ValueError
    return rows


def _first_fault(lines: Sequence[str], width: int, where: str) -> str:
    for number, line in enumerate(lines, 1):
        row = f"{where}, data row {number}"
        if "," in line or ";" in line:
            return f"{row} separates numbers with commas ({excerpt(line)}); write blanks between them."
        words = line.split()
        if len(words) != width:
            return f"{row} holds {len(words)} numbers, its header says {width}; export it again."
        wrong = next((word for word in words if not _is_number(word)), None)
        if wrong is not None:
            return f"{row}: {excerpt(wrong)} is not a number; export it again."
    return f"{where} holds rows that are not {width} numbers each; export it again."


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return _WINDOWS_NAN.fullmatch(word) is not None
    return "_" not in word
