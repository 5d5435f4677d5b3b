"""Bags on disk through the ``rosbags`` library: opening, PointCloud2 and label messages, writing, raw copies."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Literal, TypeVar

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from kd_seg.core.errors import DataError, KdSegError, UsageError
from kd_seg.core.failures import one_line
from kd_seg.core.files import put_in_place
from kd_seg.serving.pointcloud2 import CloudRejectedError, Packed, bytes_of

T = TypeVar("T")

CLOUD = "sensor_msgs/msg/PointCloud2"
STRING = "std_msgs/msg/String"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
VISION_CLASS = "vision_msgs/msg/VisionClass"

# Of vision_msgs, which rosbags' Humble store lacks.
_VISION_CLASS_TEXT = "uint16 class_id\nstring class_name\n"
_LABEL_INFO_TEXT = "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"

SUFFIXES = {".mcap": StoragePlugin.MCAP, ".db3": StoragePlugin.SQLITE3}
PLUGINS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

BAG_VERSION: Literal[8] = 8
"""Of metadata.yaml: the QoS text of version 9 cannot be read by Humble's rosbag2."""

_ENDLESS = QosTime(0, 0)


def _qos(durability: QosDurability) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        durability,
        _ENDLESS,
        _ENDLESS,
        QosLiveliness.AUTOMATIC,
        _ENDLESS,
        False,
    )


CLOUD_QOS = _qos(QosDurability.VOLATILE)
LATCHED_QOS = _qos(QosDurability.TRANSIENT_LOCAL)


def make_typestore() -> Typestore:
    """ROS 2 Humble's messages and the two of vision_msgs that label info needs."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = get_types_from_msg(_VISION_CLASS_TEXT, VISION_CLASS)
    types.update(get_types_from_msg(_LABEL_INFO_TEXT, LABEL_INFO))
    store.register(types)
    return store


@contextlib.contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """A reader of a bag folder, a bare .mcap or .db3, or a ROS 1 .bag; DataError names the file that is unreadable."""
    if not path.exists():
        raise DataError(f"{path} does not exist; give a .mcap, .db3 or .bag file or a bag folder.")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise DataError(
            f"{path} has no metadata.yaml, so it is no whole bag; run: ros2 bag reindex {quote(str(path))}, or name a "
            "file of it."
        )
    if path.is_file() and path.suffix != path.suffix.lower():
        raise DataError(f"{path}: a bag's suffix is written {path.suffix.lower()}; rename the file.")
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
        # Counts and times of a damaged metadata.yaml need not be numbers.
        _ = reader.message_count + 0, reader.start_time + reader.duration, sum(c.msgcount for c in reader.connections)
        if not all(isinstance(name, str) for c in reader.connections for name in (c.topic, c.msgtype)):
            raise ValueError("a topic or type is no text")
    except Exception as error:
        # A damaged file makes rosbags fail in many ways; all mean the same to the user.
        raise DataError(_unreadable(path, error)) from error
    try:
        yield reader
    finally:
        with contextlib.suppress(Exception):  # of a damaged file, whose first fault was told already
            reader.close()


def _unreadable(path: Path, error: Exception) -> str:
    """Why a bag cannot be opened, and the tool that helps."""
    reason = f"{path} is not a readable bag ({one_line(error)})"
    if path.is_dir():
        if any(path.glob("*.db3*")) or any(path.glob("*.mcap*")):
            return f"{reason}; its metadata.yaml does not fit its files, run: ros2 bag reindex {quote(str(path))}"
        return f"{reason}; it holds no .db3 or .mcap file."
    if path.suffix.lower() == ".mcap":
        return f"{reason}; if its recording was cut off, run: mcap recover {quote(str(path))} -o recovered.mcap"
    if path.suffix.lower() == ".bag":
        return f"{reason}; if its recording was cut off, run: rosbag reindex {quote(str(path))}"
    return f"{reason}; it may be cut off."


def cloud_connections(reader: AnyReader, topic: str | None, path: Path) -> list[Connection]:
    """The connections of the PointCloud2 topic asked for, or of the only one there is.

    Raises UsageError where the bag has no such topic, or several and none was asked for.
    """
    clouds = sorted({c.topic for c in reader.connections if c.msgtype == CLOUD})
    if topic is None:
        if len(clouds) != 1:
            if clouds:
                raise UsageError(
                    f"{path} has several PointCloud2 topics ({', '.join(clouds)}); choose one with --topic."
                )
            raise UsageError(f"{path} has no PointCloud2 topic{_others(reader)}.")
        topic = clouds[0]
    found = [c for c in reader.connections if c.topic == topic and c.msgtype == CLOUD]
    if not found:
        has = ", ".join(clouds) or "none"
        more = "" if clouds else _others(reader)
        raise UsageError(f"{path} has no PointCloud2 topic {topic}; its PointCloud2 topics: {has}{more}.")
    return found


COMPRESSED = "if its messages are compressed, name the bag's folder with its metadata.yaml, not the file alone"
"""What is wrong with a bag file that opens and whose messages are all unreadable."""

CONVERTERS = {
    "livox": "record again with the driver's xfer_format set to 0 (PointCloud2)",
    "velodyne": "play it through velodyne_pointcloud's transform node and record its cloud",
    "ouster": "play it through ouster_ros' os_cloud node and record its cloud",
    "rslidar": "play it through rslidar_sdk and record its cloud",
    "hesai": "play it through the Hesai driver and record its cloud",
    "nebula": "play it through nebula_ros and record its cloud",
    "LaserScan": "a plane of one laser is no cloud that can be segmented",
}
"""How clouds come out of other types, by a part of the type's or topic's name."""


def _others(reader: AnyReader) -> str:
    """The bag's topics with their types, and how to make clouds of them."""
    topics = sorted({(c.topic, c.msgtype) for c in reader.connections})
    if not topics:
        return "; it holds no topic at all"
    listed = ", ".join(f"{topic} ({kind})" for topic, kind in topics[:12]) + (" ..." if len(topics) > 12 else "")
    text = " ".join(f"{topic} {kind}" for topic, kind in topics)
    hint = next((hint for key, hint in CONVERTERS.items() if key.lower() in text.lower()), None)
    return f"; its topics: {listed}; {hint or 'convert the points to sensor_msgs/msg/PointCloud2 and record them'}"


