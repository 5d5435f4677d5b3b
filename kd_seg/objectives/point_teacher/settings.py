"""Settings of ``point_teacher``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kd_seg.core.config import Settings


class PointTeacherSettings(Settings):
    """Settings of ``kind: point_teacher``."""

    kind: Literal["point_teacher"] = "point_teacher"
    checkpoint: str = Field(description="checkpoint or run folder of the teacher, such as kd-seg import writes")
    mode: Literal["prepared", "live"] = Field(
        "prepared",
        description="prepared: kd-seg prepare stores its probabilities of every scan once; live: it runs beside the "
        "student, on the augmented points",
    )
    sees: Literal["own", "fused", "ego"] = Field(
        "own",
        description="own: one scan; fused (live): also the points that fusion adds from other scans; ego (prepared): "
        "every point of several scans, moved by the poses",
    )
    scans: int = Field(5, ge=2, le=50, description="sees ego: scans that it sees at once, the last one is taught")
    top: int = Field(3, ge=1, le=8, description="prepared: classes stored per point, two bytes each")
    weight: float = Field(1.0, ge=0)
    temperature: float = Field(1.0, gt=0, description="softens both sides; the loss is multiplied by its square")
    min_confidence: float = Field(
        0.0, ge=0, lt=1, description="voxels whose largest probability is below it teach nothing"
    )
    trust: Literal["all", "right", "unlabelled"] = Field(
        "right",
        description="rows that teach: all; those without a label or with the teacher's class as label; those without",
    )

    @model_validator(mode="after")
    def _stored_of_scans(self) -> PointTeacherSettings:
        if self.mode == "prepared" and self.sees == "fused":
            raise ValueError("sees: fused needs mode: live; prepared are probabilities of scans, own or ego")
        if self.mode == "live" and self.sees == "ego":
            raise ValueError("sees: ego needs mode: prepared; the student's loader does not read other scans whole")
        return self
