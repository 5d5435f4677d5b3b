"""PointTable: the named columns of one point file, and what of them are coordinates and intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.scans.arrays import Points
from kd_seg.scans.content import excerpt

Column = npt.NDArray[Any]

INTENSITY_NAMES = ("intensity", "i", "reflectivity", "remission", "reflectance", "signal")
"""Names of an intensity column where the user names none, upper or lower case; the first present is taken."""


@dataclass(frozen=True)
class PointTable:
    """Columns of one file.

    Attributes:
        names: every field of the file in its order, without padding.
        columns: values [N] of the fields with one number a point, the first field of each name.
        count: N.
    """

    names: tuple[str, ...]
    columns: dict[str, Column]
    count: int


@dataclass(frozen=True)
class PointFile:
    """The points of one file and where their intensity came from.

    Attributes:
        points: [N, 4] float32, x, y, z and intensity as the file has them; intensity 0 where it has none.
        intensity: name of the field that intensity was taken from, or None.
        others: fields that could have been meant as well.
        names: every field of the file.
    """

    points: Points
    intensity: str | None
    others: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def choose(table: PointTable, wanted: Sequence[str], where: str) -> PointFile:
    """Coordinates and intensity out of a table.

    Args:
        wanted: names of the intensity field, the first present is taken; empty = INTENSITY_NAMES.

    Raises DataError where x, y or z is missing, or none of ``wanted`` is there.
    """
    points = np.zeros((table.count, 4), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis, name in enumerate("xyz"):
            column = _find(table, name)
            if column is None:
                raise DataError(
                    f"{where} has no field {name} with one number a point; its fields: {_listed(table.names)}."
                )
            points[:, axis] = table.columns[column]
        found = [column for name in (wanted or INTENSITY_NAMES) if (column := _find(table, name)) is not None]
        if wanted and not found:
            raise DataError(
                f"{where} has no field {', '.join(wanted)} (input.intensity_fields); "
                f"its fields: {_listed(table.names)}."
            )
        if found:
            points[:, 3] = table.columns[found[0]]
    others = () if wanted else tuple(name for name in dict.fromkeys(found[1:]) if name != found[0])
    return PointFile(points, found[0] if found else None, others, table.names)


def _find(table: PointTable, name: str) -> str | None:
    """The column of this name, else the first that differs from it in upper and lower case alone."""
    if name in table.columns:
        return name
    wanted = (name.casefold(), f"scalar_{name.casefold()}")  # as CloudCompare calls what it knows no name for
    return next((column for column in table.columns if column.casefold() in wanted), None)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(excerpt(name, 30)[1:-1] for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"
