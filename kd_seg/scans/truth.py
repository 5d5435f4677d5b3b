"""What the simulator knows beside the scans: objects and their motion, what a camera sees, class images.

Files, beside ``sequences/``:

- ``truth/sequences/NN/objects/XXXXXX.npz``: every object within 90 m of the sensor, standing cars too. Arrays
  ``word`` uint32 [K] (label word), ``kind`` unicode [K], ``pose`` float64 [K, 4, 4] (object to LiDAR frame of this
  scan; x forward, origin on the ground below the middle), ``velocity`` float64 [K, 3] (m/s over ground, in the LiDAR
  frame of this scan), ``size`` float64 [K, 3] (metres), ``points`` int32 [K] (points in this scan with the word).
- ``truth/sequences/NN/visible_2/XXXXXX.npy``: uint8, ``numpy.packbits`` of one bit per point of the scan: the left
  colour camera really sees it.
- ``truth/sequences/NN/class_2/XXXXXX.png``: uint16 of the picture's size, raw class id at the pixel's centre,
  65535 = sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix


@dataclass(frozen=True)
class ObjectTruth:
    """One object in one scan.

    Attributes:
        word: label word (raw class | instance << 16), the same in every scan of the sequence.
        kind: what it is, such as "car".
        pose: object to LiDAR frame of the scan [4, 4].
        velocity: metres per second over ground, in the LiDAR frame of the scan [3]; 0 for what stands.
        size: extent [3] in metres along its own axes.
        points: how many points of the scan carry its word.
    """

    word: int
    kind: str
    pose: Matrix
    velocity: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    points: int


def truth_folder(root: str | Path, sequence: str) -> Path:
    """Folder of a sequence's truth under a data root."""
    return Path(root) / "truth" / "sequences" / sequence


def read_visibility(root: str | Path, sequence: str, index: int, camera: str = "image_2") -> npt.NDArray[np.bool_]:
    """Which points of a scan [N] the camera really sees; DataError if the file is missing or does not fit the scan."""
    path = truth_folder(root, sequence) / f"visible_{camera[-1]}" / f"{index:06d}.npy"
    scan = Path(root) / "sequences" / sequence / "velodyne" / f"{index:06d}.bin"
    try:
        bits = np.load(path, allow_pickle=False)
        count = scan.stat().st_size // 16
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not readable ({error}); write the data again with kd-seg simulate.") from None
    if bits.dtype != np.uint8 or len(bits) != (count + 7) // 8:
        raise DataError(
            f"{path} does not fit {scan.name} with {count} points; write the data again with kd-seg simulate."
        )
    return np.unpackbits(bits, count=count).astype(bool)


def read_objects(root: str | Path, sequence: str, index: int) -> list[ObjectTruth]:
    """Objects about the sensor at a scan; DataError if the file is missing or broken."""
    path = truth_folder(root, sequence) / "objects" / f"{index:06d}.npz"
    try:
        with np.load(path, allow_pickle=False) as content:
            names = ("word", "kind", "pose", "velocity", "size", "points")
            word, kind, pose, velocity, size, points = (content[name] for name in names)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} is not readable ({error}); write the data again with kd-seg simulate.") from None
    rows = zip(word, kind, pose, velocity, size, points, strict=True)
    return [ObjectTruth(int(w), str(k), p, v, s, int(n)) for w, k, p, v, s, n in rows]


def read_class_image(root: str | Path, sequence: str, index: int, camera: str = "image_2") -> npt.NDArray[np.uint16]:
    """Raw class id of every pixel [H, W], 65535 = sky; DataError if the file is missing or broken."""
    from PIL import Image

    path = truth_folder(root, sequence) / f"class_{camera[-1]}" / f"{index:06d}.png"
    try:
        with Image.open(path) as image:
            return np.asarray(image).astype(np.uint16)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path} is not readable ({error}); write the data again with kd-seg simulate --images."
        ) from None
