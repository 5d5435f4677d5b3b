"""Settings of ``image_labels``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.images.projection.cameras import ProjectionSettings


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
