"""What a simulated LiDAR is: the files of ``configs/sensors/``, validated."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from kd_seg.core.config import Settings

Pair = tuple[float, float]
"""Lower and upper bound."""


class Even(Settings):
    """Beams at equal steps."""

    top: float = Field(description="degrees above the horizon of the highest beam")
    bottom: float = Field(description="degrees of the lowest beam")
    count: int = Field(ge=1, le=1024)


class Spinning(Settings):
    """Beams above each other that turn about the vertical axis, or that a mirror turns through a sector."""

    kind: Literal["spinning"] = "spinning"
    elevation_deg: Even | tuple[float, ...] = Field(description="degrees above the horizon, from the top")
    offset_m: float | tuple[float, ...] = Field(
        0.0, description="height over the scan's origin at which a beam starts: one number, or one per beam"
    )
    azimuth_deg: float | tuple[float, ...] = Field(
        0.0, description="turn of a beam against the first: one number, or one per beam"
    )
    shots: int = Field(ge=16, le=8192, description="shots of a beam per full turn")
    marks: int | None = Field(
        None, description="angular marks per turn; a shot is then reported at the last mark passed (HDL-64E: 4000)"
    )
    sector_deg: Pair | None = Field(None, description="azimuth of the right and left end; none = full turn")
    clockwise: bool = Field(True, description="seen from above")

    @field_validator("elevation_deg")
    @classmethod
    def _some(cls, value: Even | tuple[float, ...]) -> Even | tuple[float, ...]:
        if isinstance(value, tuple) and not 1 <= len(value) <= 1024:
            raise ValueError("give 1 to 1024 elevations")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Spinning:
        for name in ("offset_m", "azimuth_deg"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.beams:
                raise ValueError(f"{name} has {len(value)} numbers for {self.beams} beams; give one, or one per beam")
        if self.marks is not None and np.any(self.azimuth_deg):
            raise ValueError("azimuth_deg has no effect with marks; leave one of them out")
        if self.sector_deg is not None and not -180.0 <= self.sector_deg[0] < self.sector_deg[1] <= 180.0:
            raise ValueError("sector_deg goes from the right end to the left end within -180 to 180")
        return self

    @property
    def beams(self) -> int:
        """Number of beams."""
        return self.elevation_deg.count if isinstance(self.elevation_deg, Even) else len(self.elevation_deg)

    def elevations(self) -> npt.NDArray[np.float64]:
        """Degrees above the horizon of every beam [B]."""
        if isinstance(self.elevation_deg, Even):
            return np.linspace(self.elevation_deg.top, self.elevation_deg.bottom, self.elevation_deg.count)
        return np.array(self.elevation_deg, dtype=np.float64)


class Raster(Settings):
    """A beam that mirrors lead through rows of a rectangle, as solid-state sensors do."""

    kind: Literal["raster"] = "raster"
    rows: int = Field(ge=2, le=1024)
    columns: int = Field(ge=2, le=8192)
    elevation_deg: Pair = Field(description="lowest and highest row")
    azimuth_deg: Pair = Field(description="right and left end of a row")
    bend_deg: float = Field(0.0, description="by how much the rows' ends lie above their middles")

    @property
    def beams(self) -> int:
        """Number of rows."""
        return self.rows


class Rosette(Settings):
    """A few beams behind two turning prisms: petals that never repeat, as in Livox sensors."""

    kind: Literal["rosette"] = "rosette"
    lines: int = Field(1, ge=1, le=64, description="beams that draw the petals together")
    shots: int = Field(ge=100, le=1_000_000, description="shots of all beams per scan")
    azimuth_deg: Pair
    elevation_deg: Pair
    turns: Pair = Field((121.0, -77.3), description="turns of the two prisms per scan")

    @property
    def beams(self) -> int:
        """Number of beams."""
        return self.lines


Pattern = Annotated[Spinning | Raster | Rosette, Field(discriminator="kind")]


class Blind(Settings):
    """Azimuths in which the sensor's own car hides everything from a ring."""

    ring: int = Field(ge=0)
    azimuth_deg: tuple[float, ...] = Field(description="from, to, from, to ... within 0 to 360")


class OwnCar(Settings):
    """The car that carries the sensor, as a rectangle below it that gives no return."""

    below_m: float = Field(gt=0, description="metres from the sensor down to the roof")
    front_m: float = Field(1.0, description="metres from the sensor to the roof's front edge")
    rear_m: float = 2.0
    side_m: float = 0.9


