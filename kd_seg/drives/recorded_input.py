"""How the points of a recording lie, as ``kd-seg convert`` and ``calibrate`` are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd_seg.scans import FileFormat, is_bag
from kd_seg.serving.parameters import LAYOUT, check_apply, point_format, read_parameters
from kd_seg.serving.pointcloud2 import DEFAULT_INTENSITY_FIELDS


def recorded_input(
    source: Path, params: Path | None, overrides: list[str], also: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], tuple[str, ...], FileFormat]:
    """Parameters by name, the names of the intensity field, and how point files lie.

    Args:
        params: parameter file of ``kd-seg calibrate``.
        also: parameters that the command takes beside those of the layout.

    Raises UsageError for an override that does not apply to such a source.
    """
    values, bag = read_parameters(params, overrides), is_bag(source)
    layout = {"input.intensity_fields"} if bag else LAYOUT
    check_apply(overrides, also | layout, "a bag" if bag else "a folder of point files")
    fields = tuple(values.get("input.intensity_fields", DEFAULT_INTENSITY_FIELDS))
    return values, fields, FileFormat() if bag else point_format(values)
