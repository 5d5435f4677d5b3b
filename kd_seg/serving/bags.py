"""A bag in, a labelled bag out, without ROS: constant memory, and a killed run continues where it stopped."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from kd_seg.core.config import digest
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.files import write_json
from kd_seg.scans.point_files import READERS
from kd_seg.serving.bag_io import (
    CLOUD,
    CLOUD_QOS,
    COMPRESSED,
    LABEL_INFO,
    LATCHED_QOS,
    PLUGINS,
    STRING,
    SUFFIXES,
    BagWriter,
    check_copies,
    cloud_connections,
    cloud_message,
    decoded,
    join,
    label_message,
    make_typestore,
    messages_of,
    open_bag,
    settle,
)
from kd_seg.serving.labeller import Labelled, Labeller, label_info_json, label_pairs
from kd_seg.serving.parameters import InputSettings
from kd_seg.serving.pointcloud2 import CloudRejectedError
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorWatch

OUTPUTS = ("segmentation", "visualization", "filtered")
SEGMENT = 200
"""Messages in one finished part of the work."""

PROGRESS = "progress.json"
PREFIX = "/segmentation"


@dataclass(frozen=True)
class BagOptions:
    """How a bag is labelled.

    Attributes:
        topic: PointCloud2 topic; None = the only one.
        storage: "mcap" or "sqlite3"; None = by the suffix of OUT, else mcap.
        outputs: which clouds to write, of ``OUTPUTS``; each once, however often it is named.
        copy_all: also copy every message of the input, byte for byte.
        settings: the node's parameters that decide what becomes of a cloud.
    """

    topic: str | None = None
    storage: str | None = None
    outputs: tuple[str, ...] = ("segmentation",)
    copy_all: bool = False
    settings: InputSettings = field(default_factory=InputSettings)

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name not in OUTPUTS:
                raise UsageError(f"There is no output {name!r}; known: {', '.join(OUTPUTS)}.")
        object.__setattr__(self, "outputs", tuple(dict.fromkeys(self.outputs)))
        if not self.outputs:
            raise UsageError(f"--outputs names nothing to write; known: {', '.join(OUTPUTS)}.")
        if self.storage is not None and self.storage not in PLUGINS:
            raise UsageError(f"There is no storage {self.storage!r}; known: {', '.join(PLUGINS)}.")


@dataclass
class Tally:
    """What has been done so far; kept in the progress file.

    Attributes:
        messages: input messages read, copied ones included. segments: finished parts.
        received = published + rejected; ``reasons`` says why clouds were rejected.
        milliseconds: count of clouds by bucket of processing time (1 % wide, so that memory stays constant).
    """

    messages: int = 0
    segments: int = 0
    received: int = 0
    published: int = 0
    all_invalid: int = 0
    empty: int = 0
    points: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    milliseconds: Counter[int] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def rejected(self) -> int:
        """Clouds that were not labelled."""
        return sum(self.reasons.values())

    def add_time(self, milliseconds: float) -> None:
        """Count one cloud's processing time."""
        self.milliseconds[round(math.log(max(milliseconds, 1e-3)) / math.log(1.01))] += 1

    def percentile(self, share: float) -> float | None:
        """Milliseconds below which ``share`` (0-1) of the clouds stayed, to 1 %; None without any."""
        total, seen = sum(self.milliseconds.values()), 0
        for bucket in sorted(self.milliseconds):
            seen += self.milliseconds[bucket]
            if seen >= share * total:
                return float(f"{1.01**bucket:.4g}")
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain data; bucket numbers become text, as JSON keys are."""
        return {**vars(self), "reasons": dict(self.reasons), "milliseconds": dict(self.milliseconds)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Tally:
        """Inverse of ``to_json``."""
        plain = dict(content)
        plain["reasons"] = Counter(content["reasons"])
        plain["milliseconds"] = Counter({int(bucket): count for bucket, count in content["milliseconds"].items()})
        return cls(**plain)


def summarise(tally: Tally, out: Path) -> dict[str, Any]:
    """The answer of ``kd-seg predict`` for a bag."""
    return {
        "scans": tally.published,
        "points": tally.points,
        "scans_per_second": round(tally.published / tally.seconds, 3) if tally.seconds > 0 else 0.0,
        "out": str(out),
        "received": tally.received,
        "published": tally.published,
        "rejected": tally.rejected,
        "dropped": 0,
        "all_invalid": tally.all_invalid,
        "empty": tally.empty,
        "reasons": dict(sorted(tally.reasons.items())),
        "ms": {name: tally.percentile(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
        "warnings": tally.warnings,
    }


def count_messages(source: Path, options: BagOptions) -> int:
    """How many messages ``label_bag`` will read, for a progress bar."""
    with open_bag(source) as reader:
        clouds = cloud_connections(reader, options.topic, source)
        return sum(c.msgcount for c in (reader.connections if options.copy_all else clouds))


def label_bag(
    source: Path,
    out: Path,
    segmenter: Segmenter,
    options: BagOptions = BagOptions(),
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Label the clouds of a bag into a new bag; returns the summary (received, published, rejected, reasons, ms ...).

    Work goes to ``OUT.part`` in finished segments of 200 messages; after a kill the same call continues behind the last
    one. OUT ending in .mcap or .db3 is one file, otherwise a bag folder.

    Args:
        advance: called with the number of messages done, the ones of an earlier run included.

    Raises UsageError where OUT is taken, or OUT.part belongs to other settings; DataError where the bag is unreadable.
    """
    plugin = PLUGINS[_storage(out, options)]
    part = out.with_name(out.name + ".part")
    if options.copy_all:
        with open_bag(source) as reader:
            check_copies(reader, source, f"{PREFIX}/")
    fingerprint = _fingerprint(source, out, segmenter, options)
    tally = _resume(part, out, fingerprint)
    store = make_typestore()
    if advance is not None:
        advance(tally.messages)
    if not tally.complete:
        _label_segments(
            source,
            part,
            plugin,
            Labeller(segmenter, options.settings.intensity_fields),
            options,
            tally,
            fingerprint,
            advance,
        )
        if tally.published == 0:
            shutil.rmtree(part)
            raise DataError(_why_nothing(source, tally))
        folder = part / "joined" / (out.stem if out.suffix in SUFFIXES else out.name)
        join([part / _segment(k) for k in range(tally.segments)], folder, plugin, store)
        tally.complete = True
        _save(part, tally, fingerprint)
    if not out.exists():
        settle(part / "joined" / (out.stem if out.suffix in SUFFIXES else out.name), out)
    shutil.rmtree(part)
    return summarise(tally, out)


