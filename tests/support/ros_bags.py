"""Bags of clouds for tests, written with the package's own writer."""

from __future__ import annotations

from pathlib import Path

from ros_clouds import FakeCloud

from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, PLUGINS, STRING, BagWriter, cloud_message, make_typestore
from kd_seg.serving.pointcloud2 import Field, Packed, to_array

START = 1_700_000_000_000_000_000
"""Nanoseconds of a bag's first message."""


def packed(cloud: FakeCloud) -> Packed:
    fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
    data = to_array(bytes(cloud.data))
    shape = (cloud.height, cloud.width)
    return Packed(*shape, fields, cloud.is_bigendian, cloud.point_step, cloud.row_step, data, cloud.is_dense)


def write_bag(folder: Path, clouds: list[FakeCloud], storage: str = "mcap", others: int = 0) -> Path:
    """A bag folder with clouds at 10 Hz on /points and ``others`` strings on /chatter; returns the storage file."""
    store = make_typestore()
    writer = BagWriter(folder, PLUGINS[storage], store)
    for number, cloud in enumerate(clouds):
        stamp = START + number * 10**8
        writer.write("/points", CLOUD, CLOUD_QOS, stamp, cloud_message(store, cloud.header, packed(cloud)))
        if number < others:
            writer.write("/chatter", STRING, CLOUD_QOS, stamp + 5, store.types[STRING](data=f"word {number}"))
    writer.close()
    return next(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3"))
