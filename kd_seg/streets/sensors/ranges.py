"""Sensors that nobody builds: drawn within stated ranges, so that a student learns to rely on none in particular."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from kd_seg.core.config import Settings, config_folders, find_config, read_yaml, validate
from kd_seg.core.errors import ConfigError
from kd_seg.streets.sensors.settings import (
    Fade,
    IntensityResponse,
    Lidar,
    Mount,
    OwnCar,
    Pair,
    Pattern,
    Ranging,
    Raster,
    Rosette,
    Spinning,
)

ASPHALT = 0.28
"""Signal of asphalt on the scale of IntensityResponse: the median remission of roads in SemanticKITTI."""

CHOICES = ("known", "beams", "steps")
"""Fields that list what is drawn from, in any order; the other pairs are bounds."""


class LidarRanges(Settings):
    """Ranges to draw sensors from; pairs are lower and upper bounds."""

    kind: Literal["ranges"]
    name: str
    known: tuple[str, ...] = Field((), description="sensor files to draw from")
    whole_share: float = Field(0.3, ge=0, le=1, description="share of known sensors as they are")
    known_share: float = Field(0.4, ge=0, le=1, description="share of sensors with a known pattern, the rest drawn")
    raster_share: float = Field(0.15, ge=0, le=1, description="of the others: rows and columns, as solid-state sensors")
    rosette_share: float = Field(0.1, ge=0, le=1, description="of the others: petals")
    sector_share: float = Field(0.15, ge=0, le=1, description="of the spinning ones: a sector instead of a full turn")
    beams: tuple[int, ...] = (16, 20, 32, 40, 64, 80, 128)
    shots: tuple[int, int] = Field((900, 2200), description="per beam and full turn")
    most: int = Field(140_000, ge=1000, description="shots per scan; fewer per beam where there would be more")
    top_deg: Pair = (2.0, 22.0)
    bottom_deg: Pair = (-32.0, -14.0)
    gathered: Pair = Field((0.0, 0.85), description="0 = beams at equal steps, 1 = gathered about the horizon")
    sector_deg: Pair = Field((60.0, 180.0), description="width of a sector")
    height_m: Pair = (1.2, 2.6)
    tilt_rad: float = Field(0.02, ge=0, description="pitch and roll (1 sigma)")
    own_car_share: float = Field(0.5, ge=0, le=1)
    noise_m: Pair = (0.005, 0.03)
    beam_bias_m: Pair = (0.0, 0.03)
    lost: Pair = Field((0.002, 0.08), description="drawn evenly in the logarithm")
    asphalt: Pair = Field((0.01, 0.5), description="intensity that asphalt is reported with, evenly in the logarithm")
    gamma: Pair = Field((0.5, 4.0), description="evenly in the logarithm")
    power: Pair = Field((0.0, 2.0), description="fall of the intensity with range where it is not compensated")
    compensated_share: float = Field(0.6, ge=0, le=1)
    grazing: Pair = (0.2, 1.0)
    offset: Pair = Field((0.0, 0.5), description="of the intensity, in units of asphalt's")
    retro: Pair = (1.0, 6.0)
    steps: tuple[int, ...] = (100, 255, 255, 4095, 65535)
    contrast_spread: Pair = (0.0, 0.05)

    @field_validator("*")
    @classmethod
    def _ordered(cls, value: object, info: ValidationInfo) -> object:
        if (
            info.field_name not in CHOICES
            and isinstance(value, tuple)
            and len(value) == 2
            and all(isinstance(v, (int, float)) for v in value)
        ):
            low, high = value
            if low > high:
                raise ValueError(f"{low} to {high} is no range; give the lower bound first")
        return value

    @field_validator("lost", "asphalt", "gamma")
    @classmethod
    def _positive(cls, value: Pair) -> Pair:
        if value[0] <= 0:
            raise ValueError(f"{value[0]:g} has no logarithm; give bounds above 0")
        return value

    def draw(self, rng: np.random.Generator) -> Lidar:
        """One sensor; equal generators draw equal sensors. ConfigError where the ranges lead to one that cannot be."""
        try:
            return self._draw(rng)
        except ValidationError as error:
            fault = error.errors()[0]
            key, reason = ".".join(str(part) for part in fault["loc"]) or "the sensor", fault["msg"]
            raise ConfigError(
                f"Sensor {self.name}, as drawn: {key}: {reason[0].lower()}{reason[1:]}; change its ranges."
            ) from None

    def _draw(self, rng: np.random.Generator) -> Lidar:
        kind = rng.random()
        if self.known and kind < self.whole_share:
            return self._known(rng)
        borrowed = bool(self.known) and kind < self.whole_share + self.known_share
        pattern = self._known(rng).pattern if borrowed else self._pattern(rng)
        return Lidar(
            name=f"{self.name}: {pattern.kind}, {pattern.beams} beams",
            source="drawn at random",
            pattern=pattern,
            mount=self._mount(rng),
            ranging=Ranging(
                noise_m=(low := float(rng.uniform(*self.noise_m)), low),
                beam_bias_m=float(rng.uniform(*self.beam_bias_m)),
                lost=_logarithmic(self.lost, rng),
            ),
            intensity=self._intensity(rng),
        )

    def _known(self, rng: np.random.Generator) -> Lidar:
        name = str(rng.choice(self.known))
        known = load_sensor(name)
        if not isinstance(known, Lidar):
            raise ConfigError(f"Sensor {self.name}: known: {name} holds ranges; name files of single sensors.")
        return known

    def _pattern(self, rng: np.random.Generator) -> Pattern:
        kind = rng.random()
        top, bottom = float(rng.uniform(*self.top_deg)), float(rng.uniform(*self.bottom_deg))
        half = float(rng.uniform(*self.sector_deg)) / 2
        beams = int(rng.choice(self.beams))
        if kind < self.raster_share:
            columns = min(int(rng.integers(400, 1200)), self.most // beams)
            return Raster(rows=beams, columns=columns, elevation_deg=(bottom, top), azimuth_deg=(-half, half))
        if kind < self.raster_share + self.rosette_share:
            turns = (float(rng.uniform(80, 200)), float(rng.uniform(-90, -40)))
            shots = min(int(rng.integers(20_000, 60_000)), self.most)
            return Rosette(
                lines=int(rng.choice((1, 4, 6))), shots=shots, azimuth_deg=(-half, half), elevation_deg=(bottom, top),
                turns=turns,
            )  # fmt: skip
        return Spinning(
            elevation_deg=_gathered(top, bottom, beams, float(rng.uniform(*self.gathered))),
            shots=max(min(int(rng.integers(self.shots[0], self.shots[1] + 1)), self.most // beams), 16),
            sector_deg=(-half, half) if rng.random() < self.sector_share else None,
            clockwise=bool(rng.random() < 0.5),
        )

    def _mount(self, rng: np.random.Generator) -> Mount:
        height = float(rng.uniform(*self.height_m))
        pitch, roll = (float(v) for v in rng.normal(0.0, self.tilt_rad, 2))
        car = OwnCar(below_m=float(rng.uniform(0.3, 0.7)), front_m=float(rng.uniform(0.4, 1.6)))
        return Mount(
            height_m=height, pitch_rad=pitch, roll_rad=roll, own_car=car if rng.random() < self.own_car_share else None
        )

    def _intensity(self, rng: np.random.Generator) -> IntensityResponse:
        gamma, asphalt = _logarithmic(self.gamma, rng), _logarithmic(self.asphalt, rng)
        offset = float(rng.uniform(*self.offset))
        compensated = rng.random() < self.compensated_share
        return IntensityResponse(
            fade=Fade(
                least=float(rng.uniform(0.35, 1.0)) if compensated else 0.35,
                lost_per_m=0.0013 if rng.random() < 0.5 else 0.0,
                power=0.0 if compensated else float(rng.uniform(*self.power)),
            ),
            grazing=float(rng.uniform(*self.grazing)),
            gamma=gamma,
            gain=(1.0 - offset) * asphalt / ASPHALT**gamma,
            offset=offset * asphalt,
            retro=float(rng.uniform(*self.retro)),
            steps=int(rng.choice(self.steps)),
            zero_below=float(rng.choice((0.0, 0.0, 0.03))),
            contrast_spread=float(rng.uniform(*self.contrast_spread)),
        )


def load_sensor(name: str) -> Lidar | LidarRanges:
    """A sensor, or ranges to draw one from, by the name of a file in ``configs/sensors`` or a path.

    Raises:
        ConfigError: there is no such file, or it is wrong; the sentence names the file and key, or the known names.
    """
    path = _sensor_path(name)
    content = read_yaml(path)
    if content.get("kind") == "ranges":
        return validate(LidarRanges, content, str(path))
    if "pattern" not in content:
        raise ConfigError(
            f"{path} has no section 'pattern', so it describes no LiDAR; kd-seg calibrate --sensor-out writes a file "
            "that does."
        )
    return validate(Lidar, content, str(path))


def _sensor_path(name: str) -> Path:
    for candidate in (f"sensors/{name}", name):
        with contextlib.suppress(ConfigError):
            return find_config(candidate)
    known = sorted({path.stem for folder in config_folders() for path in (folder / "sensors").glob("*.yaml")})
    raise ConfigError(
        f"There is no sensor {name!r}: no such file is here, and the shipped ones are {', '.join(known)}."
    )


def _logarithmic(bounds: Pair, rng: np.random.Generator) -> float:
    low, high = np.log(bounds)
    return float(np.exp(rng.uniform(low, high)))


def _gathered(top: float, bottom: float, beams: int, gathered: float) -> tuple[float, ...]:
    """Elevations in degrees from ``top`` to ``bottom``, denser about the horizon the higher ``gathered`` is."""
    place = np.linspace(1.0, -1.0, beams)
    place = (1.0 - gathered) * place + gathered * place**3
    return tuple(float(round(v, 3)) for v in np.where(place > 0, place * top, -place * bottom))
