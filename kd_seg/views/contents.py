"""What is inside a checkpoint, a run folder, a bag or a data root, as plain data; of scans only the first is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans import FileFormat, KittiSequence, SemanticKitti, is_bag, read_point_file
from kd_seg.scans.point_files import READERS
from kd_seg.scans.semantic_kitti import PICTURE_SUFFIXES
from kd_seg.serving.sources import loose_files, sequences_of

Contents = dict[str, Any]

PLAIN_FROM = 1e5
"""Numbers with decimals from here on are printed whole, not as powers of ten."""


def contents(path: Path, form: FileFormat = FileFormat()) -> Contents:
    """Plain data with a key "kind": checkpoint, bag, data root or sequence. UsageError for anything else.

    Args:
        form: how .bin files lie.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a checkpoint, a run folder, a bag or a data root.")
    if path.suffix == ".safetensors" or (path / "checkpoints").is_dir():
        return of_checkpoint(path)
    if is_bag(path):
        return of_bag(path)
    if (path / "velodyne").is_dir():
        return {"kind": "sequence", "path": str(path), **of_sequence(KittiSequence(path, form))}
    if (path / "sequences").is_dir():
        return of_data(path, form)
    if path.is_file() and path.suffix.lower() in READERS:
        return of_points(path, form)
    if path.is_dir() and (found := sequences_of(path, form)) is not None:
        return {"kind": "sequences", "path": str(path), "sequences": [of_sequence(each) for each in found]}
    if path.is_dir() and any(each.suffix.lower() in READERS for each in path.iterdir()):
        files = loose_files(path)
        first = _or_why(lambda: of_points(files[0], form))
        return {"kind": "folder of point files", "path": str(path), "files": len(files), "first": first}
    raise UsageError(f"{path} is no checkpoint, run folder, bag, data root or point file; kd-seg info reads these.")


def of_points(path: Path, form: FileFormat = FileFormat()) -> Contents:
    """Points, fields, extent and intensity of a point file; DataError where it is refused."""
    file = read_point_file(path, form)
    finite = file.points[np.isfinite(file.points[:, :3]).all(axis=1)]
    extent = {
        axis: [round(float(finite[:, k].min()), 3), round(float(finite[:, k].max()), 3)] if len(finite) else None
        for k, axis in enumerate("xyz")
    }
    values = finite[:, 3][np.isfinite(finite[:, 3])]
    return {
        "kind": "point file",
        "path": str(path),
        "bytes": path.stat().st_size,
        "points": len(file.points),
        "missing": len(file.points) - len(finite),
        "fields": list(file.names),
        **extent,
        "intensity": file.intensity,
        "intensity_range": [float(values.min()), float(values.max())] if len(values) and file.intensity else None,
    }


def of_checkpoint(path: Path) -> Contents:
    """Network, classes, sensor and training of a checkpoint or of a run's last one."""
    from kd_seg.checkpoint import read_metadata, read_tensors, resolve, sha256

    file = resolve(path)
    metadata = read_metadata(file)
    tensors = read_tensors(file)
    return {
        "kind": "checkpoint",
        "path": str(file),
        "bytes": file.stat().st_size,
        "sha256": sha256(file),
        "tensors": len(tensors),
        "values": sum(tensor.numel() for tensor in tensors.values()),
        **{key: value for key, value in metadata.items() if key != "classes"},
        "classes": {key: metadata["classes"][key] for key in ("name", "names", "raw_ids")},
    }


def of_bag(path: Path) -> Contents:
    """Topics, counts and times of a bag, and the layout of each PointCloud2 topic's first message."""
    from kd_seg.serving.bag_io import CLOUD, open_bag

    with open_bag(path) as reader:
        topics = []
        for name, topic in sorted(reader.topics.items()):
            entry: Contents = {"topic": name, "type": topic.msgtype, "messages": topic.msgcount}
            if topic.msgtype == CLOUD:
                entry["first"] = _first_cloud(reader, [c for c in reader.connections if c.topic == name], path)
            topics.append(entry)
        empty = reader.message_count == 0
        return {
            "kind": "bag",
            "path": str(path),
            "messages": reader.message_count,
            "start_s": None if empty else reader.start_time * 1e-9,
            "seconds": 0.0 if empty else reader.duration * 1e-9,
            "topics": topics,
        }