def _why_nothing(source: Path, tally: Tally) -> str:
    if tally.received == 0:
        return f"{source} holds no message on its cloud topic; choose another with --topic."
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(tally.reasons.items()))
    compressed = source.is_file() and set(tally.reasons) == {"unreadable"}
    hint = f"; {COMPRESSED}" if compressed else ""
    return f"All {tally.received} clouds of {source} were rejected ({reasons}); nothing was written{hint}."


def _storage(out: Path, options: BagOptions) -> str:
    if out.name in {"", ".."}:
        raise UsageError(f"--out {out} is a folder that is there; name the bag to write, such as {out / 'labelled'}.")
    by_suffix = {".mcap": "mcap", ".db3": "sqlite3"}.get(out.suffix)
    if out.suffix.lower() in {".bag", ".label", ".txt", ".json", *READERS}:
        raise UsageError(f"--out {out.name}: a bag is written as a folder, an .mcap or a .db3 file; name one of these.")
    if out.suffix not in SUFFIXES and out.suffix.lower() in SUFFIXES:
        raise UsageError(f"--out {out.name}: a bag's suffix is written {out.suffix.lower()}.")
    if by_suffix is not None and options.storage not in (None, by_suffix):
        raise UsageError(f"{out.name} is a {by_suffix} file but --storage says {options.storage}; drop one of the two.")
    return by_suffix or options.storage or "mcap"


