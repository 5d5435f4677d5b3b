"""What ``kd-seg adapt`` does, as a file (configs/adapt.yaml shows every key)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from kd_seg.core.config import Settings
from kd_seg.core.errors import ConfigError
from kd_seg.images.projection.cameras import ProjectionSettings
from kd_seg.images.teachers import TeacherEntry
from kd_seg.serving.sensor_input import SensorSettings


class DriveImagesSettings(Settings):
    """An image teacher whose classes of visible points join the teacher's predictions."""

    teacher: TeacherEntry = Field(description="as in image_units, by its kind")
    class_map: str = Field("cityscapes_19", description="what its classes stand for, as in image_units")
    projection: ProjectionSettings = ProjectionSettings()


class DriveTeacherSettings(Settings):
    """How the teacher predicts the drive."""

    checkpoint: str | None = Field(
        None, description="checkpoint or run folder, an imported network too; default shipped"
    )
    views: int = Field(
        4, ge=1, le=16, description="turned and mirrored copies of a scan whose predictions are averaged"
    )
    fuse: Literal["auto", "ego", "off"] = Field(
        "auto",
        description="ego: predict clouds fused over scans by ego-motion; auto: such clouds and single scans, combined, "
        "where scans have under 45,000 points",
    )
    scans: int = Field(5, ge=2, le=20, description="scans of a fused cloud, the own one included")
    statistics: Literal["auto", "trained"] = Field(
        "auto",
        description="auto: its batch norms take the share of the drive's statistics with which its predictions change "
        "least when clouds are turned; trained: they stay as they are",
    )
    images: DriveImagesSettings | None = Field(None, description="image teacher; none given = points alone")

    @field_validator("fuse", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # what YAML makes of a bare ``off``


class VoteSettings(Settings):
    """Voting of predictions over scans, through the poses."""

    enabled: bool = True
    voxel_m: float = Field(0.2, gt=0, description="points within one cube of the world vote together")
    scans: int = Field(10, ge=0, description="scans before and after that vote")


class TrustSettings(Settings):
    """Which predictions teach: the surest of each class and range."""

    share: float = Field(1.0, gt=0, le=1, description="share of the points of each class and range that is trusted")
    least: float = Field(0.0, ge=0, le=1, description="score below which nothing is trusted")
    ranges_m: tuple[float, ...] = Field((15.0, 30.0), description="borders between ranges, ascending")
    backward: bool = Field(
        True, description="from the second round on, points on which the last student disagrees are left out"
    )

    @field_validator("ranges_m")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] <= 0):
            raise ValueError("ranges_m must be ascending and above 0, such as [15, 30]")
        return value


class AdaptSettings(Settings):
    """An adaptation.

    ``training`` is a training configuration; its ``data``, ``grid``, ``student.network``, ``size``, ``features`` and
    ``init`` are filled in.
    """

    purpose: str = ""
    teacher: DriveTeacherSettings = DriveTeacherSettings()
    vote: VoteSettings = VoteSettings()
    trust: TrustSettings = TrustSettings()
    instances: bool = Field(
        True,
        description="cluster things and link them over time: an object has one class, that of all its scans together, "
        "and can be fused",
    )
    rounds: int = Field(1, ge=1, le=5, description="the student of a round is the teacher of the next")
    student: str | None = Field(
        None, description="checkpoint that the student starts from; default the shipped student"
    )
    training: dict[str, Any] = Field(default_factory=dict)

    @field_validator("training")
    @classmethod
    def _unfilled(cls, value: dict[str, Any]) -> dict[str, Any]:
        filled = {"grid"} & set(value)
        filled |= {f"student.{key}" for key in {"network", "size", "features", "init"} & set(value.get("student", {}))}
        filled |= {f"data.{key}" for key in {"root", "train", "valid", "predicted"} & set(value.get("data", {}))}
        if filled:
            raise ValueError(f"{', '.join(sorted(filled))} follow from the drive and the student; leave them out")
        return value


def sensor_settings(values: dict[str, Any]) -> SensorSettings:
    """How the drive's points are taken: parameters of ``kd-seg calibrate`` by name; points (0, 0, 0) are points.

    Raises ConfigError where a parameter does not concern the input.
    """
    from kd_seg.serving.parameters import cloud_settings

    foreign = [name for name in values if not name.startswith("input.")]
    if foreign:
        raise ConfigError(f"{foreign[0]} has no meaning here; only input.* parameters describe the sensor.")
    return cloud_settings({"input.intensity_range": "unit", "input.zero_is_invalid": False, **values}).sensor
