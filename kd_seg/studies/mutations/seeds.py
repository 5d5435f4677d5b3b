"""Small valid files of every kind that kd_seg reads, as the beginnings of mutated ones."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.serving.segmenter import made_up_cloud

_XYZI = ("x", "y", "z", "intensity")


def points(count: int = 40) -> npt.NDArray[np.float32]:
    """Points [count, 4] float32."""
    return made_up_cloud(count, 0)


def bin_files() -> list[bytes]:
    """KITTI's layout, five columns, float64."""
    cloud = points(60)
    five = np.column_stack([cloud, np.arange(len(cloud)) % 32]).astype("<f4")
    return [cloud.tobytes(), five.tobytes(), cloud.astype("<f8").tobytes(), cloud[:3].tobytes()]


def npy_files() -> list[bytes]:
    """Plain, Fortran-ordered, wide and structured arrays."""
    rows = np.zeros(20, [("x", "<f8"), ("y", "<f4"), ("z", "<f4"), ("reflectivity", "<u2")])
    arrays = [points(20), np.asfortranarray(points(20).astype(">f8")), points(20)[:, :3].astype("<f2"), rows]
    return [_saved(array) for array in arrays]


def _saved(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pcd_files() -> list[bytes]:
    """All three kinds of data, with padding, counts and mixed types."""
    cloud = points(24)
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z _ intensity ring normal _\n"
        "SIZE 4 4 4 1 4 2 4 1\nTYPE F F F U F U F U\nCOUNT 1 1 1 4 1 1 3 6\nWIDTH {0}\nHEIGHT 1\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {0}\nDATA {1}\n"
    )
    rows = np.zeros(
        len(cloud), [("xyz", "<f4", 3), ("a", "u1", 4), ("i", "<f4"), ("r", "<u2"), ("n", "<f4", 3), ("b", "u1", 6)]
    )
    rows["xyz"], rows["i"] = cloud[:, :3], cloud[:, 3]
    plain = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in ("xyz", "i", "r", "n"))
    packed = b"".join(bytes([len(run) - 1]) + run for run in (plain[k : k + 32] for k in range(0, len(plain), 32)))
    text = "".join(f"{x:.5g} {y:.5g} {z:.5g} 0 0 0 0 {i:.4g} 3 0 0 1 0 0 0 0 0 0\n" for x, y, z, i in cloud)
    grid = head.format(len(cloud), "binary").replace(f"WIDTH {len(cloud)}\nHEIGHT 1", "WIDTH 6\nHEIGHT 4")
    return [
        head.format(len(cloud), "ascii").encode() + text.encode(),
        grid.encode() + rows.tobytes(),
        head.format(len(cloud), "binary_compressed").encode() + struct.pack("<II", len(packed), len(plain)) + packed,
    ]


def ply_files() -> list[bytes]:
    """Text and both byte orders, with lists before, among and behind the vertices."""
    cloud = points(12)
    head = (
        "ply\nformat {0} 1.0\ncomment made\nelement face 2\nproperty list uchar int vertex_indices\n"
        "element vertex {1}\nproperty double x\nproperty float y\nproperty float z\nproperty list ushort short near\n"
        "property uchar red\nproperty float scalar_Intensity\nend_header\n"
    )
    files = []
    for form, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        body = b"\x02" + struct.pack(order + "2i", 0, 1) + b"\x00"
        for x, y, z, i in cloud.tolist():
            body += struct.pack(order + "dffHhBf", x, y, z, 1, 5, 200, i)
        files.append(head.format(form, len(cloud)).encode() + body)
    text = "2 0 1\n0\n" + "".join(f"{x:.5g} {y:.5g} {z:.5g} 1 5 200 {i:.4g}\n" for x, y, z, i in cloud)
    files.append(head.format("ascii", len(cloud)).encode() + text.encode())
    flat = "".join(f"property float {name}\n" for name in _XYZI)
    files.append(
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(cloud)}\n{flat}end_header\n".encode()
        + cloud.tobytes()
    )
    return files


def label_files() -> list[bytes]:
    """Words of known classes with instances."""
    return [np.array([40, 50, 70, 10 | 3 << 16, 0, 252 | 7 << 16], "<u4").tobytes()]


_ROW = "1 0 0 0.1 0 1 0 0.2 0 0 1 0.3"


def calibrations() -> list[bytes]:
    """calib.txt of KITTI's odometry set."""
    return ["".join(f"{name}: {_ROW}\n" for name in ("P0", "P1", "P2", "P3", "Tr")).encode()]


def poses() -> list[bytes]:
    """poses.txt of three scans."""
    return [f"{_ROW}\n{_ROW}\n{_ROW}\n".encode()]


def times() -> list[bytes]:
    """times.txt of three scans."""
    return [b"0.000000e+00\n1.037199e-01\n2.074398e-01\n"]


def pictures() -> list[bytes]:
    """RGB as PNG and JPEG, grey, with a palette."""
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    made = []
    for picture, form in (
        (Image.fromarray(colours), "PNG"),
        (Image.fromarray(colours), "JPEG"),
        (Image.fromarray(colours[:, :, 0] % 19), "PNG"),
        (Image.fromarray(colours).quantize(8), "PNG"),
    ):
        stream = io.BytesIO()
        picture.save(stream, form)
        made.append(stream.getvalue())
    return made


