"""``maps``: outputs of any network, exported to disk.

Layout under ``root``: ``sequences/NN/class/XXXXXX.png`` (uint8 class ids, 255 = no prediction),
``sequences/NN/confidence/XXXXXX.png`` (uint8, 0..``confidence_scale``) and ``sequences/NN/features/XXXXXX.npy``
([D, H', W'] floats); any of them may be missing. With several cameras the folders are ``class_image_3`` and so on;
those without a suffix belong to image_2.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.caches.fingerprint import listing_digest
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
from kd_seg.scans.npy import read_array
from kd_seg.scans.pictures import read_picture


class MapsSettings(Settings):
    """Settings of ``kind: maps``."""

    kind: Literal["maps"] = "maps"
    root: str = Field(description="folder that holds sequences/NN/class, confidence or features")
    vocabulary: list[str] = Field(default_factory=list, description="class names by id; none given = the class map's")
    confidence_scale: float = Field(255.0, gt=0, description="value of the confidence picture that means 1")
    labels: Literal["none", "2d", "projected_3d"] = Field("2d", description="what the exporting network learned from")
    trained_on: list[str] = Field(default_factory=list, description="data sets that it saw")


@IMAGE_TEACHERS.register("maps")
class MapsTeacher:
    """Reads exported maps; a picture without a file has no prediction."""

    Settings = MapsSettings

    def __init__(self, settings: MapsSettings, tools: Tools) -> None:
        self.settings = settings
        self.root = Path(settings.root)
        self.vocabulary = tuple(settings.vocabulary) or tools.prompts
        if not (self.root / "sequences").is_dir():
            raise DataError(f"{self.root} has no sequences/ folder; teacher.root is where the exported maps lie.")

    def provenance(self) -> Provenance:
        """From the settings, the only place that records it."""
        return Provenance(self.settings.labels, tuple(self.settings.trained_on))

    @staticmethod
    def identify(settings: MapsSettings) -> dict[str, Any]:
        """A digest of all file names and sizes, and of three files of features per folder: these have equal sizes."""
        root = Path(settings.root)
        if not (root / "sequences").is_dir():
            return {}
        listing = hashlib.sha256()
        for path in sorted(p for p in (root / "sequences").rglob("*") if p.suffix in {".png", ".npy"}):
            listing.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
        for folder in sorted((root / "sequences").glob("*/features*")):
            listing.update(listing_digest([folder], read=3).encode())
        return {"files": listing.hexdigest()[:16]}

    def predict(self, shot: Shot) -> TeacherOutput | None:
        """The maps of a picture; DataError if one does not fit the picture or the vocabulary."""
        folder = self.root / "sequences" / shot.sequence
        suffix = "" if shot.camera.name == "image_2" else f"_{shot.camera.name}"
        stem = shot.camera.image.stem
        classes = folder / f"class{suffix}" / f"{stem}.png"
        confidence = folder / f"confidence{suffix}" / f"{stem}.png"
        features = folder / f"features{suffix}" / f"{stem}.npy"
        semantic = self._semantic(classes, confidence, shot) if classes.is_file() else None
        array = _read_features(features) if features.is_file() else None
        return TeacherOutput(features=array, semantic=semantic) if semantic is not None or array is not None else None

    def _semantic(self, classes: Path, confidence: Path, shot: Shot) -> SemanticMap:
        ids = _read_grey(classes, shot)
        wrong = (ids != NO_PREDICTION) & (ids >= len(self.vocabulary))
        if self.vocabulary and wrong.any():
            raise DataError(
                f"{classes} holds class {int(ids[wrong][0])}, the vocabulary has {len(self.vocabulary)} classes; "
                "name the right class map or teacher.vocabulary."
            )
        if confidence.is_file():
            share = np.minimum(_read_grey(confidence, shot) / np.float32(self.settings.confidence_scale), 1.0)
        else:
            share = np.ones(ids.shape, dtype=np.float32)
        return SemanticMap(ids, share.astype(np.float32))


def _read_grey(path: Path, shot: Shot) -> npt.NDArray[np.uint8]:
    ids = read_picture(path, ("L", "P"))
    if ids.shape != (shot.optics.height, shot.optics.width):
        raise DataError(
            f"{path} is {ids.shape[1]}x{ids.shape[0]}, its picture is {shot.optics.width}x{shot.optics.height}; "
            "export maps at the picture's size."
        )
    return ids


def _read_features(path: Path) -> npt.NDArray[np.float16]:
    array = read_array(path)
    if array.ndim != 3 or array.dtype.kind != "f" or array.size == 0:
        raise DataError(f"{path} holds {array.dtype} {list(array.shape)}; features are floats of shape [D, H', W'].")
    if not np.isfinite(array).all():
        raise DataError(f"{path} holds NaN or infinity; export it again.")
    return array.astype(np.float16)
