"""``image_labels``: trains an image teacher, on LiDAR labels projected into its pictures or on class images.

The supervised objective of ``network: image_unet``. What it learned from goes into the checkpoint, as students taught
by it may be called annotation-free only if no projected 3D label was used (docs/image_teachers.md).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kd_seg.core.errors import ConfigError
from kd_seg.images.teachers import Provenance
from kd_seg.losses.supervised import cross_entropy, lovasz_softmax
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch, Output
from kd_seg.networks.image_unet import PICTURES, STRIDE, ImageUNet, Pictures
from kd_seg.objectives.image_labels.settings import ImageLabelsSettings
from kd_seg.objectives.image_labels.view import PicturesView
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.supervised.objective import class_weights


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
        self.view = PicturesView(settings, context.classes, context.data)
        self.register_buffer("weights", class_weights(context.classes, settings.class_weights), persistent=False)

    @classmethod
    def needs_labels(cls, settings: ImageLabelsSettings) -> bool:
        """Projected labels are labels of points; class images are not."""
        return settings.labels == "projected_3d"

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
            "ce": Term.of(cross_entropy(logits, pictures.labels, self.weights), self.settings.cross_entropy),
            "lovasz": Term.of(lovasz_softmax(logits, pictures.labels), self.settings.lovasz),
        }

    def describe(self) -> dict[str, Any]:
        """The settings, and what the network learns from."""
        root = self.context.data.name
        sequences = tuple(f"{root}/{name}" for name in self.context.data.sequences)
        kind = "projected_3d" if self.settings.labels == "projected_3d" else "2d"
        provenance = Provenance(kind, (root,), sequences)
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
