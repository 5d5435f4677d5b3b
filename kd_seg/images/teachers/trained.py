"""``trained``: an image network of our own (``network: image_unet``), read from its checkpoint.

With several checkpoints a picture is shown to one that was not trained on its sequence, so that folds of a data set can
label each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from kd_seg.caches.fingerprint import file_digest
from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError
from kd_seg.images.projection.cameras import Shot
from kd_seg.images.teachers.interface import (
    IMAGE_TEACHERS,
    Provenance,
    SemanticMap,
    TeacherOutput,
    Tools,
    TrainedNetwork,
)
from kd_seg.scans.semantic_kitti import root_name


class TrainedSettings(Settings):
    """Settings of ``kind: trained``."""

    kind: Literal["trained"] = "trained"
    checkpoints: list[str] = Field(min_length=1, description=".safetensors files or run folders")
    allow_seen: bool = Field(default=False, description="show a network pictures of sequences whose 3D labels it saw")

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


@IMAGE_TEACHERS.register("trained")
class TrainedTeacher:
    """Features of the decoder's output and a semantic map at the picture's size."""

    Settings = TrainedSettings

    def __init__(self, settings: TrainedSettings, tools: Tools) -> None:
        if tools.load_network is None:
            raise ValueError("a trained teacher needs a reader for checkpoints")
        self.settings, self.tools = settings, tools
        self.networks: list[TrainedNetwork] = [tools.load_network(Path(p)) for p in settings.checkpoints]
        for loaded in self.networks:
            loaded.network.to(tools.device).eval()
        self.vocabulary = self.networks[0].vocabulary
        if any(loaded.vocabulary != self.vocabulary for loaded in self.networks):
            raise DataError(f"The teachers {', '.join(settings.checkpoints)} have different classes; train them alike.")

    def provenance(self) -> Provenance:
        """All that any of the networks saw."""
        every = [loaded.provenance for loaded in self.networks]
        order = ("none", "2d", "projected_3d")
        return Provenance(
            labels=max((p.labels for p in every), key=order.index),
            data=tuple(sorted({name for p in every for name in p.data})),
            sequences=tuple(sorted({name for p in every for name in p.sequences})),
        )

    @staticmethod
    def identify(settings: TrainedSettings) -> dict[str, Any]:
        """Digests of the checkpoints."""
        paths = [Path(p) for p in settings.checkpoints]
        paths = [p / "checkpoints" / "last.safetensors" if p.is_dir() else p for p in paths]
        return {str(n): file_digest(p) for n, p in enumerate(paths)} if all(p.is_file() for p in paths) else {}

    def predict(self, shot: Shot) -> TeacherOutput:
        """The output of the first network that did not see this sequence's 3D labels; DataError if all did."""
        import torch
        import torch.nn.functional as F

        loaded = self._choose(shot)
        rgb = loaded.shrink(shot.camera.read())
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].to(self.tools.device)
            logits, features = loaded.network.predict(images)
            shares = torch.softmax(logits.float(), dim=1)
            size = (shot.optics.height, shot.optics.width)
            full = F.interpolate(shares, size, mode="bilinear", align_corners=False)
            confidence, classes = full[0].max(dim=0)
        return TeacherOutput(
            features=features[0].to(torch.float16).cpu().numpy(),
            semantic=SemanticMap(
                classes.to(torch.uint8).cpu().numpy(),
                confidence.cpu().numpy(),
                shares[0].to(torch.float16).cpu().numpy(),
            ),
        )

    def _choose(self, shot: Shot) -> TrainedNetwork:
        name = f"{root_name(self.tools.root)}/{shot.sequence}"
        for loaded in self.networks:
            provenance = loaded.provenance
            if self.settings.allow_seen or provenance.labels != "projected_3d" or name not in provenance.sequences:
                return loaded
        raise DataError(
            f"Every teacher of {', '.join(self.settings.checkpoints)} was trained on the 3D labels of {name}; "
            "train one without that sequence, or set teacher.allow_seen."
        )
