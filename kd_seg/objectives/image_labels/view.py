"""The pictures of a batch with their labelled pixels, cropped, flipped and jittered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kd_seg.classes import ClassTable
from kd_seg.images.projection.cameras import seen_views, shots
from kd_seg.networks import Batch
from kd_seg.networks.image_unet import PICTURES, Pictures
from kd_seg.objectives.image_labels.settings import ImageLabelsSettings
from kd_seg.objectives.interface import Sample, View
from kd_seg.objectives.shared.image_rows import rows_of_scan
from kd_seg.objectives.shared.image_teacher import shrink
from kd_seg.scans import SemanticKitti
from kd_seg.scans.truth import read_class_image

NOTHING = 65535
"""Raw id in a class image where the picture shows no class."""


@dataclass(frozen=True)
class _Item:
    """A picture [H, W, 3], labelled pixels [n, 2] (column, row) and their train ids [n]."""

    image: npt.NDArray[np.uint8]
    place: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class PicturesView(View):
    """One cropped picture per scan with labelled pixels; scans without a picture give none."""

    name = PICTURES

    def __init__(self, settings: ImageLabelsSettings, classes: ClassTable, data: SemanticKitti) -> None:
        self.settings, self.classes, self.data = settings, classes, data

    def build(self, sample: Sample) -> Any:
        """A picture of the scan (one camera drawn), shrunk, cropped, flipped and jittered with its labelled pixels."""
        labelled = self._of_class_image(sample) if self.settings.labels == "class_images" else self._projected(sample)
        if labelled is None:
            return None
        rgb, rng = labelled.image, sample.rng
        image = shrink(rgb, self.settings.resize)
        place = labelled.place * np.float32(image.shape[1] / rgb.shape[1])
        window, place, inside = self._cropped(image, place, rng)
        if self.settings.flip and rng.integers(2):
            window, place = window[:, ::-1], place * [-1, 1] + np.array([window.shape[1], 0])
        return _Item(jitter(window, self.settings.jitter, rng), place.astype(np.float32), labelled.labels[inside])

    def _cropped(
        self, image: npt.NDArray[np.uint8], place: npt.NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """A random window, black where the picture ends; the pixels within it, and which ones those are."""
        (high, wide), (height, width) = self.settings.crop, image.shape[:2]
        top, left = (int(rng.integers(max(side - size, 0) + 1)) for side, size in ((height, high), (width, wide)))
        window = np.zeros((high, wide, 3), dtype=np.uint8)
        part = image[top : top + high, left : left + wide]
        window[: part.shape[0], : part.shape[1]] = part
        place = place - np.array([left, top], dtype=np.float32)
        inside = ((place >= 0) & (place < part.shape[1::-1])).all(axis=1)
        return window, place[inside], inside

    def _of_class_image(self, sample: Sample) -> _Item | None:
        """A picture with pixels drawn from its class image."""
        scan = sample.scan
        taken = shots(scan, self.settings.projection)
        if not taken:
            return None
        shot = taken[int(sample.rng.integers(len(taken)))]
        raw = read_class_image(self.data.root, scan.sequence, scan.index, shot.camera.name)
        train = self.classes.to_train_lenient(raw.astype(np.uint32))[0]
        train[raw == NOTHING] = 0
        rows, columns = np.nonzero(train)
        chosen = sample.rng.choice(len(rows), min(self.settings.pixels, len(rows)), replace=False)
        place = np.column_stack([columns[chosen], rows[chosen]]).astype(np.float32) + np.float32(0.5)
        return _Item(shot.camera.read(), place, train[rows[chosen], columns[chosen]].astype(np.int64))

    def _projected(self, sample: Sample) -> _Item | None:
        """A picture with the labels of the points that one of its cameras sees."""
        scan = sample.scan
        views = seen_views(scan, self.data.sequences[scan.sequence], self.settings.projection)
        if not views:
            return None
        view = views[int(sample.rng.integers(len(views)))]
        here = rows_of_scan(sample.cloud, len(scan.points))[view.pairs.rows]
        labels = np.where(here >= 0, sample.labels[np.maximum(here, 0)], 0)
        known = labels > 0
        return _Item(view.shot.camera.read(), view.pairs.pixels[known], labels[known].astype(np.int64))

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


def jitter(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The picture [H, W, 3] with random brightness, contrast and colour factors."""
    if strength == 0:
        return np.ascontiguousarray(image)
    brightness, contrast, colour = 1.0 + rng.uniform(-strength, strength, 3)
    value = image.astype(np.float32) * brightness
    value = (value - value.mean()) * contrast + value.mean()
    grey = value.mean(axis=2, keepdims=True)
    result: npt.NDArray[np.uint8] = np.clip(grey + (value - grey) * colour, 0, 255).astype(np.uint8)
    return result
