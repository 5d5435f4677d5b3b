"""From figures of a sensor to the node's parameter file, with a reason for every line, and to warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kd_seg.drives.calibration.figures import SensorFigures
from kd_seg.scans import Sensor

SMALL_TILT_DEG = 2.0
"""Roads are banked by one to two degrees: a smaller tilt may be the road's, not the sensor's."""

SMALL_OFFSET_M = 0.1
UNSTEADY_DEG = 1.0


@dataclass(frozen=True)
class ParameterLine:
    """One parameter of the file: its name below ``input``, its value, and why."""

    name: str
    value: object
    reason: str


def parameter_lines(
    figures: SensorFigures, sensor: Sensor, intensity_fields: Sequence[str] = ()
) -> list[ParameterLine]:
    """The parameters that the figures ask for, each with its reason.

    Args:
        sensor: what the checkpoint was trained for.
        intensity_fields: the fields that the intensities were read from; empty = none was chosen.
    """
    intensity, ground = figures.intensity, figures.ground
    lines = []
    if intensity_fields:
        lines.append(ParameterLine("intensity_fields", list(intensity_fields), "the field that was read"))
    lines.append(
        ParameterLine(
            "intensity_range",
            intensity.range,
            f"99 % of the intensities are below {intensity.quantiles[4]:.4g}, the largest {intensity.quantiles[5]:.4g}",
        )
    )
    if not intensity.constant:
        reason = f"their median {intensity.quantiles[2]:.4g} becomes that of the data the shipped students know"
        lines.append(ParameterLine("intensity_gain", round(intensity.gain, 3), reason))
    if ground is not None:
        offset = ground.height_m - sensor.sensor_height_m
        if max(abs(ground.roll_deg), abs(ground.pitch_deg)) >= SMALL_TILT_DEG:
            reason = f"the ground is tilted so in {ground.clouds} clouds (spread {ground.spread_deg:.2f} deg)"
            lines.append(ParameterLine("roll_deg", round(ground.roll_deg, 2), reason))
            lines.append(ParameterLine("pitch_deg", round(ground.pitch_deg, 2), reason))
        if abs(offset) >= SMALL_OFFSET_M:
            expected = f"the checkpoint expects {sensor.sensor_height_m:.2f} m"
            reason = f"the sensor is {ground.height_m:.2f} m above the ground, {expected}"
            lines.append(ParameterLine("z_offset_m", round(offset, 2), reason))
    if figures.own_vehicle is not None:
        box = figures.own_vehicle
        reason = f"{100 * box.share:.1f} % of the returns come from the vehicle itself and get no class"
        lines.append(ParameterLine("own_vehicle", [*box.lowest, *box.highest], reason))
    return lines


def parameter_text(lines: list[ParameterLine], source: str) -> str:
    """The YAML file for the node and for ``kd-seg predict --params``."""
    rows = [
        f"# Measured by kd-seg calibrate on {source}.",
        "/**:",
        "  ros__parameters:",
        "    input:",
    ]
    for line in lines:
        rows.append(f"      # {line.reason}")
        rows.append(f"      {line.name}: {_yaml(line.value)}")
    return "\n".join(rows) + "\n"


def warnings(figures: SensorFigures, sensor: Sensor) -> list[str]:
    """What a user should know before the numbers are used, one sentence each."""
    found = []
    ground, intensity = figures.ground, figures.intensity
    if figures.clouds < 20:
        found.append(f"only {figures.clouds} clouds were measured; take 20 or more from a moving vehicle.")
    if ground is None:
        found.append("no ground plane was found, so height and tilt are not set; record on a flat road.")
    elif ground.spread_deg > UNSTEADY_DEG:
        found.append(f"the ground's tilt varies by {ground.spread_deg:.1f} deg; record on a flat, straight road.")
    if not figures.moving:
        found.append(
            "the vehicle seems to stand, so its own returns cannot be told from the world; record while driving."
        )
    if intensity.constant:
        found.append("all intensities are equal; name the right field with --set input.intensity_fields=[NAME].")
    if figures.missing > 0.5:
        found.append(f"{100 * figures.missing:.0f} % of the rows hold no return; check the driver.")
    if figures.sweep_s == 0.0:
        found.append("the clouds have no time per point, so motion within a sweep cannot be undone.")
    if figures.farthest_m > 300:
        found.append(f"ranges reach {figures.farthest_m:.0f} m; are the coordinates metres in the sensor's frame?")
    if (
        ground is not None
        and not sensor.fov_down_deg - 15 <= figures.down_deg <= figures.up_deg <= sensor.fov_up_deg + 40
    ):
        found.append(
            f"the sensor sees {figures.down_deg:.0f} to {figures.up_deg:.0f} deg, the checkpoint was trained on "
            f"{sensor.fov_down_deg:.0f} to {sensor.fov_up_deg:.0f} deg; adapt a student with kd-seg adapt."
        )
    return found


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return repr(value) if isinstance(value, float) else str(value)
