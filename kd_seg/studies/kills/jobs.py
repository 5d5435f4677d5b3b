"""The commands that are killed, each small, with what has to come out equal."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEQUENCES, SCANS = 2, 2
_XYZI = ("x", "y", "z", "intensity")


@dataclass(frozen=True)
class KillJob:
    """One command.

    Attributes:
        share: of the kills.
        arguments: of kd-seg, for a folder to write to and one of inputs; called before each start, so that it may
            choose to resume.
        result: digest of what must be equal.
    """

    name: str
    share: float
    arguments: Callable[[Path, Path], list[str]]
    result: Callable[[Path], str]


def make_inputs(folder: Path, run: Callable[[list[str]], None]) -> None:
    """A simulated data root, a bag of its scans, and the files of a sweep."""
    if (folder / "ready").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run(["simulate", str(folder / "data"), *_SIMULATE])
    _write_bag(folder / "data", folder / "drive.mcap")
    sweep = (
        "name: killed\npurpose: Two short runs.\nbase: demo_baseline\nseeds: [0]\nbaseline: one\n"
        f"set: {{data.root: {folder / 'data'}, data.train: ['00'], data.valid: ['01'], grid.voxel_size: 0.8, "
        "run.minutes: null, run.steps: 6, run.workers: 0, run.batch: 1, run.save_every: 2}\n"
        "eval: [{name: plain}]\nrows:\n  - {name: one}\n  - {name: two, set: {optim.lr: 1.0e-3}}\n"
    )
    (folder / "killed.yaml").write_text(sweep)
    (folder / "ready").touch()


_SIMULATE = ["--sequences", str(SEQUENCES), "--scans", str(SCANS), "--workers", "1", "--seed", "3"]
_TRAIN = [
    'data.train=["00"]', "data.valid=[]", "grid.voxel_size=0.8", "run.minutes=null", "run.steps=8", "run.workers=0",
    "run.batch=1", "run.save_every=2",
]  # fmt: skip


def _write_bag(data: Path, target: Path) -> None:
    from kd_seg.scans import SemanticKitti
    from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, SUFFIXES, BagWriter, make_typestore

    store = make_typestore()
    types = store.types
    writer = BagWriter(target.parent / "bag", SUFFIXES[".mcap"], store)
    scans = SemanticKitti(data)
    for number in range(210):  # more than one finished segment
        points = scans[number % len(scans)].points[number % 7 :: 200]
        points = np.ascontiguousarray(points * np.array([1, 1, 1, 255], np.float32))
        stamp = types["builtin_interfaces/msg/Time"](sec=1700000000 + number, nanosec=0)
        field = types["sensor_msgs/msg/PointField"]
        message = types[CLOUD](
            header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="lidar"),
            height=1,
            width=len(points),
            fields=[
                field(name=n, offset=4 * k, datatype=7, count=1) for k, n in enumerate(("x", "y", "z", "intensity"))
            ],
            is_bigendian=False,
            point_step=16,
            row_step=16 * len(points),
            data=points.reshape(-1).view(np.uint8),
            is_dense=True,
        )
        writer.write("/points", CLOUD, CLOUD_QOS, (1700000000 + number) * 10**9, message)
    writer.close()
    next((target.parent / "bag").glob("*.mcap")).replace(target)


def _files(*patterns: str) -> Callable[[Path], str]:
    """Digest of names and bytes of the files that match."""

    def digest(folder: Path) -> str:
        found = hashlib.sha256()
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
            found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        return found.hexdigest()

    return digest


def _weights(*patterns: str) -> Callable[[Path], str]:
    """Digest of the tensors of checkpoints; their metadata tell how long the training took."""

    def digest(folder: Path) -> str:
        from kd_seg.checkpoint import read_tensors

        found = hashlib.sha256()
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            for name, tensor in sorted(read_tensors(path).items()):
                found.update(f"{path.relative_to(folder)} {name}".encode() + tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    return digest


def _messages(name: str) -> Callable[[Path], str]:
    """Digest of topics, times and bytes of a bag's messages."""

    def digest(folder: Path) -> str:
        from kd_seg.serving.bag_io import messages_of, open_bag

        found = hashlib.sha256()
        with open_bag(folder / name) as reader:
            for connection, time_ns, raw in messages_of(reader, reader.connections, folder / name):
                found.update(f"{connection.topic} {time_ns}".encode() + bytes(raw))
        return found.hexdigest()

    return digest


def _train(folder: Path, inputs: Path) -> list[str]:
    run = folder / "run"
    if (run / "state.pt").is_file():
        return ["train", "--resume", str(run)]
    return ["train", "demo_baseline", f"run.folder={run}", f"data.root={inputs / 'data'}", *_TRAIN, "--overwrite"]


def _prepare(folder: Path, inputs: Path) -> list[str]:
    root, cache = f"data.root={inputs / 'data'}", f"data.cache={folder / 'cache'}"
    return ["prepare", "demo_m2s", root, cache, 'data.train=["00", "01"]', "data.valid=[]"]


JOBS: tuple[KillJob, ...] = (
    KillJob("simulate", 0.1, lambda out, _: ["simulate", str(out / "data"), *_SIMULATE], _files("data/**/*")),
    KillJob("prepare", 0.15, _prepare, _files("cache/**/*")),
    KillJob("train", 0.25, _train, _weights("run/checkpoints/last.safetensors")),
    KillJob(
        "predict a data root", 0.25,
        lambda out, inputs: ["predict", str(inputs / "data"), "--out", str(out / "labels"), "--threads", "1"],
        _files("labels/**/*.label"),
    ),
    KillJob(
        "predict a bag", 0.2,
        lambda out, inputs: ["predict", str(inputs / "drive.mcap"), "--out", str(out / "out.mcap"), "--threads", "1"],
        _messages("out.mcap"),
    ),
    KillJob(
        "sweep", 0.05,
        lambda out, inputs: ["sweep", str(inputs / "killed.yaml")],
        _weights("runs/**/last.safetensors"),
    ),
)  # fmt: skip
"""The commands; the shares sum to 1."""
