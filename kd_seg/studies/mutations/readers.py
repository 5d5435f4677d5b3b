"""Every reader under test: where its inputs begin, the words of its grammar, and one call that reads an input."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kd_seg.studies.mutations import seeds


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        share: of all inputs.
        seeds: valid inputs; the argument is a folder that may be written to.
        read: reads one input, given as bytes and as a path that holds nothing yet; KdSegError is a refusal.
        words: of its grammar.
        repair: makes a changed input plausible again, such as a length before a header.
    """

    name: str
    share: float
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], object]
    words: Sequence[bytes] = ()
    repair: Callable[[bytes], bytes] | None = None


def _written(read: Callable[[Path], object], suffix: str) -> Callable[[bytes, Path], object]:
    """A reader of files as one of bytes."""

    def through_file(content: bytes, path: Path) -> object:
        file = path.with_suffix(suffix)
        file.write_bytes(content)
        return read(file)

    return through_file


def _points(content: bytes, suffix: str) -> object:
    from kd_seg.scans.npy import parse_npy
    from kd_seg.scans.pcd import parse_pcd
    from kd_seg.scans.ply import parse_ply
    from kd_seg.scans.point_table import choose

    parse = {".npy": parse_npy, ".pcd": parse_pcd, ".ply": parse_ply}[suffix]
    return choose(parse(content, f"a{suffix}"), (), f"a{suffix}")


def _bin(path: Path) -> object:
    from kd_seg.scans.point_files import FileFormat, read_bin

    return read_bin(path, FileFormat(columns=(0, 0, 5, 3)[path.stat().st_size % 4]))


def _labels(path: Path) -> object:
    from kd_seg.classes import load_classes
    from kd_seg.scans import read_words

    return load_classes().to_train(read_words(path), str(path))


def _calibration(path: Path) -> object:
    from kd_seg.scans import read_calibration

    return read_calibration(path)


def _times(path: Path) -> object:
    from kd_seg.scans import read_times

    return read_times(path)


def _poses(path: Path) -> object:
    import numpy as np

    from kd_seg.scans import read_poses

    return read_poses(path, np.eye(4))


def _picture(path: Path) -> object:
    from kd_seg.scans.pictures import read_picture

    return read_picture(path)


def _class_map(path: Path) -> object:
    from kd_seg.scans.pictures import read_picture

    return read_picture(path, ("L", "P"))


def _config(path: Path) -> object:
    from kd_seg.training import read_training_config

    return read_training_config(path, [])


def _override(content: bytes, _: Path) -> object:
    from kd_seg.training import read_training_config

    return read_training_config("demo_baseline", content.decode("utf-8", "replace").split("\n"))


def _parameters(path: Path) -> object:
    from kd_seg.serving.parameters import cloud_settings, read_parameters

    return cloud_settings(read_parameters(path))


def _classes(path: Path) -> object:
    from kd_seg.classes import load_classes

    return load_classes.__wrapped__(str(path))


def _checkpoint(path: Path) -> object:
    from kd_seg.checkpoint import read_spec, read_tensors

    return read_spec(path), read_tensors(path)


def _bag(path: Path) -> object:
    from kd_seg.serving.bag_io import cloud_connections, decoded, messages_of, open_bag
    from kd_seg.serving.pointcloud2 import CloudDecoder, CloudRejectedError
    from kd_seg.views.contents import of_bag

    of_bag(path)
    with open_bag(path) as reader:
        for connection, _, raw in messages_of(reader, cloud_connections(reader, None, path), path):
            try:
                CloudDecoder().decode(decoded(reader, connection, raw))
            except CloudRejectedError:
                continue
    return None


def _bag_folder(content: bytes, path: Path) -> object:
    """A changed metadata.yaml beside a sound storage file."""
    folder = path.with_name("bag")
    if not folder.is_dir():
        folder.mkdir()
        (folder / "seed_db3.db3").write_bytes(seeds.bags(path.parent / "made", ".db3")[0])
    (folder / "metadata.yaml").write_bytes(content)
    return _bag(folder)


def _metadata(folder: Path) -> list[bytes]:
    seeds.bags(folder / "whole", ".db3")
    return [(folder / "whole" / "seed_db3" / "metadata.yaml").read_bytes()]


def cloud_of(content: bytes) -> Any:
    """A message from text lines ("height 1", "field x 0 7 1") and, behind a blank line, its data."""
    head, _, data = content.partition(b"\n\n")
    values: dict[str, int] = {}
    fields = []
    for line in head.decode("latin-1").split("\n"):
        name, *words = line.split(" ")
        numbers = [int(word) % (1 << 32) if word.isdecimal() and len(word) < 30 else 0 for word in words[-3:]]
        if name == "field" and len(words) == 4:
            fields.append(
                SimpleNamespace(name=words[0], offset=numbers[0], datatype=numbers[1] % 256, count=numbers[2])
            )
        elif numbers:
            values[name] = numbers[0]
    sizes = {name: values.get(name, 0) for name in ("height", "width", "point_step", "row_step")}
    header = SimpleNamespace(frame_id="lidar", stamp=SimpleNamespace(sec=1, nanosec=2))
    big = bool(values.get("is_bigendian", 0) % 2)
    return SimpleNamespace(header=header, fields=fields, is_bigendian=big, is_dense=True, data=data, **sizes)


def _cloud(content: bytes, _: Path) -> object:
    from kd_seg.serving.pointcloud2 import CloudDecoder

    return CloudDecoder().decode(cloud_of(content))


