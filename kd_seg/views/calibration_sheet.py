"""A picture of what ``kd-seg calibrate`` measured: from above, from the side, and intensities before and after."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from kd_seg.drives.calibrate import Calibrated
from kd_seg.drives.calibration.figures import REFERENCE_MEDIAN
from kd_seg.views.colours import MUTED, TEXT, height_colours
from kd_seg.views.raster import birds_eye
from kd_seg.views.sheet import Sheet

EXTENT_M = 40.0
FEW = 500
GROUND_LINE, OWN_LINE = "#ffb000", "#fe6100"


def calibration_sheet(found: Calibrated) -> Sheet:
    """Bird's-eye view, side views with the ground, the own vehicle's box, intensities, and the figures as text."""
    frame, figures = found.frames[len(found.frames) // 2], found.figures
    sheet = Sheet(16.0, 11.4)
    sheet.title(
        found.source.name, f"{figures.clouds} clouds, {figures.points:,} returns per cloud, {figures.rate_hz:.1f} Hz"
    )
    image = birds_eye(frame.points, height_colours(frame.points), EXTENT_M)
    sheet.birds_eye((0.3, 1.3, 6.6), image, EXTENT_M, "Seen from above: forward must be up")
    _side(sheet, found, top=1.3)
    _near(sheet, found)
    _intensities(sheet, found)
    _text(sheet, found)
    return sheet


def _side(sheet: Sheet, found: Calibrated, top: float) -> None:
    """Seen from the left and from behind, with the measured ground as a line."""
    points, ground = found.frames[len(found.frames) // 2].points, found.figures.ground
    sides = (("Seen from the left: forward is right", 0, 1, "pitch_deg"), ("Seen from behind", 1, 0, "roll_deg"))
    for row, (title, along, across, name) in enumerate(sides):
        place = top + row * 3.4
        sheet.text(7.5, place - 0.26, title, size=11)
        axes = sheet.axes(7.9, place, 7.7, 2.8)
        middle = points[np.abs(points[:, across]) < 4.0]
        shown = middle if len(middle) >= FEW else points  # a sensor that looks forward alone has nothing beside it
        sign = 1.0 if along == 0 else -1.0  # behind: left is left
        axes.scatter(sign * shown[:, along], shown[:, 2], s=0.6, color=TEXT, alpha=0.5, linewidths=0)
        axes.plot([0], [0], marker="o", color=OWN_LINE, markersize=5)
        if ground is not None:
            reach = np.array([-25.0, 25.0])
            slope = (
                np.tan(np.radians(ground.pitch_deg)) if name == "pitch_deg" else -np.tan(np.radians(ground.roll_deg))
            )
            axes.plot(sign * reach, -ground.height_m + slope * reach, color=GROUND_LINE, linewidth=1.2)
        axes.set_xlim(-25, 25)
        axes.set_ylim(-5, 5)
        axes.set_ylabel("z (m)", color=MUTED, fontsize=8)


def _near(sheet: Sheet, found: Calibrated) -> None:
    """Returns within 6 m of the sensor, and the box of the own vehicle."""
    sheet.text(0.3, 8.2, "Nearest returns and the own vehicle's box (m)", size=11)
    axes = sheet.axes(0.7, 8.5, 3.4, 2.5)
    near = np.concatenate([f.points[np.linalg.norm(f.points[:, :3], axis=1) < 6.0][::4] for f in found.frames[:10]])
    axes.scatter(-near[:, 1], near[:, 0], s=0.6, color=TEXT, alpha=0.4, linewidths=0)
    if found.figures.own_vehicle is not None:
        low, high = found.figures.own_vehicle.lowest, found.figures.own_vehicle.highest
        box = Rectangle(
            (-high[1], low[0]), high[1] - low[1], high[0] - low[0], fill=False, color=OWN_LINE, linewidth=1.5
        )
        axes.add_patch(box)
    axes.set_xlim(-6, 6)
    axes.set_ylim(-4.4, 4.4)


def _intensities(sheet: Sheet, found: Calibrated) -> None:
    """Histogram of intensities as they are once 0-1, and after the gain."""
    figures = found.figures.intensity
    values = (
        np.concatenate([f.points[::20, 3] for f in found.frames])
        / {"unit": 1, "byte": 255, "uint16": 65535}[figures.range]
    )
    sheet.text(4.7, 8.2, "Intensities, 0-1: as sent (grey), after the gain", size=11)
    axes = sheet.axes(4.9, 8.5, 3.6, 2.5)
    edges = np.linspace(0, 1, 51).tolist()
    axes.hist(np.clip(values, 0, 1), edges, color=MUTED, alpha=0.6)
    axes.hist(np.clip(values * figures.gain, 0, 1), edges, histtype="step", color=GROUND_LINE, linewidth=1.4)
    axes.axvline(REFERENCE_MEDIAN, color=OWN_LINE, linewidth=1)
    axes.set_yticks([])


def _text(sheet: Sheet, found: Calibrated) -> None:
    figures = found.figures
    rows = [
        f"field of view {figures.down_deg:.1f} to {figures.up_deg:.1f} deg, {figures.azimuth_deg:.0f} deg around",
        f"beams {figures.rings or 'not found'}, range {figures.nearest_m:.1f} to {figures.farthest_m:.0f} m",
        f"rows without a return {100 * figures.missing:.1f} %, one sweep lasts {1000 * figures.sweep_s:.0f} ms",
    ]
    if figures.ground is not None:
        g = figures.ground
        rows.append(f"{g.height_m:.2f} m above the ground, roll {g.roll_deg:+.2f}, pitch {g.pitch_deg:+.2f} deg")
    rows += [f"input.{line.name}: {line.value}" for line in found.lines]
    rows += [f"! {warning}" for warning in found.warnings]
    for number, row in enumerate(rows):
        sheet.text(9.0, 8.2 + 0.24 * number, row[:110], size=8.5, colour=TEXT if row[0] != "!" else GROUND_LINE)
