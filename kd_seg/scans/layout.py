"""How a .bin file's numbers lie, and whether that can be true: a .bin file says nothing of itself.

Two figures decide. Read with the wrong type, part of the values is of no size that a coordinate can have. Read with the
wrong number of columns, every column is a mixture of all, and the mutual information of value and column falls to zero
(the entropy of a mixture is never below the mean entropy of its parts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DTYPES = {"float32": "<f4", "float64": "<f8", "float32_be": ">f4", "float64_be": ">f8"}
"""NumPy type by the names that ``input.dtype`` takes."""

COLUMNS = (4, 5, 3, 6, 7, 8)
"""Numbers of columns that are tried, the commonest first."""

_SAMPLE = 33_600
"""Values looked at, a multiple of every number of columns."""
_FEWEST = 512
"""Values below which the columns are not judged."""
_SMALLEST, _LARGEST = 1e-10, 1e8
_ABSURD = 0.01
"""Share of impossible values from which a type is not believed."""
_BINS = 32
_MAGIC = {
    b"\x93NUMPY": "a .npy file",
    b"# .PCD": "a .pcd file",
    b"ply\n": "a .ply file",
    b"ply\r": "a .ply file",
    b"PK\x03\x04": "a .zip or .npz archive",
    b"\x1f\x8b": "a file compressed with gzip",
    b"\x89MCAP": "an .mcap bag",
}
"""Kinds of files by their first bytes."""
_TEXT = frozenset(b"0123456789+-.,;eEnaifNAIF \t\r\n#xyz")


@dataclass(frozen=True)
class PointLayout:
    """Columns and type of a .bin file.

    Attributes:
        columns: numbers per point, x, y, z first, then intensity.
        dtype: a key of DTYPES.
    """

    columns: int = 4
    dtype: str = "float32"

    @property
    def point_bytes(self) -> int:
        """Bytes per point."""
        return self.columns * np.dtype(DTYPES[self.dtype]).itemsize

    def __str__(self) -> str:
        return f"{self.columns} columns of {self.dtype} ({self.point_bytes} bytes a point)"


@dataclass(frozen=True)
class Doubt:
    """Why a file's content is not believed, and the layout that it seems to have, if any."""

    reason: str
    better: PointLayout | None = None


