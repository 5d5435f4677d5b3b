"""The configuration file of a training run: every section and key of a training configuration, with its default."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kd_seg.core.config import Settings, apply_overrides, find_config, read_yaml, validate
from kd_seg.core.errors import ConfigError
from kd_seg.instances.paste import PasteSettings
from kd_seg.instances.settings import FusionSettings
from kd_seg.networks import Encoding
from kd_seg.objectives import OBJECTIVES
from kd_seg.scans import IntensityRange
from kd_seg.training.intensity import IntensitySettings
from kd_seg.training.mixing import MixSettings
from kd_seg.voxels import FEATURE_WIDTHS, CartesianGrid, CylindricalGrid, Grid

Triple = tuple[float, float, float]


class LidarSettings(Settings):
    """The LiDAR that recorded the data; stored in the checkpoint so that a vehicle can compare."""

    intensity_range: IntensityRange = Field(
        "unit", description="of the data's .bin files: unit 0-1, byte 0-255, uint16 0-65535; they are read as 0-1"
    )
    sensor_height_m: float = 1.73
    range_m: float = 80.8
    fov_up_deg: float = 3.0
    fov_down_deg: float = -25.0


class DataSettings(Settings):
    """What to train on."""

    root: str = Field("datasets/streets", description="folder that holds sequences/")
    train: list[str] | None = Field(None, description="training sequences; none given = all that are not in valid")
    valid: list[str] = Field(default_factory=list, description="sequences that kd-seg eval scores by default")
    select: list[str] = Field(
        default_factory=list, description="sequences of train held back to choose checkpoints/best on"
    )
    classes: str = Field("semantic_kitti_19", description="class table: a name in configs/classes, or a YAML file")
    labels: float = Field(1.0, gt=0, le=1, description="fraction of the training scans whose labels may be used")
    unlabelled: list[str] = Field(
        default_factory=list,
        description="sequences to learn from without labels, which are never opened (SemanticKITTI: 11 to 21)",
    )
    predicted: list[str] = Field(
        default_factory=list,
        description="sequences of train whose labels are predictions, with * for any letters (kd-seg adapt: drive_*)",
    )
    labelled_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="least share of labelled scans among those drawn, where unlabelled or predicted ones are learned "
        "from too; they come as often as it takes",
    )
    predicted_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="least share of the scans of predicted among those drawn, where a drive is short",
    )
    cache: str | None = Field(
        None, description="folder of libraries and teacher caches; default kd_seg_cache in root (give one if read-only)"
    )
    columns: int = Field(0, ge=0, le=4096, description="numbers per point of .bin files; 0 = 4, checked against them")
    dtype: Literal["auto", "float32", "float64", "float32_be", "float64_be"] = Field(
        "auto", description="type of .bin files' numbers; auto = float32, checked against them"
    )
    sensor: LidarSettings = LidarSettings()
    licence: str = Field("unspecified", description="licence that the weights inherit from the data")

    @field_validator("root", "cache")
    @classmethod
    def _at_home(cls, value: str | None) -> str | None:
        """``~`` is the home folder, as in a shell."""
        return os.path.expanduser(value) if value is not None else None

    @field_validator("train", "valid", "select", "unlabelled", "predicted", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """YAML reads 04 as a number; sequences are two-digit names."""
        if isinstance(value, list):
            return [f"{item:02d}" if isinstance(item, int) else item for item in value]
        return value


class GridSettings(Settings):
    """Where voxels are."""

    kind: Literal["cartesian", "cylindrical"] = "cartesian"
    voxel_size: float | Triple = Field(0.1, description="cartesian: metres per axis")
    cells: tuple[int, int, int] = Field((816, 368, 48), description="cylindrical: cells along rho, phi, z")
    lower: Triple | None = Field(None, description="lower corner (m; cylindrical: m, rad, m); default by kind")
    upper: Triple | None = Field(None, description="upper corner")
    clamp: bool = Field(
        False, description="points beyond the range count to the border cells, of which the last begin at upper"
    )

    @model_validator(mode="after")
    def _builds(self) -> GridSettings:
        """Every fault of a grid is told when it is read, not when it is used."""
        self.build()
        return self

    def build(self) -> Grid:
        """The grid."""
        if self.kind == "cylindrical":
            pi = 3.141592653589793
            corners = self.lower or (0.0, -pi, -6.4), self.upper or (81.6, pi, 3.2)
            return CylindricalGrid(self.cells, *corners, self.clamp)
        size = self.voxel_size if isinstance(self.voxel_size, tuple) else (self.voxel_size,) * 3
        if min(size) <= 0:
            raise ConfigError(f"grid.voxel_size is {self.voxel_size}; give metres above 0.")
        lower, upper = self.lower or CartesianGrid.lower, self.upper or CartesianGrid.upper
        return CartesianGrid(size, lower, upper, self.clamp)


class StudentSettings(Settings):
    """The network to train."""

    network: str = "unet"
    size: str = "nano"
    features: tuple[str, ...] = Field(("xyz", "remission", "offset"), min_length=1)
    input: Literal["own", "fused", "mixed"] = Field(
        "own", description="fused: train a multi-scan teacher on fused clouds; mixed: on single scans half of the time"
    )
    init: str | None = Field(None, description="checkpoint or run folder to start from; what fits is loaded")

    @field_validator("features")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in FEATURE_WIDTHS:
                raise ValueError(f"unknown point feature {name!r}; known: {', '.join(FEATURE_WIDTHS)}")
        return value


class AugmentSettings(Settings):
    """One random transform for all rows of a sample, and what is done before it."""

    rotation_deg: float = Field(180.0, ge=0, le=180, description="yaw drawn from +-rotation_deg")
    flip: bool = Field(True, description="flip x, y, both or none, a quarter each")
    scale: float = Field(0.05, ge=0, lt=1, description="factor drawn from 1 +- scale")
    translation_m: Triple = Field((0.1, 0.1, 0.1), description="standard deviation per axis")
    jitter_m: float = Field(0.0, ge=0, description="standard deviation per point; each cloud draws its own up to this")
    drop: float = Field(0.0, ge=0, lt=1, description="share of the student's points left out, drawn up to this")
    remission_noise: float = Field(0.0, ge=0, description="standard deviation of a gain and an offset on remission")
    intensity: IntensitySettings | None = Field(None, description="intensities as other sensors would report them")
    paste: PasteSettings | None = Field(None, description="copy-paste of library instances, before mixing")
    mix: MixSettings | None = Field(None, description="LaserMix or PolarMix with a second scan")


class OptimSettings(Settings):
    """Optimiser and schedule."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(2e-3, gt=0)
    backbone_lr: float = Field(
        1.0, gt=0, le=1, description="share of lr for all layers before the head; below 1 to fine-tune student.init"
    )
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd (Nesterov)")
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup: float = Field(0.04, ge=0, lt=1, description="share of the steps with rising learning rate")
    final_lr: float = Field(1e-3, ge=0, le=1, description="last learning rate as a share of lr")
    clip: float = Field(10.0, ge=0, description="largest gradient norm; 0 = off")
    accumulation: int = Field(1, ge=1, description="batches per optimiser step")
    amp: bool = Field(False, description="float16 autocast on CUDA; no effect on a CPU, which lacks it")


