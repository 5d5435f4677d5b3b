"""One cloud of a bag to draw, with its classes where it was labelled by kd-seg."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError, UsageError
from kd_seg.serving.bag_io import COMPRESSED, cloud_connections, decoded, messages_of, open_bag
from kd_seg.serving.pointcloud2 import DEFAULT_INTENSITY_FIELDS, CloudDecoder, CloudRejectedError
from kd_seg.views.source import ShownScan


def open_bag_shot(path: Path, which: str | None, topic: str | None, classes: ClassTable) -> ShownScan:
    """The ``which``-th cloud (from 0) of a topic; a field ``class_id`` becomes its classes.

    Raises:
        UsageError: ``which`` is no number, or the topic is not clear. DataError: there is no such cloud.
    """
    if which is not None and not which.isdigit():
        raise UsageError(f"--scan {which!r} of a bag is a number from 0.")
    number = int(which or 0)
    with open_bag(path) as reader:
        connections = cloud_connections(reader, topic, path)
        found = next(islice(messages_of(reader, connections, path), number, None), None)
        if found is None:
            total = sum(connection.msgcount for connection in connections)
            raise DataError(f"{path} has {total} clouds on {connections[0].topic}, there is no number {number}.")
        connection, _, raw = found
        try:
            message = decoded(reader, connection, raw)
            cloud = CloudDecoder().decode(message)
        except CloudRejectedError as rejection:
            hint = f"; {COMPRESSED}" if rejection.reason == "unreadable" and path.is_file() else ""
            raise DataError(f"{path}, cloud {number} of {connection.topic}: {rejection}{hint}.") from None
    name = f"{path.name} {connection.topic} #{number}"
    if any(field.name == "class_id" for field in message.fields):
        class_id = CloudDecoder(("class_id",)).decode(message).intensity.astype(np.uint8)
        points = np.column_stack([cloud.xyz, np.zeros(len(cloud.xyz), np.float32)])
        too_large = (class_id >= len(classes)) & (class_id != 255)
        if too_large.any():
            raise UsageError(
                f"{name} has class {class_id[too_large][0]}, {classes.name} has {len(classes)}; name --classes."
            )
        return ShownScan(name, points, classes.class_to_train(class_id))
    if not cloud.has_intensity:
        name += f" (no intensity among {', '.join(DEFAULT_INTENSITY_FIELDS)})"
    return ShownScan(name, np.column_stack([cloud.xyz, cloud.intensity]))
