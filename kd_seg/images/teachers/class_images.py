"""``class_images``: the simulator's own class image beside each picture, a 2D teacher without error.

For studies on simulated streets: an upper bound, and units whose share of wrong ones is known exactly.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError
from kd_seg.images.projection.cameras import Shot
from kd_seg.images.teachers.interface import (
    IMAGE_TEACHERS,
    NO_PREDICTION,
    Provenance,
    SemanticMap,
    TeacherOutput,
    Tools,
)
from kd_seg.scans.truth import read_class_image


class ClassImagesSettings(Settings):
    """Settings of ``kind: class_images``."""

    kind: Literal["class_images"] = "class_images"
    confidence: float = Field(default=1.0, gt=0, le=1, description="confidence of every pixel")


@IMAGE_TEACHERS.register("class_images")
class ClassImagesTeacher:
    """Reads ``truth/sequences/NN/class_2``; speaks the student's own classes (class map "same")."""

    Settings = ClassImagesSettings

    def __init__(self, settings: ClassImagesSettings, tools: Tools) -> None:
        if tools.classes is None:
            raise ValueError("the class image teacher needs the class table")
        self.settings, self.classes, self.root = settings, tools.classes, tools.root
        self.vocabulary = tools.classes.names

    def provenance(self) -> Provenance:
        """Labels drawn on pictures; no LiDAR label."""
        return Provenance("2d", ("simulated class images",))

    @staticmethod
    def identify(settings: ClassImagesSettings) -> dict[str, Any]:
        """Nothing beyond the settings and the data itself."""
        return {}

    def predict(self, shot: Shot) -> TeacherOutput:
        """The class image; DataError where the data has none (it is real, or was simulated without --images)."""
        raw = read_class_image(self.root, shot.sequence, shot.index, shot.camera.name)
        if raw.shape != (shot.optics.height, shot.optics.width):
            raise DataError(f"The class image of {shot.camera.image} is {raw.shape}, not of the picture's size.")
        train, _ = self.classes.to_train_lenient(raw.astype(np.uint32))
        classes = self.classes.train_to_class(train)
        classes[raw == 65535] = NO_PREDICTION
        confidence = np.full(classes.shape, self.settings.confidence, dtype=np.float32)
        return TeacherOutput(semantic=SemanticMap(classes, confidence))
