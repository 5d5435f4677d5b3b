"""One interface for everything that looks at a picture: features, class probabilities, boxes or masks come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, PlainSerializer

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings, validate
from kd_seg.core.errors import ConfigError
from kd_seg.core.registry import Registry
from kd_seg.images.projection.cameras import Shot

NO_PREDICTION = 255
"""Teacher class of a pixel without a prediction."""


@dataclass(frozen=True)
class SemanticMap:
    """A teacher's prediction for every pixel.

    Attributes:
        classes: [H, W] uint8, index into the vocabulary, 255 = no prediction.
        confidence: [H, W] float32 in [0, 1], the probability of that class.
        probabilities: [C2, h, w] float16 at any size, or None where the teacher gives the best class alone.
    """

    classes: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Detections:
    """Objects that a teacher found.

    Attributes:
        boxes: [K, 4] float32, left, top, right, bottom in pixels.
        classes: [K] index into the vocabulary. confidence: [K] in (0, 1].
        masks: [K, H, W] bool, or None where there are boxes alone.
    """

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's output for one picture; what it does not give is None.

    Attributes:
        features: [D, H', W'] float16, cell (r, c) covering an equal share of the picture.
        semantic: per pixel. detections: per object.
    """

    features: npt.NDArray[np.float16] | None = None
    semantic: SemanticMap | None = None
    detections: Detections | None = None


@dataclass(frozen=True)
class Provenance:
    """What a teacher was trained on, as far as its file records it.

    Attributes:
        labels: "none" (self-supervised), "2d" (labels drawn on pictures), "projected_3d" (labels of LiDAR points).
        data: names of the data sets; sequences: of ours that it was trained on, "root/SS".
    """

    labels: str
    data: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for caches and checkpoints."""
        return {"labels": self.labels, "data": list(self.data), "sequences": list(self.sequences)}


class ImageTeacher(Protocol):
    """Looks at pictures. One object serves one process."""

    vocabulary: tuple[str, ...]
    """Its class names by class id; empty for a teacher that gives features alone."""

    def provenance(self) -> Provenance:
        """What it was trained on."""
        ...

    def predict(self, shot: Shot) -> TeacherOutput | None:
        """Its output for a picture; None where it has none (an export that lacks the file)."""
        ...


@dataclass(frozen=True)
class TrainedNetwork:
    """An image network of our own.

    Attributes:
        network: a module with ``seen_views(images [K, 3, H, W]) -> (logits, features)``, in eval mode.
        vocabulary: class names by logit. provenance: what it was trained on.
        shrink: brings a picture [H, W, 3] to the size that it was trained at.
    """

    network: Any
    vocabulary: tuple[str, ...]
    provenance: Provenance
    shrink: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Tools:
    """What the layers above lend to a teacher.

    Attributes:
        root: of the data set whose pictures are shown.
        classes: the student's class table.
        prompts: teacher class names that the class map knows, for open-vocabulary teachers.
        load_network: reads the checkpoint of a network trained here.
        device: name of the torch device to run on.
    """

    root: Path
    classes: ClassTable | None = None
    prompts: tuple[str, ...] = ()
    load_network: Callable[[Path], TrainedNetwork] | None = None
    device: str = "cpu"


IMAGE_TEACHERS: Registry[Any] = Registry("image teacher", "kd_seg.images.teachers")
"""Teacher by kind: a class with ``Settings`` (pydantic, field ``kind``), ``__init__(settings, tools)``, and a static
``identify(settings)``: plain data that changes whenever its answers would (digests of its files; {} where they are not
here), cheap enough to be asked at every start of a training."""


def teacher_settings(value: Any) -> Settings:
    """Validate the ``teacher`` entry of an objective by the settings model of its kind; ConfigError names the key."""
    if isinstance(value, Settings):
        return value
    if not isinstance(value, dict) or "kind" not in value:
        raise ConfigError(f"teacher needs a kind; known kinds: {', '.join(IMAGE_TEACHERS.names())}")
    model: type[Settings] = IMAGE_TEACHERS.get(str(value["kind"])).Settings
    return validate(model, value, f"teacher ({value['kind']})")


TeacherEntry = Annotated[
    Any,
    BeforeValidator(teacher_settings),
    PlainSerializer(lambda settings: settings.model_dump(mode="json"), return_type=dict[str, Any]),
]
"""A settings field that holds the settings of one image teacher, by its kind."""


def build_teacher(settings: Settings, tools: Tools) -> ImageTeacher:
    """The teacher that validated settings name."""
    teacher: ImageTeacher = IMAGE_TEACHERS.get(str(getattr(settings, "kind")))(settings, tools)  # noqa: B009
    return teacher
