"""Points from files of other kinds: .bin, .npy, .pcd, .ply, each one registered reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kd_seg.core.errors import DataError
from kd_seg.scans.arrays import Points

READERS: dict[str, Callable[[Path], Points]] = {}
"""Reader by file suffix; each returns points [N, 4] float32, intensity as the file has it (0 where it has none)."""

BAG_SUFFIXES = (".mcap", ".db3", ".bag")
"""Files that hold many clouds, read by kd_seg.serving.bag_io."""


def is_bag(path: Path) -> bool:
    """Is this a bag file or a bag folder, judged by its name or its metadata.yaml?"""
    return path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file()


def reader(suffix: str) -> Callable[[Callable[[Path], Points]], Callable[[Path], Points]]:
    """Decorator that files a reader under a suffix such as ".bin"."""

    def file(function: Callable[[Path], Points]) -> Callable[[Path], Points]:
        READERS[suffix] = function
        return function

    return file


def read_points(path: str | Path) -> Points:
    """Points [N, 4] float32 of a file, by its suffix; DataError names the file and the known suffixes."""
    path = Path(path)
    function = READERS.get(path.suffix.lower())
    if function is None:
        raise DataError(f"{path} has no known point-file suffix; known: {', '.join(sorted(READERS))}.")
    if not path.is_file():
        raise DataError(f"{path} does not exist; check the path.")
    return function(path)


@reader(".bin")
def read_bin(path: Path) -> Points:
    """KITTI: float32 x, y, z, remission per point. A cut-off file raises DataError; an empty one gives no points."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the data set.") from None
    if len(content) % 16:
        raise DataError(f"{path} has {len(content)} bytes, no whole number of 16-byte points; it is cut off.")
    return np.frombuffer(content, dtype="<f4").reshape(-1, 4).astype(np.float32)


@reader(".npy")
def read_npy(path: Path) -> Points:
    """A saved array [N, 3] or wider: x, y, z and, if there, intensity."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable .npy array ({error}); save it with numpy.save.") from None
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {array.dtype} {list(array.shape)}; points are numbers of shape [N, 3] or wider.")
    return _with_intensity(array[:, :3], array[:, 3] if array.shape[1] > 3 else None)


@reader(".pcd")
@reader(".ply")
def read_open3d(path: Path) -> Points:
    """.pcd and .ply through Open3D; ``intensity`` (or i, reflectivity, remission, scalar_*) is kept where present."""
    from kd_seg.core.open3d import open3d

    cloud = open3d().t.io.read_point_cloud(str(path))
    if "positions" not in cloud.point or len(cloud.point.positions) == 0:
        raise DataError(f"{path} holds no points that Open3D can read; check that it is a valid {path.suffix} file.")
    names = ("intensity", "i", "reflectivity", "remission", "scalar_intensity", "scalar_Intensity")
    name = next((n for n in names if n in cloud.point), None)
    intensity = cloud.point[name].numpy().reshape(-1) if name is not None else None
    return _with_intensity(cloud.point.positions.numpy(), intensity)


def _with_intensity(xyz: np.ndarray, intensity: np.ndarray | None) -> Points:
    points = np.zeros((len(xyz), 4), dtype=np.float32)
    points[:, :3] = xyz
    if intensity is not None:
        points[:, 3] = intensity
    return points
