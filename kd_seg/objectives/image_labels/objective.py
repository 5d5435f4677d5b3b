"""``image_labels``: trains an image teacher, on LiDAR labels projected into its pictures or on class images.

The supervised objective of ``network: image_unet``. What it learnt from goes into the checkpoint, as students taught by
it may be called annotation-free only if no projected 3D label was used (methods 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings
from kd_seg.core.errors import ConfigError
from kd_seg.images.projection.cameras import ProjectionSettings, look, shots
from kd_seg.images.teachers import Provenance
from kd_seg.losses.supervised import cross_entropy, lovasz_softmax
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch, Output
from kd_seg.networks.image_unet import PICTURES, STRIDE, ImageUNet, Pictures
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Sample, Step, Term, View
from kd_seg.objectives.supervised.objective import class_weights
from kd_seg.scans import Cloud, Scan, SemanticKitti
from kd_seg.scans.truth import read_class_image


class ImageLabelsSettings(Settings):
    """Settings of ``kind: image_labels``."""

    kind: Literal["image_labels"] = "image_labels"
    labels: Literal["projected_3d", "class_images"] = "projected_3d"
    projection: ProjectionSettings = ProjectionSettings()
    resize: float = Field(default=0.5, gt=0, le=1, description="pictures are shrunk to this share before all else")
    crop: tuple[int, int] = Field(default=(160, 448), description="height and width after resizing")
    flip: bool = True
    jitter: float = Field(
        default=0.3, ge=0, lt=1, description="brightness, contrast and colour factors from 1 +- jitter"
    )
    pixels: int = Field(default=8192, ge=1, description="class images: labelled pixels drawn per picture")
    cross_entropy: float = Field(default=1.0, ge=0)
    lovasz: float = Field(default=1.0, ge=0)
    class_weights: Literal["none", "cube_root", "inverse"] = "cube_root"


@dataclass(frozen=True)
class _Item:
    image: npt.NDArray[np.uint8]
    place: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class PicturesView:
    """One cropped picture per scan with labelled pixels; scans without a picture give none."""

    name = PICTURES

    def __init__(self, settings: ImageLabelsSettings, classes: ClassTable, data: SemanticKitti) -> None:
        self.settings, self.classes, self.data = settings, classes, data

    def extend(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """Adds no points."""
        return cloud

    def build(self, sample: Sample) -> Any:
        """A picture of the scan (one camera drawn), shrunk, cropped, flipped and jittered with its labelled pixels."""
        labelled = self._labelled(sample)
        if labelled is None:
            return None
        rgb, place, labels = labelled
        image = shrink(rgb, self.settings.resize)
        place = place * np.float32(image.shape[1] / rgb.shape[1])
        rng = sample.rng
        (high, wide), (height, width) = self.settings.crop, image.shape[:2]
        top, left = (int(rng.integers(max(side - size, 0) + 1)) for side, size in ((height, high), (width, wide)))
        window = np.zeros((high, wide, 3), dtype=np.uint8)
        part = image[top : top + high, left : left + wide]
        window[: part.shape[0], : part.shape[1]] = part
        place = place - np.array([left, top], dtype=np.float32)
        inside = ((place >= 0) & (place < part.shape[1::-1])).all(axis=1)
        place, labels = place[inside], labels[inside]
        if self.settings.flip and rng.integers(2):
            window, place = window[:, ::-1], place * [-1, 1] + np.array([wide, 0])
        return _Item(jitter(window, self.settings.jitter, rng), place.astype(np.float32), labels)

    def _labelled(
        self, sample: Sample
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
        scan, settings = sample.scan, self.settings
        if settings.labels == "class_images":
            taken = shots(scan, settings.projection)
            if not taken:
                return None
            shot = taken[int(sample.rng.integers(len(taken)))]
            raw = read_class_image(self.data.root, scan.sequence, scan.index, shot.camera.name)
            train = self.classes.to_train_lenient(raw.astype(np.uint32))[0]
            train[raw == 65535] = 0
            rows, columns = np.nonzero(train)
            chosen = sample.rng.choice(len(rows), min(settings.pixels, len(rows)), replace=False)
            place = np.column_stack([columns[chosen], rows[chosen]]).astype(np.float32) + np.float32(0.5)
            return shot.camera.read(), place, train[rows[chosen], columns[chosen]].astype(np.int64)
        views = look(scan, self.data.sequences[scan.sequence], settings.projection)
        if not views:
            return None
        view = views[int(sample.rng.integers(len(views)))]
        labels = np.zeros(len(scan.points), dtype=np.uint8)
        source = sample.cloud.source[: sample.cloud.own]
        labels[source[source >= 0]] = sample.labels[: sample.cloud.own][source >= 0]
        known = labels[view.pairs.rows] > 0
        return view.shot.camera.read(), view.pairs.pixels[known], labels[view.pairs.rows[known]].astype(np.int64)

    def collate(self, items: list[Any], batch: Batch) -> Pictures:
        """The pictures of the scans that have one."""
        have: list[_Item] = [item for item in items if item is not None]
        images = np.stack([i.image for i in have]) if have else np.zeros((0, *self.settings.crop, 3), dtype=np.uint8)
        picture = np.repeat(np.arange(len(have)), [len(i.labels) for i in have])
        return Pictures(
            images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
            picture=torch.from_numpy(picture),
            place=torch.from_numpy(np.concatenate([np.zeros((0, 2), np.float32), *(i.place for i in have)])),
            labels=torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *(i.labels for i in have)])),
        )


def shrink(rgb: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.uint8]:
    """The picture at a share of its size, by area."""
    from PIL import Image

    if share == 1.0:
        return rgb
    size = (max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share)))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


def jitter(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Random brightness, contrast and colour factors."""
    if strength == 0:
        return np.ascontiguousarray(image)
    brightness, contrast, colour = 1.0 + rng.uniform(-strength, strength, 3)
    value = image.astype(np.float32) * brightness
    value = (value - value.mean()) * contrast + value.mean()
    grey = value.mean(axis=2, keepdims=True)
    return np.clip(grey + (value - grey) * colour, 0, 255).astype(np.uint8)