class RunSettings(Settings):
    """Where and how long."""

    folder: str | None = Field(None, description="run folder; default runs/<name of the config file>")
    seed: int = Field(0, ge=0, lt=1 << 63)
    epochs: float | None = Field(None, gt=0, description="length of the run; or steps")
    steps: int | None = Field(None, gt=0)
    minutes: float | None = Field(None, gt=0, description="length by the clock instead; not reproducible, for budgets")
    batch: int = Field(2, ge=1, description="scans per batch and process")
    workers: int = Field(1, ge=0)
    threads: int = Field(0, ge=0, le=1024, description="threads of the network; 0 = the library's default")
    log_every: int = Field(10, ge=1)
    save_every: int = Field(200, ge=1, description="steps between two saves of last and state")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class TrainingConfig(Settings):
    """A whole training configuration."""

    purpose: str = Field("", description="one line: why this file exists")
    data: DataSettings = DataSettings()
    grid: GridSettings = GridSettings()
    student: StudentSettings = StudentSettings()
    objectives: list[Any] = Field(default_factory=lambda: [{"kind": "supervised"}])
    fusion: FusionSettings = FusionSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    run: RunSettings = RunSettings()

    @field_validator("objectives", mode="before")
    @classmethod
    def _objectives(cls, value: Any) -> list[Any]:
        """Each entry is validated by the settings model of its kind."""
        if not isinstance(value, list) or not value:
            raise ValueError("give a list with at least one objective, such as [{kind: supervised}]")
        built = []
        for number, entry in enumerate(value):
            if isinstance(entry, Settings):
                built.append(entry)
                continue
            if not isinstance(entry, dict) or "kind" not in entry:
                raise ValueError(f"entry {number} needs a kind; known kinds: {', '.join(OBJECTIVES.names())}")
            model = OBJECTIVES.get(str(entry["kind"])).Settings
            try:
                built.append(validate(model, entry, f"entry {number} ({entry['kind']})"))
            except ConfigError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return built

    def encoding(self) -> Encoding:
        """Grid and point features of the student."""
        return Encoding(self.grid.build(), self.student.features)

    def to_plain(self) -> dict[str, Any]:
        """Plain data with every default, as written to ``config.yaml``."""
        content: dict[str, Any] = json.loads(self.model_dump_json(exclude={"objectives"}))
        content["objectives"] = [json.loads(entry.model_dump_json()) for entry in self.objectives]
        return content

    def changed(self) -> dict[str, Any]:
        """Plain data without keys that have their default: the same in every release that has these keys."""
        content: dict[str, Any] = json.loads(self.model_dump_json(exclude={"objectives"}, exclude_defaults=True))
        own = [json.loads(entry.model_dump_json(exclude_defaults=True)) for entry in self.objectives]
        kinds = [{"kind": entry.kind} for entry in self.objectives]
        content["objectives"] = [{**kind, **entry} for kind, entry in zip(kinds, own, strict=True)]
        return content


def read_training_config(name: str | Path, overrides: list[str]) -> TrainingConfig:
    """The config in a config file with ``key=value`` overrides applied; ConfigError names file and key."""
    path = find_config(name)
    content = read_yaml(path)
    if {"rows", "seeds"} <= content.keys():
        raise ConfigError(f"{path} is a sweep of several trainings; run kd-seg sweep {name}.")
    content = apply_overrides(content, overrides)
    source = f"{path} with overrides" if overrides else str(path)
    config = validate(TrainingConfig, content, source)
    if config.run.folder is None:
        run = config.run.model_copy(update={"folder": f"runs/{path.stem}"})
        config = config.model_copy(update={"run": run})
    lengths = [config.run.epochs, config.run.steps, config.run.minutes]
    if sum(length is not None for length in lengths) != 1:
        raise ConfigError(f"{source}: run: give exactly one of epochs, steps and minutes.")
    return config