def doubt(content: bytes, layout: PointLayout, judge_columns: bool = True) -> Doubt | None:
    """Why a file's content is not believed to lie as ``layout`` has it, or None.

    Args:
        judge_columns: whether the number of columns is in question too, or only the type.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)
    if kind is not None:
        return Doubt(f"it is {kind} under another name; rename it")
    if content and _is_text(content):
        return Doubt("it is text, not binary numbers; save it as .npy, or write float32 with tofile()")
    if len(content) % layout.point_bytes:
        reason = f"{len(content):,} bytes are no whole number of {layout.point_bytes}-byte points"
        better = _better(content, layout)
        return Doubt(reason if better else f"{reason}; it is cut off", better)
    if _absurd(_sample(content, layout.dtype)) > _ABSURD:
        reason = f"its values as {layout.dtype} are no possible coordinates"
        better = _better(content, layout)
        return Doubt(reason if better else f"{reason}; it is damaged or of another kind", better)
    if judge_columns and (better := _better_columns(content, layout)) is not None:
        return Doubt(f"in {layout.columns} columns its values are mixed", better)
    return None


def _better(content: bytes, layout: PointLayout) -> PointLayout | None:
    """The most plausible other layout whose points divide the size and whose values are possible, or None."""
    known: dict[PointLayout, float] = {}
    for dtype in DTYPES:
        fits = [each for count in COLUMNS if len(content) % (each := PointLayout(count, dtype)).point_bytes == 0]
        if fits and _absurd(values := _sample(content, dtype)) <= _ABSURD:
            known.update({each: information(values, each.columns) for each in fits if each != layout})
    return _most_telling(known)


def _most_telling(known: dict[PointLayout, float]) -> PointLayout | None:
    """The layout of most information; the first, which is the commonest, of those that chance could part."""
    best = max(known.values(), default=0.0)
    return next((each for each, bits in known.items() if bits >= 0.8 * best - 0.02), None)


def _better_columns(content: bytes, layout: PointLayout) -> PointLayout | None:
    values = _sample(content, layout.dtype)
    if len(values) < _FEWEST:
        return None
    own = information(values, layout.columns)
    rivals = [
        PointLayout(count, layout.dtype)
        for count in COLUMNS
        if count != layout.columns and len(content) % PointLayout(count, layout.dtype).point_bytes == 0
    ]
    known = {rival: information(values, rival.columns) for rival in rivals}
    best = max(known.values(), default=0.0)
    if best >= min(2.0 * own + 0.1, own + 0.6):
        return _most_telling(known)
    double = PointLayout(2 * layout.columns, layout.dtype)
    return double if double in rivals and _every_other_row_is_no_point(values, layout.columns) else None


def _every_other_row_is_no_point(values: npt.NDArray[np.float64], columns: int) -> bool:
    """Whether most odd rows lie exactly on an axis and even ones do not, as where a point fills two rows."""
    rows = values[: len(values) // (2 * columns) * 2 * columns].reshape(-1, 2, columns)
    on_axis = (rows[:, :, :3] == 0).sum(axis=2) >= 2
    there = (rows != 0).any(axis=2)
    shares = [float(on_axis[there[:, k], k].mean()) if there[:, k].any() else 0.0 for k in range(2)]
    return shares[0] < 0.05 and shares[1] > 0.5


def information(values: npt.NDArray[np.float64], columns: int) -> float:
    """Mutual information in bits of values [M] and their places modulo ``columns``, over 32 bins of equal counts."""
    told = np.isfinite(values) & (values != 0)  # a missing point is NaN or zero throughout
    place, values = (np.arange(len(values)) % columns)[told], values[told]
    if len(values) == 0:
        return 0.0
    edges = np.quantile(values[:: max(1, len(values) // 4096)], np.linspace(0, 1, _BINS + 1)[1:-1])
    cells = np.searchsorted(edges, values, side="right")
    joint = np.bincount(place * _BINS + cells, minlength=columns * _BINS).reshape(columns, _BINS)
    share = joint / len(values)
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    there = share > 0
    return float(np.sum(share[there] * np.log2(share[there] / expected[there])))


def _sample(content: bytes, dtype: str) -> npt.NDArray[np.float64]:
    """At most _SAMPLE values from the middle of the content, aligned to every number of columns."""
    kind = np.dtype(DTYPES[dtype])
    total = len(content) // kind.itemsize
    start = max(0, total - _SAMPLE) // 2 // 840 * 840
    count = min(_SAMPLE, total - start)
    with np.errstate(invalid="ignore"):
        return np.frombuffer(content, kind, count, start * kind.itemsize).astype(np.float64)


def _absurd(values: npt.NDArray[np.float64]) -> float:
    """Share of values that are no metres, millimetres, counts or seconds; a tenth of those that are too small.

    NaN and infinity are missing returns, and tell nothing. Few small ones are normal: x = r cos(azimuth) is 1e-15 at a
    right angle. Where one half of all numbers is exactly
    zero and the other is not, they are the two halves of whole numbers in float64: all are absurd.
    """
    if len(values) == 0:
        return 0.0
    first, second = values[: len(values) // 2 * 2].reshape(-1, 2).T
    if {(first == 0).mean() > 0.99, (second == 0).mean() > 0.99} == {True, False} and len(first) > 16:
        return 1.0
    size = np.abs(values)
    return float(np.mean((size >= _LARGEST) & np.isfinite(size)) + 0.1 * np.mean((size > 0) & (size < _SMALLEST)))


def _is_text(content: bytes) -> bool:
    head = content[:4096]
    return _TEXT.issuperset(head) and any(byte in b"0123456789" for byte in head)
