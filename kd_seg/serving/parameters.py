"""The parameters of serving, once: the node declares them, the bag tool and offline prediction read the same names.

``configs/ros/parameters.yaml`` shows them with comments.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_seg.core.config_files import read_yaml
from kd_seg.core.errors import ConfigError
from kd_seg.core.hints import nearest
from kd_seg.core.yaml_text import parse_value
from kd_seg.scans import FileFormat
from kd_seg.serving.pointcloud2 import DEFAULT_INTENSITY_FIELDS, Limits
from kd_seg.serving.sensor_input import SensorSettings

KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "int": int,
    "double": float,
    "bool": bool,
    "strings": (list, tuple),
    "doubles": (list, tuple, array),
    "switch": (bool, str),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        kind: a key of ``KINDS``.
        lower, upper: inclusive range of a number.
        choices: legal values of a string, or None; a pattern is matched whole.
        dynamic: may change while the node runs; the others only while it is unconfigured.
    """

    name: str
    kind: str
    default: Any
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: str | None = None
    dynamic: bool = False

    def problem(self, value: Any) -> str | None:
        """Why a value cannot be taken, as one sentence, or None."""
        if not self._fits(value):
            return f"{self.name} must be {_article(self.kind)}, got {value!r}{_double_hint(self, value)}"
        if self.lower is not None and self.upper is not None and not self.lower <= value <= self.upper:
            return f"{self.name} is {value}, allowed are {self.lower:g} to {self.upper:g}"
        if self.choices is not None and isinstance(value, str) and re.fullmatch(self.choices, value) is None:
            if self.kind == "switch":
                return f"{self.name} is {value!r}, allowed are true, false, {self.choices}"
            return f"{self.name} is {value!r}, allowed are {self.choices.replace('|', ', ').replace('[0-9]+', 'N')}"
        if self.kind == "strings" and not all(isinstance(item, str) for item in value):
            return f"{self.name} must be a list of strings, got {value!r}"
        if self.kind == "doubles":
            return self._list_problem(value)
        if self.name == "input.intensity_fields" and not 1 <= len([n for n in value if n]) <= 16:
            return f"{self.name} needs 1 to 16 field names, got {len([n for n in value if n])}"
        return None

    def _list_problem(self, value: Any) -> str | None:
        if not all(isinstance(item, float) for item in value):
            return f"{self.name} must be a list of doubles, got {list(value)!r}; write each with a point, such as 1.0"
        if len(value) != len(self.default):
            return f"{self.name} needs {len(self.default)} numbers, got {len(value)}"
        lowest, highest = value[: len(value) // 2], value[len(value) // 2 :]
        if list(lowest) != list(highest) and not all(low < high for low, high in zip(lowest, highest, strict=True)):
            return f"{self.name} is {list(value)}; its first corner must lie below the second on every axis"
        return None

    def _fits(self, value: object) -> bool:
        number = self.kind in {"int", "double"}
        return isinstance(value, KINDS[self.kind]) and not (number and isinstance(value, bool))


def _article(kind: str) -> str:
    special = {
        "int": "an integer",
        "strings": "a list of strings",
        "doubles": "a list of doubles",
        "switch": "true, false or a word",
    }
    return special.get(kind, f"a {kind}")


def _double_hint(parameter: Parameter, value: Any) -> str:
    if parameter.kind == "double" and isinstance(value, int) and not isinstance(value, bool):
        return f"; write {value}.0"
    return ""


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "checkpoint",
        "string",
        "",
        "Checkpoint, run folder, or taught, general or hdl64e, which are shipped; empty = taught.",
    ),
    Parameter("device", "string", "auto", "Where the network runs.", choices="auto|cpu|cuda|cuda:[0-9]+"),
    Parameter("precision", "string", "auto", "fp16 needs CUDA; auto uses it there.", choices="auto|fp32|fp16"),
    Parameter("num_threads", "int", 0, "CPU threads of the network; 0 = all cores; 1 where they are shared.", 0, 64),
    Parameter("autostart", "bool", False, "Configure and activate without being asked."),
    Parameter("exit_on_autostart_failure", "bool", False, "Exit with code 3 when autostart fails."),
    Parameter("warmup_frames", "int", 3, "Made-up clouds run while configuring.", 0, 100),
    Parameter("warmup_points", "int", 120_000, "Points of each of them.", 1000, 2_000_000),
    Parameter("qos_depth", "int", 5, "Queue of the input subscription.", 1, 100),
    Parameter(
        "input_reliable",
        "switch",
        "auto",
        "Subscribe reliably; a best-effort driver then never connects. auto: as every publisher offers.",
        choices="auto",
    ),
    Parameter("output_reliable", "bool", True, "Publish the clouds reliably; serves every subscriber."),
    Parameter(
        "input.intensity_fields",
        "strings",
        list(DEFAULT_INTENSITY_FIELDS),
        "Names of the intensity field, 1 to 16; the first present is used.",
    ),
    Parameter(
        "input.intensity_range",
        "string",
        "byte",
        "Range of the driver's intensity: unit = 0..1, byte = 0..255, uint16 = 0..65535.",
        choices="unit|byte|uint16",
        dynamic=True,
    ),
    Parameter(
        "input.z_offset_m",
        "double",
        0.0,
        "Added to z; published z stays.",
        -10.0,
        10.0,
        dynamic=True,
    ),
    Parameter(
        "input.intensity_gain",
        "double",
        1.0,
        "Factor on the intensity once it is 0..1; clipped to 0..1.",
        0.001,
        1000.0,
        dynamic=True,
    ),
    Parameter(
        "input.roll_deg",
        "double",
        0.0,
        "Roll of the sensor against the ground, undone for the network; right side down is positive.",
        -90.0,
        90.0,
        dynamic=True,
    ),
    Parameter(
        "input.pitch_deg",
        "double",
        0.0,
        "Pitch of the sensor against the ground, undone for the network; nose down is positive.",
        -90.0,
        90.0,
        dynamic=True,
    ),
    Parameter(
        "input.own_vehicle",
        "doubles",
        [0.0] * 6,
        "Box x y z, x y z (metres, sensor frame) whose points get no class; all 0 = off.",
        dynamic=True,
    ),
    Parameter("input.zero_is_invalid", "bool", True, "A point at exactly (0,0,0) is a missing return.", dynamic=True),
    Parameter("input.max_points", "int", 2_000_000, "Larger clouds are rejected.", 1, 20_000_000, dynamic=True),
    Parameter("input.max_age_s", "double", 0.0, "Older clouds are rejected; 0 = off.", 0.0, 60.0, dynamic=True),
    Parameter("input.require_frame_id", "bool", False, "Reject clouds without a frame_id.", dynamic=True),
    Parameter("filter.classes", "strings", [""], "Class names left out of ~/output/filtered; '' = none.", dynamic=True),
    Parameter("filter.remove_invalid", "bool", True, "Leave out points of class 255 there too.", dynamic=True),
    Parameter("max_processing_ms", "double", 100.0, "Longer frames give a warning.", 1.0, 10_000.0, dynamic=True),
    Parameter("max_delay_s", "double", 2.0, "Too long for longer than this is an error.", 0.1, 600.0, dynamic=True),
    Parameter("input_timeout_s", "double", 2.0, "No input for longer than this is an error.", 0.1, 600.0, dynamic=True),
    Parameter("max_drop_ratio", "double", 0.2, "More dropped of the last 100 is a warning.", 0.0, 1.0, dynamic=True),
    Parameter("diagnostics_period_s", "double", 1.0, "Seconds between diagnostics.", 0.1, 60.0, dynamic=True),
    Parameter("stop_timeout_s", "double", 5.0, "Longest wait for a frame in hand when stopping.", 0.1, 60.0),
)
BY_NAME: dict[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}

