"""Settings of ``image_regions`` and the presets that reduce it to published methods (docs/image_teachers.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from kd_seg.core.config import Settings, merge
from kd_seg.images.regions.cache import RegionSource
from kd_seg.losses.regions import Pooling

PRESETS: dict[str, dict[str, Any]] = {
    "pointmcd": {
        "regions": {"kind": "view"},
        "pooling": "max",
        "head": {"kind": "linear_bn_relu", "on": "pooled"},
        "norm": "none",
        "loss": "l1",
    },
    "slidr": {
        "regions": {"kind": "superpixel"},
        "pooling": "mean",
        "head": {"kind": "linear", "dim": 64},
        "teacher_head": "linear",
        "norm": "rows",
        "loss": "info_nce",
        "temperature": 0.07,
    },
    "slidr_corrected": {
        "regions": {"kind": "superpixel"},
        "pooling": "mean",
        "head": {"kind": "linear", "dim": 64},
        "teacher_head": "linear",
        "norm": "both",
        "loss": "info_nce",
        "temperature": 0.07,
        "min_points": 5,
        "alike": 0.9,
    },
    "ppkt": {
        "regions": {"kind": "point"},
        "samples": 4096,
        "head": {"kind": "linear", "dim": 64},
        "teacher_head": "linear",
        "norm": "rows",
        "loss": "info_nce",
        "temperature": 0.07,
    },
    "scalr": {
        "regions": {"kind": "point"},
        "head": {"kind": "linear"},
        "norm": "rows",
        "loss": "unit_l2",
    },
}
"""Values that a preset gives to keys that the config does not name."""

FORMER_PRESETS = {"slidr_mended": "slidr_corrected"}
"""Names of presets in configurations and run folders of 0.1.0."""


class HeadSettings(Settings):
    """The student's projection head; it trains with the student and is left behind."""

    kind: Literal["none", "linear", "linear_bn_relu", "mlp"] = "linear"
    on: Literal["rows", "pooled"] = Field(default="rows", description="before or after pooling")
    dim: int | None = Field(default=None, ge=1, description="width; none given = the teacher's")


class ImageRegionsSettings(RegionSource):
    """Settings of ``kind: image_regions``; the inherited keys say what its cache is made from."""

    kind: Literal["image_regions"] = "image_regions"
    preset: Literal["pointmcd", "slidr", "slidr_corrected", "ppkt", "scalr"] | None = None
    weight: float = Field(default=1.0, ge=0, description="1 for pre-training, 0.1 beside labels")
    level: str = Field(default="penultimate", description="the student's feature level")
    pooling: Pooling = "mean"
    head: HeadSettings = HeadSettings()
    teacher_head: Literal["none", "linear"] = Field(
        default="none", description="linear: a trained 1x1 head to head.dim"
    )
    norm: Literal["none", "rows", "pooled", "both"] = Field(
        default="both", description="unit vectors before pooling, after it, or both; for student and teacher alike"
    )
    loss: Literal["l1", "smooth_l1", "cosine", "unit_l2", "kl", "info_nce"] = "cosine"
    temperature: float = Field(default=0.07, gt=0, description="of info_nce and kl")
    alike: float | None = Field(default=None, ge=-1, le=1, description="leave out negatives of a higher q-q cosine")
    min_points: int = Field(default=1, ge=1, description="regions with fewer visible points drop out and are counted")
    samples: int = Field(default=0, ge=0, description="kind point: pairs drawn per scan; 0 = all")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        name: Any = value.get("preset")
        name = FORMER_PRESETS.get(name, name)
        return merge(PRESETS[name], {**value, "preset": name}) if name in PRESETS else value

    @model_validator(mode="after")
    def _possible(self) -> ImageRegionsSettings:
        if self.teacher_head == "linear" and self.loss != "info_nce":
            raise ValueError(f"teacher_head linear with loss {self.loss} has the trivial answer 0 = 0; use info_nce")
        if self.head.dim is not None and self.teacher_head == "none":
            raise ValueError("head.dim is the teacher's width unless teacher_head is linear; leave it out")
        if self.head.dim is None and self.teacher_head == "linear":
            raise ValueError("teacher_head linear needs head.dim, the width that both sides meet at")
        return self

    def source(self) -> RegionSource:
        """What the cache depends on, alone."""
        return RegionSource(**{name: getattr(self, name) for name in RegionSource.model_fields})
