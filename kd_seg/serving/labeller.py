"""One PointCloud2 in, labelled clouds out: the path that the node and the bag tool share, byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import INVALID
from kd_seg.core.environment import version
from kd_seg.core.errors import ConfigError
from kd_seg.scans import Points
from kd_seg.serving import pointcloud2, sensor_input
from kd_seg.serving.pointcloud2 import CloudDecoder, CloudLike, CloudRejectedError, Decoded, Field, Limits, Packed
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import FrameFigures, SensorSettings

INVALID_NAME = "invalid"
PACKAGES = ("spconv", "torch", "numba")


@dataclass(frozen=True)
class Labelled:
    """A cloud with its classes.

    Attributes:
        points: [N, 4] as the network saw them.
        class_id: [N] uint8, 255 = invalid.
        timings: milliseconds of decode, voxelize, inference (and network within it) and encode (the segmentation
            cloud's).
    """

    cloud: Decoded
    points: Points
    class_id: npt.NDArray[np.uint8]
    segmentation: Packed
    timings: dict[str, float]

    @property
    def all_invalid(self) -> bool:
        """The cloud has points and none got a class."""
        return len(self.points) > 0 and bool((self.class_id == INVALID).all())

    def figures(self) -> FrameFigures:
        """What the frame shows of its sensor."""
        return sensor_input.frame_figures(self.cloud, self.points, self.class_id)


class Labeller:
    """A segmenter behind the decoder and before the encoder.

    Args:
        segmenter: the loaded student.
        intensity_fields: see ``CloudDecoder``.
    """

    def __init__(
        self, segmenter: Segmenter, intensity_fields: Sequence[str] = pointcloud2.DEFAULT_INTENSITY_FIELDS
    ) -> None:
        self.segmenter = segmenter
        self.decoder = CloudDecoder(intensity_fields)
        self._palette = segmenter.classes.palette()

    def label(
        self, message: CloudLike, settings: SensorSettings, limits: Limits = Limits(), age_s: float = 0.0
    ) -> Labelled:
        """Decode, segment and encode one cloud.

        Raises CloudRejectedError with the reason: one of the decoder's, or ``inference_error`` for anything that fails
        behind it.
        """
        started = time.perf_counter()
        cloud = self.decoder.decode(message, limits, age_s)
        try:
            return self._label(cloud, settings, started)
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":
                self.release()
            raise CloudRejectedError("inference_error", f"inference failed: {summary(error)}") from error

    def _label(self, cloud: Decoded, settings: SensorSettings, started: float) -> Labelled:
        points = sensor_input.prepare(cloud, settings)
        decoded = time.perf_counter()
        answers, timings = self.segmenter.predict_voxels(points)
        segmented = time.perf_counter()
        packed, class_id = pointcloud2.encode_segmentation(cloud, answers)
        timings["decode"] = 1e3 * (decoded - started)
        timings["encode"] = 1e3 * (time.perf_counter() - segmented)
        return Labelled(cloud, points, class_id, packed, timings)

    def visualization(self, labelled: Labelled) -> Packed:
        """The cloud in its classes' colours."""
        return pointcloud2.encode_visualization(labelled.cloud, labelled.class_id, self._palette)

    def filtered(self, message: CloudLike, labelled: Labelled, remove: Sequence[int]) -> Packed:
        """The input's bytes without the points of the class ids ``remove``."""
        keep = pointcloud2.keep_mask(labelled.class_id, remove)
        return pointcloud2.encode_filtered(message, labelled.cloud, keep)

    def removed(self, classes: Sequence[str], remove_invalid: bool) -> tuple[int, ...]:
        """Class ids that ``filter.classes`` and ``filter.remove_invalid`` take out; empty names are ignored."""
        ids = filter_ids(classes, self.segmenter.classes.names)
        return (*ids, INVALID) if remove_invalid else ids

    def release(self) -> None:
        """Give cached CUDA memory back."""
        if self.segmenter.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def details(self) -> dict[str, object]:
        """What runs, for diagnostics: checkpoint, classes, device, precision, CPU threads, versions, CUDA memory."""
        import torch

        segmenter = self.segmenter
        memory = 0.0
        if segmenter.device.type == "cuda":
            memory = torch.cuda.memory_allocated(segmenter.device) / 2**20
        return {
            "checkpoint": str(segmenter.checkpoint_path),
            "sha256": segmenter.sha256,
            "classes": len(segmenter.classes),
            "device": str(segmenter.device),
            "precision": segmenter.precision,
            "threads": torch.get_num_threads(),
            **{name: version(name) for name in PACKAGES},
            "gpu_memory_mb": memory,
        }

    def warm_up(self, points: int, frame: int, settings: SensorSettings) -> None:
        """Run one made-up cloud through all of it, every output included."""
        from kd_seg.serving.segmenter import made_up_cloud

        message = made_up_message(made_up_cloud(points, frame))
        labelled = self.label(message, settings)
        self.visualization(labelled)
        self.filtered(message, labelled, (0, INVALID))
        labelled.figures()


def filter_ids(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Class ids of class names, empty ones ignored; ConfigError names an unknown one and the legal ones."""
    wanted = [name for name in classes if name]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"filter.classes has {name!r}, which the checkpoint lacks; it has: {', '.join(names)}")
    return tuple(names.index(name) for name in wanted)


def label_info_json(segmenter: Segmenter) -> str:
    """What the class ids mean, for programs: the text of ``~/label_info_json``."""
    table = segmenter.classes
    content = {
        "schema": 1,
        "classes": [
            {"id": column, "name": name, "rgb": [int(part) for part in table.colours[column]]}
            for column, name in enumerate(table.names)
        ],
        "invalid": INVALID,
        "checkpoint_sha256": segmenter.sha256,
        "intensity_range": segmenter.sensor.intensity_range,
        "sensor_height_m": segmenter.sensor.sensor_height_m,
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def label_pairs(segmenter: Segmenter) -> list[tuple[int, str]]:
    """Class ids and names for a vision_msgs/LabelInfo, the invalid one last."""
    return [*enumerate(segmenter.classes.names), (INVALID, INVALID_NAME)]


def summary(error: BaseException) -> str:
    """An error as its type and the first line of its text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


@dataclass(frozen=True)
class _Header:
    frame_id: str = "made_up"


@dataclass(frozen=True)
class MadeUpMessage:
    """A PointXYZI cloud with the attributes of a PointCloud2, for warming up."""

    height: int
    width: int
    fields: tuple[Field, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: npt.NDArray[np.uint8]
    is_dense: bool = True
    header: Any = _Header()


def made_up_message(points: Points) -> MadeUpMessage:
    """Points [N, 4] as a message with fields x, y, z, intensity."""
    fields = tuple(Field(name, 4 * k, pointcloud2.FLOAT32) for k, name in enumerate(("x", "y", "z", "intensity")))
    data = np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8)
    return MadeUpMessage(1, len(points), fields, False, 16, 16 * len(points), data)
