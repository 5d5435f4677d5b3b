"""Knowledge units: a 2D teacher's claims about sets of points, one CSR per scan (Umam et al., CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class UnitKind(IntEnum):
    """What a unit was made from."""

    BOX = 0
    MASK = 1
    COMPONENT = 2


class Spoilt(IntEnum):
    """How a unit was made wrong on purpose."""

    NOT = 0
    FLIP = 1
    SHIFT = 2
    CALIBRATION = 3


@dataclass(frozen=True)
class Claim:
    """One unit before it is stored.

    Attributes:
        rows: [n] int32, rows of the unaugmented scan, ascending.
        teacher_class: teacher class. confidence: C_u in (0, 1].
        box: left, top, right, bottom in pixels. kind: see UnitKind. spoilt: see Spoilt.
        probabilities: [C2] float16 or None.
    """

    rows: npt.NDArray[np.int32]
    teacher_class: int
    confidence: float
    box: npt.NDArray[np.float32]
    kind: UnitKind
    spoilt: Spoilt = Spoilt.NOT
    probabilities: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Units:
    """Units of one scan as CSR; points of unit u are ``points[offsets[u]:offsets[u + 1]]``.

    Attributes:
        offsets: [U + 1] int64.
        points: [nnz] int32, rows of the unaugmented scan.
        teacher_class: [U] int16, teacher class (index into the vocabulary in the cache's header).
        confidence: [U] float16, C_u, never rewritten.
        score: [U] float16, r_u, 1 until a backward pass judges it (kept in the run's state, not in the cache).
        view: [U] uint8, number of the view it was seen in.
        kind: [U] uint8, see UnitKind.
        box: [U, 4] float32 pixels.
        spoilt: [U] uint8, see Spoilt.
        probabilities: [U, C2] float16; C2 = 0 where the teacher gave the best class alone.
    """

    offsets: npt.NDArray[np.int64]
    points: npt.NDArray[np.int32]
    teacher_class: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float16]
    score: npt.NDArray[np.float16]
    view: npt.NDArray[np.uint8]
    kind: npt.NDArray[np.uint8]
    box: npt.NDArray[np.float32]
    spoilt: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.teacher_class)

    def rows(self, unit: int) -> npt.NDArray[np.int32]:
        """Scan rows [K] of one unit."""
        return self.points[self.offsets[unit] : self.offsets[unit + 1]]

    def sizes(self) -> npt.NDArray[np.int64]:
        """Points per unit [U]."""
        return np.diff(self.offsets)

    def unit_of_pair(self) -> npt.NDArray[np.int64]:
        """Unit of each entry of ``points`` [nnz]."""
        return np.repeat(np.arange(len(self)), self.sizes())


def gather(claims: list[Claim], views: list[int], vocabulary: int) -> Units:
    """Claims of all views of a scan as one CSR.

    Args:
        views: view number of each claim.
        vocabulary: C2 where probabilities are kept, else 0.
    """
    offsets = np.zeros(len(claims) + 1, dtype=np.int64)
    np.cumsum([len(c.rows) for c in claims], out=offsets[1:])
    table = np.zeros((len(claims), vocabulary), dtype=np.float16)
    for row, claim in enumerate(claims):
        if vocabulary and claim.probabilities is not None:
            table[row] = claim.probabilities
        elif vocabulary:
            table[row, claim.teacher_class] = 1.0
    return Units(
        offsets=offsets,
        points=np.concatenate([c.rows for c in claims]) if claims else np.zeros(0, dtype=np.int32),
        teacher_class=np.array([c.teacher_class for c in claims], dtype=np.int16),
        confidence=np.array([c.confidence for c in claims], dtype=np.float16),
        score=np.ones(len(claims), dtype=np.float16),
        view=np.array(views, dtype=np.uint8),
        kind=np.array([c.kind for c in claims], dtype=np.uint8),
        box=np.array([c.box for c in claims], dtype=np.float32).reshape(-1, 4),
        spoilt=np.array([c.spoilt for c in claims], dtype=np.uint8),
        probabilities=table,
    )
