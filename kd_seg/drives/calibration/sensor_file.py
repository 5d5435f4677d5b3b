"""From figures of a sensor to a file that ``kd-seg simulate --sensor`` takes, with a reason for every part."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from kd_seg.core.config import validate
from kd_seg.core.errors import DataError
from kd_seg.drives.calibration.beams import FULL_TURN_DEG, Beams, find_beams
from kd_seg.drives.calibration.figures import SensorFigures
from kd_seg.drives.calibration.ground import GroundPlane
from kd_seg.drives.calibration.intensity_response import Response, fit_response, populations
from kd_seg.drives.calibration.parameters_file import SMALL_TILT_DEG
from kd_seg.drives.recording import RecordedCloud
from kd_seg.scans import INTENSITY_MAX, Points
from kd_seg.streets.sensors.settings import Lidar

LOG = logging.getLogger("kd_seg.drives")

FARTHEST_M = 80.8
"""Nothing is simulated beyond."""

SMALLEST_NEAREST_M = 0.3


def sensor_file(frames: list[RecordedCloud], figures: SensorFigures, source: str) -> str:
    """The sensor as a YAML file for the simulator, checked by the simulator's own settings.

    Args:
        frames, figures: what was measured. source: name of the recording.

    Raises DataError where no ground was found, as the height is not known then.
    """
    ground = figures.ground
    if ground is None:
        raise DataError(
            f"No ground was found in {source}, so the sensor's height is not known and no sensor file can be written; "
            "record on a flat road, or leave out --sensor-out."
        )
    beams = find_beams(frames, ground.height_m, figures.own_vehicle, figures.azimuth_deg, figures.moving)
    clouds = [frame.points for frame in frames]
    response = fit_response(populations(clouds, ground, INTENSITY_MAX[figures.intensity.range]))
    sections = [
        _pattern(beams, figures, clouds),
        _mount(ground, beams),
        _ranging(beams, figures),
        _intensity(response, figures),
    ]
    content: dict[str, Any] = {
        "name": f"LiDAR of {source}",
        "source": f"Measured by kd-seg calibrate on {figures.clouds} clouds of {source}.",
    }
    for key, value, _ in sections:
        content[key] = value
    validate(Lidar, content, "the measured sensor")
    lines = [_yaml({"name": content["name"]}), _yaml({"source": content["source"]})]
    for key, value, reason in sections:
        lines.append(f"# {reason}\n{_yaml({key: value})}")
    return "".join(lines)


Section = tuple[str, dict[str, Any], str]
"""A section's name, its content, and why."""


def _pattern(beams: Beams | None, figures: SensorFigures, clouds: list[Points]) -> Section:
    if beams is None:
        azimuth = np.degrees(np.concatenate([np.arctan2(points[::10, 1], points[::10, 0]) for points in clouds]))
        ends = np.percentile(azimuth, [0.5, 99.5]) if figures.azimuth_deg < FULL_TURN_DEG else (-180.0, 180.0)
        right, left = (round(float(value), 1) for value in ends)
        across, up = max(left - right, 1.0), max(figures.up_deg - figures.down_deg, 1.0)
        rows = min(max(round(math.sqrt(figures.points * up / across)), 2), 1024)
        content = {
            "kind": "raster",
            "rows": rows,
            "columns": min(max(round(figures.points / rows), 2), 8192),
            "elevation_deg": [round(figures.down_deg, 2), round(figures.up_deg, 2)],
            "azimuth_deg": [right, left],
        }
        LOG.warning(
            "No beams were found, so the sensor file holds an even raster of %d x %d shots; where the LiDAR has beams, "
            "record clouds with a ring field, or before the motion within a sweep was undone.",
            content["rows"],
            content["columns"],
        )
        return (
            "pattern",
            content,
            "No beams were found: as many shots as returns, evenly spread over the field of view.",
        )
    content = {"kind": "spinning", "elevation_deg": list(beams.elevation_deg), "shots": beams.shots}
    if beams.sector_deg is not None:
        content["sector_deg"] = list(beams.sector_deg)
    content["clockwise"] = beams.clockwise
    count = len(beams.elevation_deg)
    return (
        "pattern",
        content,
        f"{count} beams that return anything, from the top; shots by the steps between their returns.",
    )


def _mount(ground: GroundPlane, beams: Beams | None) -> Section:
    content: dict[str, Any] = {"height_m": round(ground.height_m, 2)}
    if max(abs(ground.roll_deg), abs(ground.pitch_deg)) >= SMALL_TILT_DEG:
        content["pitch_rad"] = round(math.radians(ground.pitch_deg), 4)
        content["roll_rad"] = round(math.radians(ground.roll_deg), 4)
    reason = f"The ground in {ground.clouds} clouds (spread {ground.spread_m:.2f} m, {ground.spread_deg:.1f} deg)."
    if beams is not None and beams.hidden:
        content["blind"] = [{"ring": ring, "azimuth_deg": list(ranges)} for ring, ranges in beams.hidden]
        reason += " Blind: where beams never return though they point at near ground."
    return "mount", content, reason


def _ranging(beams: Beams | None, figures: SensorFigures) -> Section:
    content = {
        "nearest_m": round(max(figures.nearest_m, SMALLEST_NEAREST_M), 2),
        "farthest_m": round(min(max(figures.farthest_m, 10.0), FARTHEST_M), 1),
        "lost": beams.lost if beams is not None else 0.02,
    }
    return "ranging", content, "Ranges seen; lost: share of the shots at near ground that do not return."


def _intensity(response: Response | None, figures: SensorFigures) -> Section:
    if figures.intensity.constant:
        return "intensity", {}, "All intensities are equal, so nothing of them was measured."
    if response is None:
        content: dict[str, Any] = {"gain": round(1.0 / figures.intensity.gain, 5)}
        return "intensity", content, "Too few returns within 12 m to measure more than the median."
    numbers = asdict(response)
    content = {name: round(numbers[name], 5) for name in ("gamma", "gain", "offset")}
    content["steps"] = response.steps
    content["fade"] = {"least": 1.0, "lost_per_m": 0.0, "power": round(response.power, 2)}
    reason = (
        "Ground and things no darker within 12 m, by percentiles (mean error {:.0f} %); power by things beyond 25 m."
    )
    return "intensity", content, reason.format(100 * response.error)


def _yaml(content: dict[str, Any]) -> str:
    (value,) = content.values()
    style = None if isinstance(value, dict) else False
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=style, width=110)
