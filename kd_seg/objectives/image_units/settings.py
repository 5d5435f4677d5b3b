"""Settings of ``image_units``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from kd_seg.core.config import Settings, merge
from kd_seg.images.units.cache import UnitSource
from kd_seg.losses.units import Measure

RELEASED: dict[str, Any] = {
    "average": "all",
    "backward": {
        "measure": "precision",
        "student": "snapshot",
        "judge_draws": 0,
        "rounds": 1,
        "replace": True,
    },
}
"""Backward distillation as released: r_u of one snapshot on plain clouds replaces C_u, once."""


class BackwardSettings(Settings):
    """When and how units are re-scored by their agreement with the student (Umam et al., CVPR 2024)."""

    measure: Measure = Field(default="precision", description="precision (as released), iou, or probability")
    student: Literal["ema", "snapshot"] = Field(default="ema", description="who judges")
    momentum: float = Field(default=0.999, gt=0, lt=1, description="of the ema student; lower it for short runs")
    judge_draws: int = Field(
        default=1, ge=0, description="random rotations and flips it judges on (mean probability); 0 = the plain cloud"
    )
    window: int = Field(default=5, ge=1, description="epochs of the mean of the unit loss")
    tolerance: float = Field(default=0.01, ge=0, description="the mean has settled when it changes by less")
    min_epochs: int = Field(default=5, ge=1)
    start_epoch: int | None = Field(default=None, ge=1, description="begin after this many epochs, settled or not")
    every: int = Field(default=2, ge=1, description="epochs between two rounds")
    rounds: int = Field(default=3, ge=1)
    drop_below: float = Field(default=0.1, ge=0, description="units whose unfloored r_u / q90 is below get weight 0")
    quantile: float = Field(default=0.9, gt=0, le=1)
    unknown_below: float = Field(
        default=0.05, ge=0, description="classes whose q90 is not above are unknown: judged by mean probability"
    )
    floor: float = Field(default=0.05, ge=0, le=1)
    power: float = Field(default=1.0, gt=0, description="g: how strongly agreement counts")
    min_points: int = Field(default=5, ge=1, description="units with fewer points are not judged")
    enlarge: float = Field(default=0.25, ge=0, description="iou: the box within which the student's points count")
    replace: bool = Field(default=False, description="as released: weight_u = r_u, instead of C_u s_u")


class ImageUnitsSettings(UnitSource):
    """Settings of ``kind: image_units``; the inherited keys say what its cache is made from."""

    kind: Literal["image_units"] = "image_units"
    preset: Literal["released"] | None = Field(
        default=None, description="constants of the released code; keys beside it win"
    )
    weight: float = Field(default=1.0, ge=0)
    class_weights: Literal["log4", "root", "none"] = Field(
        default="log4",
        description="log4 (released): clip(1 + log4(sum m/(m_c C)), 1, 4) per batch; "
        "root: clip(sqrt(mean m/m_c), 1/4, 4) over all units",
    )
    lovasz: float = Field(
        default=0.0, ge=0, description="weight of Lovasz-softmax on the usual class of each point's strongest unit"
    )
    secondary: float = Field(
        default=0.1, gt=0, le=1, description="likelihood of the classes after the first of a set; 1 = plain marginal"
    )
    confidence: bool = Field(default=True, description="weight units by the teacher's confidence")
    average: Literal["cover", "all"] = Field(
        default="cover", description="divide by covered points, or by all (released)"
    )
    backward: BackwardSettings | None = Field(default=None, description="re-scoring; none given = forward only")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        return merge(RELEASED, value) if isinstance(value, dict) and value.get("preset") == "released" else value

    def source(self) -> UnitSource:
        """What the cache depends on, alone."""
        return UnitSource(**{name: getattr(self, name) for name in UnitSource.model_fields})