class Mount(Settings):
    """How the sensor sits on its vehicle."""

    height_m: float = Field(1.8, gt=0.1, le=10, description="over the road")
    pitch_rad: float = Field(0.0, ge=-1, le=1, description="by which the sensor looks down in front")
    roll_rad: float = Field(0.0, ge=-1, le=1, description="by which its right side is lowered")
    own_car: OwnCar | None = None
    blind: tuple[Blind, ...] = Field((), description="measured shadows of the own car, ring by ring")


class Ranging(Settings):
    """Distances: limits, errors and losses."""

    nearest_m: float = Field(0.5, ge=0, description="nothing is kept below")
    farthest_m: float = Field(80.8, gt=1, description="nothing is kept beyond; nothing is built beyond 88 m")
    labelled_m: float = Field(80.8, description="beyond, points carry no class")
    noise_m: Pair = Field((0.01, 0.02), description="of a single range (1 sigma), drawn per sensor within this")
    beam_bias_m: float = Field(0.01, ge=0, description="constant error of a beam's range (1 sigma over beams)")
    beam_tilt_deg: float = Field(0.0, ge=0, description="error of a beam's elevation (1 sigma over beams)")
    lost: float = Field(0.005, ge=0, lt=1, description="share of rays lost whatever they meet")
    weak_lost: float = Field(0.25, ge=0, lt=1, description="largest share lost where the signal is below 0.02")
    mixed: float = Field(
        0.3, ge=0, le=1, description="share of the shots over an edge (next one 0.15 to 3 m nearer) ranged in between"
    )


class Fade(Settings):
    """How the signal falls with distance: not at all, then along a line, and by a power."""

    from_m: float = 18.0
    over_m: float = Field(62.0, gt=0, description="metres over which a line from 1 would reach 0")
    least: float = Field(0.35, ge=0, le=1, description="where the line ends")
    lost_from_m: float = 24.0
    lost_over_m: float = Field(30.0, ge=0)
    lost_per_m: float = Field(0.0013, ge=0, description="subtracted per metre")
    power: float = Field(0.0, ge=0, le=4, description="signal times (10 m / range)^power beyond 10 m; 0 = compensated")


class IntensityResponse(Settings):
    """From the signal (0-1, as KITTI's HDL-64E reports it at short range) to what the sensor reports."""

    fade: Fade = Fade()
    grazing: float = Field(
        1.0, ge=0, le=2, description="1 = grazing incidence weakens the signal as for the HDL-64E, 0 = not at all"
    )
    gamma: float = Field(1.0, gt=0, le=10, description="shown = gain * signal^gamma + offset")
    gain: float = Field(1.0, gt=0)
    offset: float = 0.0
    retro: float = Field(1.0, gt=0, description="factor on retro-reflectors after all else")
    steps: int = Field(255, ge=1, le=65535, description="reported as whole steps of 1 / steps, at most 1")
    hundredths: bool = Field(False, description="as KITTI stored it: 0 to 0.99 in hundredths, through a byte")
    zero_below: float = Field(0.0, ge=0, description="a signal below this is reported as 0")
    zero_per_m: float = Field(0.0, ge=0, description="... and this much more for every metre from 20 to 48")
    contrast: tuple[float, ...] | None = Field(
        None, description="per beam, by how much asphalt (0.285) appears darker than to the mean beam; none = 0"
    )
    contrast_spread: float = Field(0.01, ge=0, description="more of it, drawn per beam (1 sigma)")


class Lidar(Settings):
    """One LiDAR."""

    name: str
    source: str = Field(description="where the figures come from")
    pattern: Pattern
    mount: Mount = Mount()
    ranging: Ranging = Ranging()
    intensity: IntensityResponse = IntensityResponse()
    compensated: bool = Field(True, description="the motion during a scan is undone, as in KITTI's scans")
    scan_share: float = Field(1.0, ge=0, le=1, description="share of a scan's period in which the shots are fired")

    @model_validator(mode="after")
    def _fits(self) -> Lidar:
        beams = self.pattern.beams
        contrast = self.intensity.contrast
        if contrast is not None and len(contrast) != beams:
            raise ValueError(f"intensity.contrast has {len(contrast)} numbers for {beams} beams; give one per beam")
        for blind in self.mount.blind:
            if blind.ring >= beams or len(blind.azimuth_deg) % 2:
                raise ValueError(f"mount.blind: ring {blind.ring} of {beams} beams needs pairs of azimuths")
            for low, high in zip(blind.azimuth_deg[::2], blind.azimuth_deg[1::2], strict=True):
                if not 0.0 <= low <= high <= 360.0:
                    raise ValueError(
                        f"mount.blind: ring {blind.ring}: azimuths {low:g} to {high:g} do not rise within 0 to 360; "
                        "give those about the front as two pairs, such as 0, 10, 350, 360"
                    )
        return self