@OBJECTIVES.register("image_labels")
class ImageLabels(Objective):
    """Cross-entropy and Lovasz-softmax at the labelled pixels of pictures."""

    Settings = ImageLabelsSettings
    weights: Tensor | None

    def __init__(self, settings: ImageLabelsSettings, context: Context) -> None:
        super().__init__()
        if not isinstance(context.student, ImageUNet):
            raise ConfigError("The objective image_labels trains pictures; set student.network to image_unet.")
        self.settings, self.context = settings, context
        self.needs_labels = settings.labels == "projected_3d"
        self.view = PicturesView(settings, context.classes, context.data)
        self.register_buffer("weights", class_weights(context.classes, settings.class_weights), persistent=False)

    def views(self) -> list[View]:
        """The network's input and its labels."""
        return [self.view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """Terms "ce" and "lovasz" over labelled pixels."""
        pictures: Pictures = batch.views[PICTURES]
        high, wide = (-(-side // STRIDE) for side in pictures.images.shape[2:])
        if len(pictures.images) == 0:
            zero = exact_zero(output.logits)
            return {"ce": Term(zero, self.settings.cross_entropy, 0), "lovasz": Term(zero, self.settings.lovasz, 0)}
        logits = sample_logits(output.logits, (len(pictures.images), high, wide), pictures.picture, pictures.place)
        return {
            "ce": Term(*_weighed(cross_entropy(logits, pictures.labels, self.weights), self.settings.cross_entropy)),
            "lovasz": Term(*_weighed(lovasz_softmax(logits, pictures.labels), self.settings.lovasz)),
        }

    def describe(self) -> dict[str, Any]:
        """The settings, and what the network learns from."""
        sequences = tuple(f"{self.context.data.root.name}/{name}" for name in self.context.data.sequences)
        kind = "projected_3d" if self.settings.labels == "projected_3d" else "2d"
        provenance = Provenance(kind, (self.context.data.root.name,), sequences)
        return {**self.settings.model_dump(mode="json"), "provenance": provenance.to_json()}


def sample_logits(rows: Tensor, shape: tuple[int, int, int], picture: Tensor, place: Tensor) -> Tensor:
    """Logits [P, C] at pixels, bilinear (align_corners=False), from rows [K h w, C] at half size.

    Args:
        shape: (K, h, w). picture: [P]. place: [P, 2] (column, row) in pixels.
    """
    _, high, wide = shape
    index = place / STRIDE - 0.5
    column, row = index[:, 0].clamp(0, wide - 1), index[:, 1].clamp(0, high - 1)
    left, top = column.floor().long(), row.floor().long()
    right, bottom = (left + 1).clamp_max(wide - 1), (top + 1).clamp_max(high - 1)
    across, down = (column - left)[:, None], (row - top)[:, None]
    base = picture * high * wide
    upper = rows[base + top * wide + left] * (1 - across) + rows[base + top * wide + right] * across
    lower = rows[base + bottom * wide + left] * (1 - across) + rows[base + bottom * wide + right] * across
    return upper * (1 - down) + lower * down


def _weighed(loss: tuple[Tensor, int], weight: float) -> tuple[Tensor, float, int]:
    return loss[0], weight, loss[1]
