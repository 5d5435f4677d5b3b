"""What drivers send of each point besides its place: its time within the sweep, and its beam."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.drives.trajectory import Times
from kd_seg.serving.pointcloud2 import DATATYPES, CloudLike, bytes_of

TIME_FIELDS = ("time", "t", "timestamp", "time_stamp", "timestamps", "offset_time", "time_offset")
"""Names that drivers give to a point's time; the first present is used."""

RING_FIELDS = ("ring", "channel", "line", "laser_id", "row")
"""Names that drivers give to a point's beam."""

LONGEST_SWEEP_S = 0.5
"""A sweep that seems to last longer is not believed."""


def point_times(message: CloudLike, stamp: float, seen: npt.NDArray[np.bool_] | None = None) -> Times | None:
    """Seconds relative to the cloud's stamp of every point [N] (row-major), or None where no field holds a time.

    Args:
        seen: which rows [N] are returns; drivers fill the others with zeros, and they get 0 here. None = all.

    Floating-point fields are seconds, whole-number fields nanoseconds (or microseconds, where nanoseconds would make a
    sweep shorter than 1 ms); both may count from the epoch or from the stamp. Raises DataError where the sweep would
    last longer than 0.5 s.
    """
    found = _found(message, TIME_FIELDS)
    if found is None:
        return None
    every = _column(message, found)
    raw = every if seen is None else every[seen]
    if raw.dtype.kind == "f":
        seconds = raw.astype(np.float64)
        if len(seconds) and np.nanmax(np.abs(seconds)) > 1e12:
            seconds = seconds * 1e-9
    else:
        seconds = raw.astype(np.float64) * 1e-9
        if raw.dtype.itemsize == 8 and len(raw):
            # Nanoseconds since the epoch do not fit into a double: subtract first.
            whole = int(stamp)
            seconds = (raw.astype(np.int64) - whole * 10**9).astype(np.float64) * 1e-9 + whole
        if len(seconds) and 0 < np.ptp(seconds) < 1e-3:
            seconds = seconds * 1e3
    if len(seconds) and abs(middle := float(np.nanmedian(seconds))) > abs(middle - stamp):
        seconds = seconds - stamp
    span = float(np.nanmax(seconds) - np.nanmin(seconds)) if len(seconds) else 0.0
    if span > LONGEST_SWEEP_S:
        raise DataError(
            f"field {found.name!r} spans {span:.3g} s within one cloud, which is no sweep; convert without --deskew."
        )
    if seen is None:
        return np.nan_to_num(seconds)
    times = np.zeros(len(every))
    times[seen] = np.nan_to_num(seconds)
    return times


def point_rings(message: CloudLike) -> npt.NDArray[np.int64] | None:
    """Beam of every point [N] (row-major) from a field of that meaning, or None."""
    found = _found(message, RING_FIELDS)
    return None if found is None else _column(message, found).astype(np.int64)


def _found(message: CloudLike, wanted: tuple[str, ...]) -> Any:
    """The first field of the wanted names that is there; None where there is none, or it does not fit into a point."""
    names = {field.name.lower(): field for field in message.fields}
    found = next((names[name] for name in wanted if name in names), None)
    if found is None or found.datatype not in DATATYPES:
        return None
    end = int(found.offset) + np.dtype(DATATYPES[found.datatype]).itemsize
    return found if end <= int(message.point_step) else None


def _column(message: CloudLike, field: Any) -> npt.NDArray[Any]:
    dtype = np.dtype(DATATYPES[field.datatype]).newbyteorder(">" if message.is_bigendian else "<")
    height, width = int(message.height), int(message.width)
    row_step = int(message.row_step) if height > 1 else width * int(message.point_step)
    view: npt.NDArray[Any] = np.ndarray(
        (height, width), dtype, bytes_of(message), int(field.offset), (row_step, int(message.point_step))
    )
    return np.ascontiguousarray(view).reshape(-1)