def _fingerprint(source: Path, out: Path, segmenter: Segmenter, options: BagOptions) -> str:
    """Digest of all that decides the output, so that a resumed run cannot mix two.

    OUT and OUT.part do not count, wherever they lie: also in the folder of the bag.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; give a .mcap, .db3 or .bag file or a bag folder.")
    inside = source.iterdir() if source.is_dir() else [source]
    files = sorted(p for p in inside if p.is_file() and p.absolute() != out.absolute())
    sizes = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    device = [str(segmenter.device), segmenter.precision]
    return digest([sizes, segmenter.sha256, device, json.loads(json.dumps(asdict(options)))])


def _resume(part: Path, out: Path, fingerprint: str) -> Tally:
    """The tally of an unfinished run, or a fresh one with an empty ``OUT.part``."""
    if not (part / PROGRESS).is_file():
        if out.exists():
            raise UsageError(f"{out} exists; choose another --out or delete it.")
        if part.exists() and (not part.is_dir() or any(not entry.name.startswith(".") for entry in part.iterdir())):
            raise UsageError(f"{part} is in the way and kd-seg did not write it; choose another --out or delete it.")
        part.mkdir(parents=True, exist_ok=True)
        return Tally()
    try:
        content = json.loads((part / PROGRESS).read_text())
        known, tally = content["fingerprint"], Tally.from_json(content["tally"])
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError):
        raise DataError(f"{part / PROGRESS} is broken; delete {part} and start again.") from None
    if known != fingerprint:
        raise UsageError(f"{part} was begun with another bag, checkpoint or settings; delete it to start again.")
    if out.exists() and not tally.complete:
        raise UsageError(f"{out} exists; choose another --out or delete it.")
    return tally


def _save(part: Path, tally: Tally, fingerprint: str) -> None:
    write_json(part / PROGRESS, {"fingerprint": fingerprint, "tally": tally.to_json()})


def _segment(number: int) -> str:
    return f"segment_{number:05d}"


def _label_segments(
    source: Path,
    part: Path,
    plugin: Any,
    labeller: Labeller,
    options: BagOptions,
    tally: Tally,
    fingerprint: str,
    advance: Callable[[int], None] | None,
) -> None:
    """Write segment after segment from where ``tally`` stands."""
    _save(part, tally, fingerprint)
    work = _Work(labeller, options, tally, SensorWatch(labeller.segmenter.sensor))
    with open_bag(source) as reader:
        messages = _messages(reader, source, options, skip=tally.messages)
        while first := next(messages, None):
            folder = part / _segment(tally.segments)
            shutil.rmtree(folder, ignore_errors=True)
            writer = BagWriter(folder, plugin, work.store)
            started = time.monotonic()
            done = work.take(writer, reader, *first)
            for _, message in zip(range(SEGMENT - 1), messages, strict=False):
                done += work.take(writer, reader, *message)
                if advance is not None:
                    advance(1)
            writer.close()
            ended = work.watch.conclude() if done < SEGMENT and tally.segments == 0 else []
            tally.warnings += [sentence for sentence in ended if sentence not in tally.warnings]
            tally.messages, tally.segments = tally.messages + done, tally.segments + 1
            tally.seconds += time.monotonic() - started
            _save(part, tally, fingerprint)
            if advance is not None:
                advance(1)


def _messages(
    reader: AnyReader, source: Path, options: BagOptions, skip: int
) -> Iterator[tuple[Connection, int, bytes, bool]]:
    """Messages to handle in the bag's order without the first ``skip``: connection, time, bytes, whether to label."""
    clouds = {c.id for c in cloud_connections(reader, options.topic, source)}
    wanted = reader.connections if options.copy_all else [c for c in reader.connections if c.id in clouds]
    for number, (connection, time_ns, raw) in enumerate(messages_of(reader, wanted, source)):
        if number >= skip:
            yield connection, time_ns, raw, connection.id in clouds


@dataclass
class _Work:
    """Labels messages into a writer and counts them."""

    labeller: Labeller
    options: BagOptions
    tally: Tally
    watch: SensorWatch

    def __post_init__(self) -> None:
        self.store = make_typestore()
        settings = self.options.settings
        self.removed = self.labeller.removed(settings.filter_classes, settings.remove_invalid)

    def take(
        self, writer: BagWriter, reader: AnyReader, connection: Connection, time_ns: int, raw: bytes, is_cloud: bool
    ) -> int:
        """Handle one input message; returns 1, the number of messages done."""
        if self.options.copy_all:
            writer.copy(connection, time_ns, raw, reader.typestore)
        if is_cloud:
            if self.tally.received == 0:
                self._announce(writer, time_ns)
            self.tally.received += 1
            try:
                self._label(writer, reader, connection, time_ns, raw)
            except CloudRejectedError as rejection:
                self.tally.reasons[rejection.reason] += 1
        return 1

    def _announce(self, writer: BagWriter, time_ns: int) -> None:
        segmenter = self.labeller.segmenter
        info = label_message(self.store, label_pairs(segmenter), time_ns)
        text = self.store.types[STRING](data=label_info_json(segmenter))
        writer.write(f"{PREFIX}/label_info", LABEL_INFO, LATCHED_QOS, time_ns, info)
        writer.write(f"{PREFIX}/label_info_json", STRING, LATCHED_QOS, time_ns, text)

    def _label(self, writer: BagWriter, reader: AnyReader, connection: Connection, time_ns: int, raw: bytes) -> None:
        message = decoded(reader, connection, raw)
        settings = self.options.settings
        stamp = message.header.stamp
        age_s = (time_ns - (int(stamp.sec) * 10**9 + int(stamp.nanosec))) * 1e-9
        started = time.perf_counter()
        labelled = self.labeller.label(message, settings.sensor, settings.limits, age_s)
        self.tally.add_time(1e3 * (time.perf_counter() - started))
        for name, packed in self._outputs(message, labelled):
            cloud = cloud_message(self.store, message.header, packed)
            writer.write(f"{PREFIX}/output/{name}", CLOUD, CLOUD_QOS, time_ns, cloud)
        self.tally.published += 1
        self.tally.points += len(labelled.points)
        self.tally.all_invalid += labelled.all_invalid
        self.tally.empty += len(labelled.points) == 0
        for sentence in self.watch.add(labelled.figures(), settings.sensor):
            if sentence not in self.tally.warnings and len(self.tally.warnings) < 20:
                self.tally.warnings.append(sentence)

    def _outputs(self, message: Any, labelled: Labelled) -> Iterator[tuple[str, Any]]:
        for name in self.options.outputs:
            if name == "segmentation":
                yield name, labelled.segmentation
            elif name == "visualization":
                yield name, self.labeller.visualization(labelled)
            else:
                yield name, self.labeller.filtered(message, labelled, self.removed)