def _cache(content: bytes, path: Path) -> object:
    from kd_seg.caches import Cache, CacheKind, CachePlan, Header

    head, _, shard = content.partition(b"\n\n")
    folder = path.with_name("cache")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "header.json").write_bytes(head)
    # Another file each time, as an earlier one may be mapped still.
    (folder / "shards" / "00_000000.safetensors").unlink(missing_ok=True)
    (folder / "shards" / "00_000000.safetensors").write_bytes(shard)
    plan = CachePlan(folder, CacheKind("cache", 1, 50), Header("units", {}, {}, vocabulary=["car"]), [("00", 3)])
    cache = Cache(plan, "kd-seg prepare CONFIG")
    return cache.record(("00", 3), ["unit"]), cache.width("unit")


def _evaluation(path: Path) -> object:
    from kd_seg.evaluation.result import read_evaluation

    return read_evaluation(path).to_json()


def _run(content: bytes, path: Path) -> object:
    from kd_seg.training import RunFolder

    folder = path.with_name("run")
    folder.mkdir(exist_ok=True)
    (folder / "state.pt").write_bytes(content)
    return RunFolder(folder).read_state()


def _npy_length(content: bytes) -> bytes:
    """The length of a .npy header set to where its line ends."""
    end = content.find(b"\n", 10)
    if end < 0 or content[:6] != b"\x93NUMPY":
        return content
    return content[:8] + struct.pack("<H", (end + 1 - 10) % 65536) + content[10:]


def _safetensors_length(content: bytes) -> bytes:
    """The length of a .safetensors header set to where its JSON ends, as far as that can be told."""
    try:
        _, end = json.JSONDecoder().raw_decode(content[8:].decode("latin-1"))
    except ValueError:
        return content
    return struct.pack("<Q", end) + content[8:]


_PCD = (b"FIELDS SIZE TYPE COUNT WIDTH HEIGHT POINTS DATA VIEWPOINT VERSION ascii binary binary_compressed x y z _ "
        b"intensity F U I 1 2 4 8").split()  # fmt: skip
_PLY = (b"ply format ascii binary_little_endian binary_big_endian element vertex face property list char uchar short "
        b"ushort int uint float double int64 end_header comment x y z").split()  # fmt: skip
_YAML = [b": ", b"- ", b"[", b"]", b"{", b"}", b"&a", b"*a", b"!!python/object:os.system", b"!!binary", b"null",
         b"true",
         b"2001-99-99", b"|", b">", b"<<: ", b"? ", b"\t", b"'", b'"', b"#",
         b"%YAML 9.9\n---\n", b"base: "]  # fmt: skip
_JSON = [b"{", b"}", b"[", b"]", b'""', b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-1", b'"\\ud800"']

READERS: tuple[Reader, ...] = (
    Reader(".bin", 0.10, lambda _: seeds.bin_files(), _written(_bin, ".bin")),
    Reader(".npy", 0.10, lambda _: seeds.npy_files(), lambda c, _: _points(c, ".npy"), repair=_npy_length,
           words=[b"descr", b"fortran_order", b"shape", b"True", b"|O", b"<f8", b">i4", b"|V3", b"U9", b"(", b"{"]),
    Reader(".pcd", 0.16, lambda _: seeds.pcd_files(), lambda c, _: _points(c, ".pcd"), _PCD),
    Reader(".ply", 0.16, lambda _: seeds.ply_files(), lambda c, _: _points(c, ".ply"), _PLY),
    Reader(".label", 0.05, lambda _: seeds.label_files(), _written(_labels, ".label")),
    Reader("calib.txt", 0.05, lambda _: seeds.calibrations(), _written(_calibration, ".txt"), [b"Tr", b":"]),
    Reader("poses.txt", 0.05, lambda _: seeds.poses(), _written(_poses, ".txt"), [b" ", b"1 0 0 0"]),
    Reader("times.txt", 0.05, lambda _: seeds.times(), _written(_times, ".txt"), [b"\n"]),
    Reader("pictures", 0.03, lambda _: seeds.pictures(), _written(_picture, ".png"), [b"IHDR", b"PLTE"]),
    Reader("class-map pictures", 0.02, lambda _: seeds.pictures(), _written(_class_map, ".png"), [b"IHDR", b"IDAT"]),
    Reader("training configurations", 0.01, lambda _: seeds.shipped("*.yaml"), _written(_config, ".yaml"), _YAML),
    Reader("overrides", 0.02, lambda _: seeds.overrides(), _override, [*_YAML, b".", b"="]),
    Reader("node parameters", 0.01, lambda _: seeds.shipped("ros/*.yaml"), _written(_parameters, ".yaml"), _YAML),
    Reader("class tables", 0.01, lambda _: seeds.shipped("classes/*.yaml"), _written(_classes, ".yaml"), _YAML),
    Reader("checkpoints", 0.03, lambda _: seeds.checkpoints(), _written(_checkpoint, ".safetensors"), _JSON,
           _safetensors_length),
    Reader(".mcap", 0.02, lambda f: seeds.bags(f, ".mcap"), _written(_bag, ".mcap")),
    Reader(".db3", 0.02, lambda f: seeds.bags(f, ".db3"), _written(_bag, ".db3")),
    Reader(".bag", 0.01, seeds.ros1_bags, _written(_bag, ".bag")),
    Reader("bag folders", 0.01, _metadata, _bag_folder, _YAML),
    Reader("PointCloud2", 0.05, lambda _: seeds.clouds(), _cloud, [b"field", b"x", b"height", b"point_step"]),
    Reader("caches", 0.02, seeds.caches, _cache, _JSON),
    Reader("evaluations", 0.01, lambda _: seeds.evaluations(), _written(_evaluation, ".json"), _JSON),
    Reader("run states", 0.01, lambda _: seeds.states(), _run),
)  # fmt: skip
"""Every reader; the shares sum to 1."""