def shipped(pattern: str) -> list[bytes]:
    """Shipped configuration files below configs/."""
    from kd_seg.core.config import config_folders

    return [path.read_bytes() for folder in config_folders() for path in sorted(folder.glob(pattern))]


def overrides() -> list[bytes]:
    """Changes of a configuration as they are typed."""
    lines = [
        "optim.lr=1e-3", "data.valid=[04, 08]", "run.batch=2", "grid.voxel_size=[0.1, 0.1, 0.2]", "data.root=DATA",
        "objectives.0.lovasz=0.5", "objectives=[{kind: supervised}]", "augment.mix={kind: laser}",
        "run.steps=5",
    ]  # fmt: skip
    return [line.encode() for line in lines]


def checkpoints() -> list[bytes]:
    """The shipped student's metadata with two of its tensors."""
    from safetensors import safe_open
    from safetensors.numpy import save

    from kd_seg.checkpoint import shipped as student

    with safe_open(student(), framework="numpy") as file:
        metadata = file.metadata()
        small = sorted(file.keys(), key=lambda name: file.get_slice(name).get_shape())[:2]
        tensors = {name: file.get_tensor(name) for name in small}
    return [save(tensors, metadata)]


def clouds() -> list[bytes]:
    """PointCloud2 messages in the text form that ``readers.cloud_of`` takes: attributes, a blank line, data."""
    made = []
    for order, step, height in ((0, 16, 1), (1, 16, 4), (0, 22, 1)):
        cloud = points(16)
        rows = np.zeros((len(cloud), step), np.uint8)
        rows[:, :16] = cloud.astype(">f4" if order else "<f4").view(np.uint8)
        width = len(cloud) // height
        head = f"height {height}\nwidth {width}\npoint_step {step}\nrow_step {width * step}\nis_bigendian {order}\n"
        head += "".join(f"field {name} {4 * k} 7 1\n" for k, name in enumerate(_XYZI)) + "field ring 16 4 1\n" * (
            step > 16
        )
        made.append(head.encode() + b"\n" + rows.tobytes())
    return made


def bags(folder: Path, suffix: str) -> list[bytes]:
    """A ROS 2 bag of two clouds as one file: .mcap or .db3."""
    from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, SUFFIXES, BagWriter, make_typestore

    store = make_typestore()
    target = folder / f"seed_{suffix[1:]}"
    writer = BagWriter(target, SUFFIXES[suffix], store)
    for number in range(2):
        writer.write("/points", CLOUD, CLOUD_QOS, number * 10**9, _message(store, {}))
    writer.close()
    return [next(target.glob(f"*{suffix}")).read_bytes()]


def ros1_bags(folder: Path) -> list[bytes]:
    """A ROS 1 bag of two clouds."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    from kd_seg.serving.bag_io import CLOUD

    store = get_typestore(Stores.ROS1_NOETIC)
    path = folder / "seed.bag"
    path.unlink(missing_ok=True)
    with Writer(path) as writer:
        connection = writer.add_connection("/points", CLOUD, typestore=store)
        for number in range(2):
            writer.write(connection, number * 10**9, bytes(store.serialize_ros1(_message(store, {"seq": 0}), CLOUD)))
    return [path.read_bytes()]


def _message(store: Any, extra: dict[str, int]) -> Any:
    """A PointXYZI cloud of eight points."""
    types, cloud = store.types, points(8)
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    field = types["sensor_msgs/msg/PointField"]
    return types["sensor_msgs/msg/PointCloud2"](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="lidar", **extra),
        height=1,
        width=len(cloud),
        fields=[field(name=name, offset=4 * k, datatype=7, count=1) for k, name in enumerate(_XYZI)],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(cloud),
        data=cloud.reshape(-1).view(np.uint8),
        is_dense=True,
    )


def caches(folder: Path) -> list[bytes]:
    """A shard of a cache, with the cache's header before it."""
    from kd_seg.caches import Header
    from kd_seg.caches.shards import write_shard

    records = [{"unit": np.arange(2, dtype=np.int32)}, {"unit": np.arange(3, dtype=np.int32)}]
    write_shard(folder / "shard", [("00", 0), ("00", 3)], records)
    header = json.dumps(asdict(Header("units", {}, {}, vocabulary=["car"])))
    return [header.encode() + b"\n\n" + (folder / "shard").read_bytes()]


def evaluations() -> list[bytes]:
    """An evaluation.json of a few points."""
    from kd_seg.classes import load_classes
    from kd_seg.evaluation.result import Evaluation

    classes = load_classes()
    confusion = np.eye(len(classes) + 1, dtype=np.int64) * 7
    return [json.dumps(Evaluation(classes, 1, int(confusion.sum()), confusion).to_json()).encode()]


def states() -> list[bytes]:
    """A state.pt of a run."""
    import torch

    stream = io.BytesIO()
    torch.save({"step": 3, "model": {"weight": torch.zeros(2, 2)}, "rng": torch.arange(4)}, stream)
    return [stream.getvalue()]