def messages_of(
    reader: AnyReader, connections: Sequence[Connection], path: Path
) -> Iterator[tuple[Connection, int, bytes]]:
    """Messages of some connections in the bag's order; DataError where the bag cannot be read on."""
    messages = reader.messages(connections)
    while True:
        try:
            message = next(messages)
        except StopIteration:
            return
        except Exception as error:
            # A damaged file makes rosbags fail in many ways; all mean the same to the user.
            raise DataError(
                f"{path} cannot be read to its end ({one_line(error)}); recover it first (mcap recover)."
            ) from error
        yield message


def read_messages(
    reader: AnyReader, connections: Sequence[Connection], path: Path, take: Callable[[Any], T]
) -> Iterator[tuple[Connection, int, T]]:
    """What ``take`` makes of each message of some connections, in the bag's order; nothing without a connection.

    Raises DataError where the bag cannot be read on, or a message is not what its type should be.
    """
    if not connections:  # of which rosbags makes all of them
        return
    for connection, time_ns, raw in messages_of(reader, connections, path):
        try:
            taken = take(reader.deserialize(raw, connection.msgtype))
        except KdSegError:
            raise
        except Exception as error:
            # A damaged message makes rosbags fail in many ways; so does a definition of its own that lacks fields.
            raise DataError(
                f"{path}: a message of {connection.topic} is no readable {connection.msgtype} ({one_line(error)}); "
                "recover the bag first (mcap recover), or do without that topic."
            ) from error
        yield connection, time_ns, taken


def decoded(reader: AnyReader, connection: Connection, raw: bytes) -> Any:
    """A PointCloud2's object; CloudRejectedError ("unreadable") where its bytes are no such message."""
    try:
        message = reader.deserialize(raw, connection.msgtype)
        if not _is_cloud(message):
            raise ValueError("the bag's own definition of PointCloud2 lacks fields")
        return message
    except Exception as error:
        # A damaged message makes rosbags fail in many ways; each is this message's fault alone.
        raise CloudRejectedError("unreadable", f"message cannot be deserialised: {one_line(error)}") from error


def _is_cloud(message: Any) -> bool:
    """Whether a message has what a PointCloud2 has: a bag brings its own definition of the type, right or wrong."""
    stamp = message.header.stamp
    numbers = (message.height, message.width, message.point_step, message.row_step, stamp.sec, stamp.nanosec)
    numbers += tuple(number for field in message.fields for number in (field.offset, field.datatype, field.count))
    names = (message.header.frame_id, *(field.name for field in message.fields))
    return (
        all(isinstance(number, int) for number in numbers)
        and all(isinstance(name, str) for name in names)
        and memoryview(message.data).itemsize == 1
    )


def cloud_message(store: Typestore, header: Any, packed: Packed) -> Any:
    """A PointCloud2 of the store with the header copied field by field."""
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=int(header.stamp.sec), nanosec=int(header.stamp.nanosec))
    fields = [
        types["sensor_msgs/msg/PointField"](name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
        for f in packed.fields
    ]
    return types[CLOUD](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=str(header.frame_id)),
        height=packed.height,
        width=packed.width,
        fields=fields,
        is_bigendian=packed.is_bigendian,
        point_step=packed.point_step,
        row_step=packed.row_step,
        data=bytes_of(packed),
        is_dense=packed.is_dense,
    )


