"""Segmenter: a checkpoint in, points in, a class for every point out. The one inference path."""

from __future__ import annotations

import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.checkpoint import load_checkpoint, resolve, sha256, shipped
from kd_seg.classes import INVALID
from kd_seg.core.device import choose_device
from kd_seg.core.errors import CheckpointError, DataError, MissingDependencyError, UsageError
from kd_seg.core.kernels import kernel
from kd_seg.networks import Batch, collate, encode
from kd_seg.scans import Points
from kd_seg.scans.intensity import fitting_range
from kd_seg.scans.point_table import PointTable, choose
from kd_seg.serving.postprocess import PointPredictions, point_predictions
from kd_seg.sparse.fused import reusing_buffers

Float32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int32]

LARGEST_COORDINATE = 1e4
"""Metres; a point farther out on any axis is invalid, whatever the grid."""

BLOCK = 1024
"""Values looked at before asking whether one was unusable."""


@dataclass(frozen=True)
class Prediction:
    """A class for every point of one cloud.

    Attributes:
        class_id: [N] uint8 logit column, 255 = invalid.
        probability: [N] float32, largest softmax value; 0 where invalid.
        entropy: [N] float32, softmax entropy / ln C; 1 where invalid.
        timings: as ``Segmenter.predict_voxels`` gives them.
    """

    class_id: npt.NDArray[np.uint8]
    probability: Float32
    entropy: Float32
    timings: dict[str, float]