FILE_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("input.columns", "int", 0, "Numbers per point of .bin files; 0 = 4, checked against the file.", 0, 4096),
    Parameter(
        "input.dtype",
        "string",
        "auto",
        "Type of .bin files' numbers; auto = float32, checked against the file.",
        choices="auto|float32|float64|float32_be|float64_be",
    ),
)
"""What kd-seg predict and eval take besides the node's parameters, for files."""

OFFLINE: dict[str, Parameter] = {**BY_NAME, **{parameter.name: parameter for parameter in FILE_PARAMETERS}}


@dataclass(frozen=True)
class InputSettings:
    """The parameters that decide what becomes of one cloud."""

    sensor: SensorSettings = field(default_factory=SensorSettings)
    limits: Limits = field(default_factory=Limits)
    filter_classes: tuple[str, ...] = ()
    remove_invalid: bool = True
    intensity_fields: tuple[str, ...] = DEFAULT_INTENSITY_FIELDS


def cloud_settings(values: Mapping[str, Any]) -> InputSettings:
    """Settings from parameter values by name; a name left out has its default. Values are taken as valid."""

    def value(name: str) -> Any:
        return values.get(name, BY_NAME[name].default)

    return InputSettings(
        sensor=SensorSettings(
            str(value("input.intensity_range")),
            float(value("input.z_offset_m")),
            bool(value("input.zero_is_invalid")),
            float(value("input.intensity_gain")),
            float(value("input.roll_deg")),
            float(value("input.pitch_deg")),
            tuple(float(number) for number in value("input.own_vehicle")),
        ),
        limits=Limits(
            int(value("input.max_points")), float(value("input.max_age_s")), bool(value("input.require_frame_id"))
        ),
        filter_classes=tuple(name for name in value("filter.classes") if name),
        remove_invalid=bool(value("filter.remove_invalid")),
        intensity_fields=tuple(name for name in value("input.intensity_fields") if name),
    )