def _first_cloud(reader: Any, connections: list[Any], path: Path) -> Contents | None:
    """Layout of a topic's first message, or what is wrong with it."""
    from kd_seg.serving.bag_io import decoded, messages_of

    try:
        first = next(messages_of(reader, connections, path), None)
        if first is None:
            return None
        cloud = decoded(reader, first[0], first[2])
    except DataError as error:
        return {"unreadable": str(error)}
    return {
        "frame_id": cloud.header.frame_id,
        "height": int(cloud.height),
        "width": int(cloud.width),
        "point_step": int(cloud.point_step),
        "fields": [f"{field.name}@{field.offset}" for field in cloud.fields],
    }


def of_data(path: Path, form: FileFormat = FileFormat()) -> Contents:
    """Sequences of a data root and their sums; no sum of points where those of a sequence cannot be counted."""
    sequences = [of_sequence(sequence) for sequence in SemanticKitti(path, form=form).sequences.values()]
    points = [each["points"] for each in sequences]
    return {
        "kind": "data root",
        "path": str(path),
        "scans": sum(each["scans"] for each in sequences),
        "points": sum(points) if all(isinstance(count, int) for count in points) else None,
        "sequences": sequences,
    }


def of_sequence(sequence: KittiSequence) -> Contents:
    """Scans and files of one sequence, judged by names, sizes and the first scan."""
    folder = sequence.folder
    pictures = {name: sum(_count(folder / name, end) for end in PICTURE_SUFFIXES) for name in ("image_2", "image_3")}
    return {
        "sequence": sequence.name,
        "scans": len(sequence.indices),
        "first": sequence.indices[0] if sequence.indices else None,
        "last": sequence.indices[-1] if sequence.indices else None,
        "points": _or_why(lambda: _points(sequence)),
        "labels": _count(folder / "labels", ".label"),
        "pictures": {name: count for name, count in pictures.items() if count},
        "poses": _or_why(lambda: None if sequence.poses is None else len(sequence.poses)),
        "calibration": _or_why(lambda: sequence.calibration is not None),
        "times": _or_why(lambda: sequence.times is not None),
    }


def _points(sequence: KittiSequence) -> int:
    """Points of all scans by the sizes of their files; DataError where the first does not lie as it is taken to."""
    if sequence.indices:
        read_point_file(sequence.points_path(sequence.indices[0]), sequence.form)
    sizes = (sequence.points_path(index).stat().st_size for index in sequence.indices)
    return sum(sizes) // sequence.form.layout.point_bytes


def _or_why(read: Callable[[], Any]) -> Any:
    """What is read, or the sentence on why it cannot be."""
    try:
        return read()
    except DataError as error:
        return f"unreadable: {error}"


def _count(folder: Path, suffix: str) -> int:
    names = os.listdir(folder) if folder.is_dir() else []
    return sum(name.endswith(suffix) and not name.startswith(".") for name in names)


def lines(found: Contents) -> list[str]:
    """The contents as indented text for a person."""
    return list(_lines(found, ""))


def _lines(value: Contents, indent: str) -> list[str]:
    text: list[str] = []
    width = max((len(key) for key in value), default=0)
    for key, item in value.items():
        if isinstance(item, dict) and item:
            text += [f"{indent}{key}", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            text.append(f"{indent}{key}")
            text += [f"{indent}  {row}" for row in _table(item)]
        else:
            text.append(f"{indent}{key:<{width}}  {_plain(item)}")
    return text


def _table(entries: list[Contents]) -> list[str]:
    """A header and aligned rows; numbers to the right."""
    keys = list(dict.fromkeys(key for entry in entries for key in entry))
    rows = [keys, *([_plain(entry.get(key)) for key in keys] for entry in entries)]
    numbers = [all(isinstance(entry.get(key), int | float) for entry in entries) for key in keys]
    widths = [max(len(row[column]) for row in rows) for column in range(len(keys))]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]


def _plain(item: Any) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{key} {_plain(value)}" for key, value in item.items()) or "none"
    if isinstance(item, list):
        return ", ".join(_plain(value) for value in item) or "none"
    if isinstance(item, bool) or item is None:
        return {True: "yes", False: "no", None: "-"}[item]
    if isinstance(item, float) and abs(item) >= PLAIN_FROM:  # a time since 1970
        return f"{item:.3f}"
    return f"{item:,}" if isinstance(item, int) else f"{item:.6g}" if isinstance(item, float) else str(item)
