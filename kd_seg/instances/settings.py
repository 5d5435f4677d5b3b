"""Settings of the instance library, of registration and of fusion."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from kd_seg.core.config import Settings


class LibrarySettings(Settings):
    """What the instance library holds. Changing any of it makes another library."""

    classes: list[str] | None = Field(None, description="classes to fuse; none given: the table's hard classes")
    stuff: list[str] = Field(
        [], description="static classes without ids to fuse as pseudo-instances, such as pole and traffic-sign"
    )
    minimum: int = Field(5, ge=1, description="points that an instance needs in a scan")
    link: bool = Field(False, description="join keys of one object whose word changes as it starts or stops to move")
    decoy_cars: float = Field(0.3, ge=0, le=1, description="share of the cars kept as decoys")
    decoy_clutter: float = Field(
        0.08, ge=0, le=1, description="share of 3 m cells whose static clutter is kept as a decoy"
    )
    decoy_classes: list[str] = Field(
        ["building", "fence", "vegetation", "trunk", "terrain", "pole"], description="classes that clutter is taken of"
    )
    decoy_points: int = Field(1500, ge=1, description="most points kept of one decoy in one scan")
    seed: int = 0


class RegistrationSettings(Settings):
    """How moving instances are aligned by ICP, and the gates that a result must pass."""

    iterations: int = Field(20, ge=1)
    trim: float = Field(0.8, gt=0, le=1, description="share of the best pairs that is kept")
    radius: tuple[float, float] = Field((1.0, 0.3), description="pair radius in metres, first and last")
    plane_points: int = Field(50, ge=10, description="fewer points on a side: point-to-point instead of point-to-plane")
    source_points: int = Field(600, ge=20, description="source points that ICP uses, evenly drawn")
    minimum: int = Field(20, ge=3, description="points that each side needs")
    degrees_per_scan: float = Field(10.0, gt=0, description="largest yaw per 0.1 s of gap")
    speed_vehicle: float = Field(40.0, gt=0, description="m/s; car, truck, other-vehicle, motorcycle(s)")
    speed_cyclist: float = Field(15.0, gt=0, description="m/s; bicycle, bicyclist")
    speed_person: float = Field(4.0, gt=0, description="m/s")
    rms: float = Field(0.15, gt=0, description="largest trimmed RMS in metres")
    inlier_radius: float = Field(0.3, gt=0)
    inliers: float = Field(0.5, ge=0, le=1, description="least share of the source within inlier_radius of the target")
    extent: tuple[float, float] = Field((1.3, 0.5), description="fused extent at most a * target extent + b metres")


class CloudSettings(Settings):
    """What a fused cloud is made of: which other scans, how they are aligned, how many of their points stay."""

    earlier: int = Field(4, ge=0, description="K, earlier scans to fuse")
    later: int = Field(0, ge=0, description="later scans to fuse; a teacher is not bound to causality")
    stride: int = Field(1, ge=1, description="every how many-th scan; 2 or 3 add viewpoint at equal cost")
    alignment: Literal["registered", "ego", "centroid"] = Field(
        "registered",
        description="registered: ego-motion, moving instances registered; ego: ego-motion alone; centroid: as released",
    )
    decoys: bool = Field(
        True, description="fuse cars and static clutter too, so that density does not give the label away"
    )
    skip: float = Field(0.3, ge=0, le=1, description="probability that an instance is left unfused")
    per_instance: int = Field(5000, ge=1, description="most fused points of one instance")
    per_cloud: int = Field(40000, ge=0, description="most fused points in all, decoys not counted")
    per_cell: int = Field(8, ge=1, description="most fused points in a 0.05 m cell")
    clearance: float = Field(
        0.02, ge=0, description="fused points nearer than this to an own point are dropped, metres"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_double_own(cls, value: Any) -> Any:
        """Run folders of 0.1.0 name ``double_own``, which never had an effect."""
        if isinstance(value, dict):
            return {key: entry for key, entry in value.items() if key != "double_own"}
        return value

    @model_validator(mode="after")
    def _reach(self) -> CloudSettings:
        """Origins are stored as int8."""
        if max(self.earlier, self.later) * self.stride > 127:
            raise ValueError("earlier * stride and later * stride must stay below 128 scans")
        return self

    def offsets(self) -> tuple[int, ...]:
        """t - s of every scan that is fused, nearest first; negative for later scans."""
        earlier = [k * self.stride for k in range(1, self.earlier + 1)]
        later = [-k * self.stride for k in range(1, self.later + 1)]
        return tuple(sorted(earlier + later, key=lambda k: (abs(k), -k)))


class FusionSettings(Settings):
    """Fused clouds, for ``student.input: fused`` and ``mixed``, ``multi_to_single``, ``augment.paste``."""

    library: LibrarySettings = LibrarySettings()
    registration: RegistrationSettings = RegistrationSettings()
    cloud: CloudSettings = CloudSettings()

    @property
    def registers(self) -> bool:
        """Whether registrations are needed."""
        return self.cloud.alignment == "registered" and bool(self.cloud.offsets())