def label_message(store: Typestore, pairs: Sequence[tuple[int, str]], time_ns: int) -> Any:
    """A vision_msgs/LabelInfo with every class id and name."""
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return types[LABEL_INFO](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id=""),
        class_map=[types[VISION_CLASS](class_id=number, class_name=name) for number, name in pairs],
        threshold=0.0,
    )


class BagWriter:
    """One bag folder being written; connections are made when first needed.

    Args:
        folder: must not exist; its parent must.
    """

    def __init__(self, folder: Path, plugin: StoragePlugin, store: Typestore) -> None:
        self._writer = Writer(folder, version=BAG_VERSION, storage_plugin=plugin)
        self._writer.open()
        self._store = store
        self._connections: dict[tuple[str, str], Connection] = {}

    def write(self, topic: str, kind: str, qos: Qos, time_ns: int, message: Any) -> None:
        """Serialise and write a message of the store's types."""
        connection = self._connections.get((topic, kind))
        if connection is None:
            connection = self._writer.add_connection(topic, kind, typestore=self._store, offered_qos_profiles=[qos])
            self._connections[topic, kind] = connection
        self._writer.write(connection, time_ns, self._store.serialize_cdr(message, kind))

    def copy(self, source: Connection, time_ns: int, raw: bytes | memoryview, types: Typestore | None = None) -> None:
        """Write a message of another ROS 2 bag byte for byte, under the same topic, type and QoS.

        Args:
            types: those of the other bag, for one that defines its types without their hashes, as Humble's .mcap do.

        Raises UsageError for a message of a ROS 1 bag.
        """
        connection = self._connections.get((source.topic, source.msgtype))
        if connection is None:
            extra = source.ext
            if not isinstance(extra, ConnectionExtRosbag2):
                raise UsageError(f"{source.topic} is of a ROS 1 bag, whose messages cannot be copied; drop --copy-all.")
            definition, digest = source.msgdef.data or None, source.digest or None
            if definition is not None and digest is None and types is not None:
                digest = types.hash_rihs01(source.msgtype)
            connection = self._writer.add_connection(
                source.topic,
                source.msgtype,
                msgdef=definition,
                rihs01=digest,
                typestore=self._store,
                serialization_format=extra.serialization_format,
                offered_qos_profiles=extra.offered_qos_profiles,
            )
            self._connections[source.topic, source.msgtype] = connection
        self._writer.write(connection, time_ns, raw)

    def close(self) -> None:
        """Finish the bag: index and metadata."""
        self._writer.close()


def check_copies(reader: AnyReader, path: Path, prefix: str) -> None:
    """UsageError where messages of a bag cannot stand beside topics that begin with ``prefix``."""
    taken = [c.topic for c in reader.connections if c.topic.startswith(prefix)]
    if taken:
        raise UsageError(f"{path} already has {taken[0]}; label it without --copy-all.")
    if not reader.is2:
        raise UsageError(f"{path} is a ROS 1 bag, whose messages cannot be copied; drop --copy-all.")
    known = make_typestore().fielddefs
    lost = [c for c in reader.connections if not c.msgdef.data and c.msgtype not in known]
    if lost:
        raise UsageError(
            f"{path} does not define {lost[0].msgtype} of {lost[0].topic} (.db3 bags of Humble hold no definitions), "
            "so its messages cannot be copied; drop --copy-all."
        )


def raw_messages(folders: Iterable[Path]) -> Iterator[tuple[Connection, int, bytes | memoryview]]:
    """All messages of several bag folders, one folder after the other."""
    for folder in folders:
        with Reader(folder) as reader:
            yield from reader.messages()


def join(folders: Sequence[Path], target: Path, plugin: StoragePlugin, store: Typestore) -> None:
    """Copy the messages of bag folders, in order, into one bag folder ``target`` (replaced if it is there)."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = BagWriter(target, plugin, store)
    for connection, time_ns, raw in raw_messages(folders):
        writer.copy(connection, time_ns, raw)
    writer.close()


def settle(folder: Path, target: Path) -> None:
    """Move a finished bag folder to ``target``, or its one storage file where ``target`` has a bag file's suffix.

    Raises DataError where the folder holds no storage file or several.
    """
    if target.suffix not in SUFFIXES:
        put_in_place(folder, target)
        return
    files = sorted(folder.glob(f"*{target.suffix}"))
    if len(files) != 1:
        raise DataError(f"{folder} holds {len(files)} {target.suffix} files, not one; delete it and retry.")
    put_in_place(files[0], target)