class Segmenter:
    """A loaded student on a device.

    Args:
        checkpoint: file, run folder or name of a shipped network (taught, general, hdl64e); None = taught.
        device: "auto" (CUDA where it works, else CPU), "cpu", "cuda" or "cuda:N", or a torch.device of these.
        precision: "auto" (float16 on CUDA, float32 on the CPU), "fp32" or "fp16" (CUDA only).
        num_threads: of torch on the CPU; 0 = the library's default.

    Raises CheckpointError or MissingDependencyError with the reason.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        num_threads: int = 0,
    ) -> None:
        self.checkpoint_path = resolve(checkpoint) if checkpoint else shipped()
        loaded = load_checkpoint(self.checkpoint_path)
        self.spec = loaded.spec
        self.classes = loaded.spec.classes
        self.sensor = loaded.spec.sensor
        self.sha256 = sha256(self.checkpoint_path)
        self.metadata: dict[str, Any] = loaded.spec.to_json()
        self.device = choose_device(str(device))
        self.precision = _precision(precision, self.device)
        if num_threads:
            torch.set_num_threads(num_threads)
        self.network = loaded.network.to(self.device)
        self._told: set[str] = set()

    def segment(self, points: Any) -> Prediction:
        """Classes of points [N, 4] (x, y, z in metres in the LiDAR frame, intensity 0-1).

        A point with a coordinate that is not finite, beyond 1e4 m or outside the grid is invalid; an intensity that is
        not finite counts as 0. Any N, also 0; ``as_points`` tells which arrays are taken.

        Raises:
            UsageError: no array of that shape. DataError: most coordinates are no metres in a sensor's frame.
        """
        rows = as_points(points)
        check_metres(rows)
        found, timings = self.predict_voxels(rows)
        prediction = Prediction(*found.spread(), timings)
        self._warn(rows, prediction)
        return prediction

    def _warn(self, points: Points, prediction: Prediction) -> None:
        """Tell once, as Python warnings, of points that cannot be what the checkpoint was trained for."""
        seen = prediction.class_id != INVALID
        if "range" not in self._told and not seen.any() and np.isfinite(points[:, :3]).all(axis=1).any():
            self._told.add("range")
            warnings.warn(
                "no point lies inside the checkpoint's range; are these metres in the sensor's frame?", stacklevel=3
            )
        sample = points[:: max(1, len(points) // 16_384), 3]
        sample = sample[np.isfinite(sample)]
        if "intensity" not in self._told and len(sample):
            p99 = float(np.percentile(sample, 99))
            if fitting_range(p99, "unit", len(sample)) is not None:
                self._told.add("intensity")
                warnings.warn(
                    f"intensity reaches {p99:.4g} (99th percentile), the segmenter takes 0 to 1; scale it before",
                    stacklevel=3,
                )

    def predict_voxels(self, points: Points) -> tuple[PointPredictions, dict[str, float]]:
        """What ``segment`` predicts for points [N, 4], by voxel, for callers that need other arrays.

        Also the milliseconds of "voxelize", "inference" and, within the latter, "network" (the forward pass alone).
        """
        started = time.perf_counter()
        usable = self.spec.as_trained(self._usable(points))
        encoded = encode(usable, None, self.spec.encoding)
        batch = collate([encoded], self.spec.encoding.grid).to(self.device)
        voxelized = computed = time.perf_counter()
        logits, rows = np.empty((0, len(self.classes)), np.float32), encoded.voxels.inverse
        if len(batch.coordinates):
            found_logits, rows = self._logits(batch, rows)
            logits = found_logits.cpu().numpy()
            computed = time.perf_counter()
        found = point_predictions(logits, rows)
        done = time.perf_counter()
        timings = {
            "voxelize": 1e3 * (voxelized - started),
            "inference": 1e3 * (done - voxelized),
            "network": 1e3 * (computed - voxelized),
        }
        return found, timings

    def distribution(self, points: Points) -> Float32:
        """Class probabilities [N, C] of points [N, 4] as for ``segment``; rows of zeros for points without a class."""
        encoded = encode(self.spec.as_trained(self._usable(points)), None, self.spec.encoding)
        inverse = encoded.voxels.inverse
        found = np.zeros((len(points), len(self.classes)), np.float32)
        if inverse.size and (inverse >= 0).any():
            batch = collate([encoded], self.spec.encoding.grid).to(self.device)
            logits, rows = self._logits(batch, inverse)
            found[rows >= 0] = logits.softmax(dim=1).cpu().numpy()[rows[rows >= 0]]
        return found

    def _logits(self, batch: Batch, inverse: Rows) -> tuple[torch.Tensor, Rows]:
        """Logits [R, C] float32 of a batch that is on the device and has voxels, and the row [N] of each point, -1 =
        none: voxels, or points where the network tells these of one voxel apart.
        """
        with torch.inference_mode(), on_device(self.device), self._autocast(), reusing_buffers():
            output = self.network(batch)
        if output.point_logits is None:
            return output.logits.float(), inverse
        own = np.arange(len(inverse), dtype=np.int32)
        return output.point_logits.float(), np.where(inverse >= 0, own, np.int32(-1))

    def warm_up(self, points: int = 120_000, frames: int = 3) -> None:
        """Run ``frames`` made-up clouds of ``points`` points, so that everything is compiled before the first scan."""
        for frame in range(frames):
            self.segment(made_up_cloud(points, frame))

    def _usable(self, points: Points) -> Points:
        """The points with unusable coordinates as NaN (outside every grid) and unusable intensities as 0."""
        points = np.ascontiguousarray(points, np.float32)
        if all_within(points.reshape(-1), np.float32(LARGEST_COORDINATE)):
            return points
        bad = ~(np.abs(points[:, :3]) <= LARGEST_COORDINATE).all(axis=1)
        dull = ~np.isfinite(points[:, 3])
        points = points.copy()
        points[bad, :3] = np.nan
        points[bad | dull, 3] = 0.0
        return points

    def _autocast(self) -> Any:
        return torch.autocast("cuda", torch.float16, enabled=self.precision == "fp16")


def network_threads() -> int:
    """How many CPU threads a network uses now."""
    return torch.get_num_threads()


def as_points(points: Any) -> Points:
    """Points [N, 4] float32 from what people hold: arrays and tensors [N, 4] or wider, structured arrays, lists.

    Of wider arrays the first four columns are taken, of structured ones the fields x, y, z and an intensity.

    Raises UsageError for any other shape or type, with what was probably meant.
    """
    if isinstance(points, torch.Tensor):
        points = points.detach().cpu().numpy()
    try:
        array = np.asarray(points)
    except (ValueError, TypeError) as error:
        raise UsageError(f"These are no points ({error}); give an array [N, 4] of x, y, z and intensity.") from None
    if array.dtype.names is not None:
        columns = {name: array[name].reshape(-1) for name in array.dtype.names}
        return choose(PointTable(array.dtype.names, columns, array.size), (), "The structured array").points
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    shape = list(array.shape)
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise UsageError(f"Points are numbers of shape [N, 4] (x, y, z, intensity), not {array.dtype} {shape}.")
    if shape[1] == 3:
        raise UsageError(f"Points of shape {shape} have no intensity; append a column, zeros if there is none.")
    if shape[1] < 4 or (shape[0] in (3, 4, 5) and shape[1] > 8):
        raise UsageError(f"Points are of shape [N, 4] (x, y, z, intensity), not {shape}; transpose them.")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array[:, :4], np.float32)


def check_metres(points: Points) -> None:
    """DataError where most finite points [N, 4] are farther away than any LiDAR sees: UTM, or millimetres."""
    if all_within(points.reshape(-1), np.float32(LARGEST_COORDINATE)):
        return
    largest = np.abs(points[:, :3]).max(axis=1) if len(points) else np.zeros(0)
    finite = np.isfinite(largest)
    far = int((largest[finite] > LARGEST_COORDINATE).sum())
    if far > 0.5 * finite.sum():
        raise DataError(
            f"{far:,} of {int(finite.sum()):,} points are beyond {LARGEST_COORDINATE:g} m on an axis; are these metres "
            "in the sensor's frame?"
        )


def on_device(device: torch.device) -> AbstractContextManager[None]:
    """Within it a CUDA device is the thread's current one, where spconv launches its kernels wherever its data lie."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _precision(name: str, device: torch.device) -> str:
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in {"fp32", "fp16"}:
        raise CheckpointError(f"precision {name!r} is unknown; use auto, fp32 or fp16.")
    if name == "fp16" and device.type != "cuda":
        raise MissingDependencyError(
            "precision fp16 requested on the CPU, which runs fp32 only; set precision to auto."
        )
    return name


def made_up_cloud(points: int, seed: int) -> Points:
    """A cloud [points, 4] with the extent of a scan: rings on a plane and upright clutter, intensities 0-1."""
    rng = np.random.default_rng(seed)
    azimuth = rng.uniform(-np.pi, np.pi, points)
    distance = np.clip(rng.gamma(2.0, 8.0, points), 2.0, 80.0)
    upright = rng.random(points) < 0.4
    z = np.where(upright, rng.uniform(-1.7, 2.0, points), -1.73 + rng.normal(0.0, 0.02, points))
    cloud = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), z, rng.random(points)], axis=1)
    result: Points = cloud.astype(np.float32)
    return result


@kernel
def all_within(values: Float32, largest: np.float32) -> bool:
    """Whether no value [N] is beyond +-``largest`` or not a number; without a branch per value."""
    for start in range(0, len(values), BLOCK):
        block, fine = values[start : start + BLOCK], True
        for i in range(len(block)):
            fine &= abs(block[i]) <= largest
        if not fine:
            return False
    return True