FOR_FILES = {
    "checkpoint", "device", "precision", "num_threads", "input.intensity_fields", "input.intensity_range",
    "input.intensity_gain", "input.z_offset_m", "input.roll_deg", "input.pitch_deg", "input.own_vehicle",
    "input.zero_is_invalid", "input.max_points", "input.columns", "input.dtype",
}  # fmt: skip
"""Parameters that decide what becomes of a point file."""

FOR_BAGS = (FOR_FILES - {parameter.name for parameter in FILE_PARAMETERS}) | {
    "input.max_age_s", "input.require_frame_id", "filter.classes", "filter.remove_invalid"
}  # fmt: skip
"""Parameters that decide what becomes of a bag's clouds."""

LAYOUT = frozenset({"input.intensity_fields", "input.columns", "input.dtype"})
"""Parameters that decide how point files are read; of a bag the first alone."""


def check_apply(overrides: list[str], known: AbstractSet[str], what: str) -> None:
    """ConfigError where ``name=value`` names a parameter that cannot matter to ``what``."""
    for override in overrides:
        name = override.partition("=")[0].strip()
        if name in OFFLINE and name not in known:
            raise ConfigError(f"--set {name} does not apply to {what}; known: {', '.join(sorted(known))}.")


def point_format(values: Mapping[str, Any]) -> FileFormat:
    """How point files lie, from ``input.columns``, ``input.dtype`` and ``input.intensity_fields``."""
    fields = tuple(name for name in values.get("input.intensity_fields", ()) if name)
    return FileFormat(int(values.get("input.columns", 0)), str(values.get("input.dtype", "auto")), fields)


def file_format(values: Mapping[str, Any]) -> FileFormat:
    """How .bin files lie, from ``input.columns`` and ``input.dtype`` alone; ConfigError names any other parameter."""
    others = sorted(values.keys() - {parameter.name for parameter in FILE_PARAMETERS})
    if others:
        known = ", ".join(parameter.name for parameter in FILE_PARAMETERS)
        raise ConfigError(f"--set: {others[0]} does not apply here; known: {known}.")
    return point_format(values)


def read_parameters(path: Path | None, overrides: list[str] | None = None) -> dict[str, Any]:
    """Values by name from the node's parameter YAML and ``name=value`` overrides; ConfigError names what is wrong.

    The file is keyed by node name and ``ros__parameters``; dotted and nested names both work. A named node's part goes
    before that of all nodes (``/**``), as in ROS. Nodes that differ in a parameter are an error: nobody says which of
    them is meant.
    """
    values: dict[str, Any] = {}
    if path is not None:
        for_all: dict[str, Any] = {}
        for node, content in read_yaml(path, inherit=False).items():
            inner = content.get("ros__parameters") if isinstance(content, dict) else None
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"{path}: its key {node!r} holds no ros__parameters, so it is no parameter file of a node; "
                    "kd-seg calibrate --out writes one, and configs/ros/parameters.yaml is a model."
                )
            part = for_all if "*" in str(node) else values
            for name, value in _flat(inner).items():
                if name == "use_sim_time":
                    continue
                if name in part and part[name] != value:
                    raise ConfigError(f"{path}: {node} and a node before it differ in {name}; keep one node's part.")
                part[name] = _checked(name, value, f"{path}: ")
        values = {**for_all, **values}
    for override in overrides or []:
        name, equals, text = override.partition("=")
        name = name.strip()
        if not equals:
            raise ConfigError(f"--set {override!r} is not of the form name=value, such as input.intensity_range=unit.")
        value = parse_value(text, f"--set {override!r}")
        known = OFFLINE.get(name)
        if known is not None and known.kind == "double" and type(value) is int:
            value = float(value)
        values[name] = _checked(name, value, "--set: ")
    return values


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def _checked(name: str, value: Any, where: str) -> Any:
    parameter = OFFLINE.get(name)
    if parameter is None:
        near = nearest(name, list(OFFLINE))
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(OFFLINE)}."
        raise ConfigError(f"{where}unknown parameter {name!r}; {hint}")
    problem = parameter.problem(value)
    if problem is not None:
        raise ConfigError(f"{where}{problem}.")
    return value
