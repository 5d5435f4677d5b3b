"""A simulated sequence on disk, in exactly SemanticKITTI's layout, the truth beside it; every file appears whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from kd_seg.core.files import write_array, write_arrays, write_bytes
from kd_seg.core.geometry import Matrix, invert
from kd_seg.scans.truth import ObjectTruth, truth_folder
from kd_seg.streets.sensors.lidar import SimulatedScan
from kd_seg.streets.sensors.rig import PROJECTIONS, TR
from kd_seg.streets.sensors.settings import Lidar


def write_sequence(root: Path, name: str, poses: Matrix, times: npt.NDArray[np.float64], tr: Matrix = TR) -> None:
    """calib.txt, times.txt and poses.txt of a sequence; ``poses`` [S, 4, 4] are LiDAR to world, the file holds camera
    0; ``tr`` [4, 4] is LiDAR to camera 0.
    """
    folder = root / "sequences" / name
    rows = {f"P{k}": p for k, p in PROJECTIONS.items()} | {"Tr": tr[:3]}
    calib = "".join(f"{key}: {_numbers(row)}\n" for key, row in rows.items())
    first = invert(poses[0])
    camera = [tr @ first @ pose @ invert(tr) for pose in poses]
    write_bytes(folder / "calib.txt", calib.encode())
    write_bytes(folder / "times.txt", "".join(f"{t:.6e}\n" for t in times).encode())
    write_bytes(folder / "poses.txt", "".join(f"{_numbers(p[:3])}\n" for p in camera).encode())


def write_sensor(root: Path, name: str, sensor: Lidar) -> None:
    """The sensor of a sequence beside its truth, as a file that ``kd-seg simulate --sensor`` takes."""
    text = yaml.safe_dump(sensor.model_dump(mode="json", exclude_none=True), sort_keys=False, width=110)
    write_bytes(truth_folder(root, name) / "sensor.yaml", text.encode())


def write_scan(root: Path, name: str, index: int, scan: SimulatedScan) -> None:
    """velodyne and labels of one scan (labels first: a scan that is listed has its labels)."""
    folder = root / "sequences" / name
    write_bytes(folder / "labels" / f"{index:06d}.label", scan.words.astype("<u4").tobytes())
    write_bytes(folder / "velodyne" / f"{index:06d}.bin", scan.points.astype("<f4").tobytes())


def write_truth(root: Path, name: str, index: int, objects: list[ObjectTruth], seen: npt.NDArray[np.bool_]) -> None:
    """Objects and visibility of one scan (see truth.py)."""
    folder = truth_folder(root, name)
    arrays = {
        "word": np.array([o.word for o in objects], dtype=np.uint32),
        "kind": np.array([o.kind for o in objects], dtype="U16"),
        "pose": np.array([o.pose for o in objects]).reshape(-1, 4, 4),
        "velocity": np.array([o.velocity for o in objects]).reshape(-1, 3),
        "size": np.array([o.size for o in objects]).reshape(-1, 3),
        "points": np.array([o.points for o in objects], dtype=np.int32),
    }
    write_arrays(folder / "objects" / f"{index:06d}.npz", arrays)
    write_array(folder / "visible_2" / f"{index:06d}.npy", np.packbits(seen))


def write_picture(
    root: Path, name: str, index: int, rgb: npt.NDArray[np.uint8], classes: npt.NDArray[np.uint16]
) -> None:
    """The colour picture and its class image."""
    write_bytes(root / "sequences" / name / "image_2" / f"{index:06d}.png", _png(rgb))
    write_bytes(truth_folder(root, name) / "class_2" / f"{index:06d}.png", _png(classes))


def _png(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=2)
    return buffer.getvalue()


def _numbers(row: Matrix) -> str:
    return " ".join(f"{v:.12e}" for v in np.asarray(row).ravel())
