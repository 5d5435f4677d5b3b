"""Two scans side by side with the figures in which they may differ: does the simulator look right?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.views.colours import MUTED, TEXT, class_colours, height_colours
from kd_seg.views.raster import birds_eye, camera_overlay, range_view
from kd_seg.views.sheet import Sheet
from kd_seg.views.source import Shot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.3
WIDTH = 7.55
COLOURS = ("#5db7ff", "#ffb454")


def side_by_side_sheet(left: Shot, right: Shot, classes: ClassTable, extent: float = 50.0) -> Sheet:
    """Both scans from above, from the sensor and in their cameras; below, histograms of both in one axis each."""
    shots = (left, right)
    cameras = any(shot.cameras for shot in shots)
    picture = WIDTH * 0.303
    above = 1.2 + WIDTH + 0.5 + (picture + 0.5 if cameras else 0.0)
    sheet = Sheet(16.0, above + 1.2 + 0.75 + 3.1 + 0.75)
    counts = " and ".join(f"{len(shot.points):,}" for shot in shots)
    sheet.title(f"{left.name} beside {right.name}", f"{counts} points")
    for number, shot in enumerate(shots):
        column = MARGIN + number * (WIDTH + 0.3)
        colours = class_colours(shot.train, classes) if shot.train is not None else height_colours(shot.points)
        sheet.birds_eye((column, 1.2, WIDTH), birds_eye(shot.points, colours, extent), extent, shot.name)
        top = 1.2 + WIDTH + 0.5
        for camera in shot.cameras[:1]:
            sheet.picture((column, top, WIDTH, picture), camera_overlay(camera, shot.points, colours), camera.name)
        sheet.range_view((column, above, WIDTH, 1.0), range_view(shot.points, colours), "Seen from the sensor")
    _figures(sheet, shots, classes, above + 1.2 + 0.75)
    return sheet


def _figures(sheet: Sheet, shots: tuple[Shot, Shot], classes: ClassTable, top: float) -> None:
    for number, (shot, colour) in enumerate(zip(shots, COLOURS, strict=True)):
        sheet.text(MARGIN + number * 3.4, top - 0.55, f"■ {shot.name}", size=10, colour=colour)
    width, height = 3.45, 2.55
    step = width + 0.53
    ranges = [np.linalg.norm(shot.points[:, :3], axis=1) for shot in shots]
    _histogram(sheet.axes(MARGIN + 0.2, top, width, height), ranges, np.linspace(0, 85, 60), "range, m")
    intensities = [shot.points[:, 3] for shot in shots]
    largest = max(float(np.nanmax(values, initial=1e-6)) for values in intensities)
    bins = np.linspace(0, largest, 60)
    _histogram(sheet.axes(MARGIN + 0.2 + step, top, width, height), intensities, bins, "intensity")
    if any(shot.train is not None for shot in shots):
        _shares(sheet.axes(MARGIN + 0.2 + 2 * step, top, width, height), shots, classes)
    if any(shot.words is not None for shot in shots):
        _instances(sheet.axes(MARGIN + 0.2 + 3 * step, top, width, height), shots, classes)


def _histogram(axes: Axes, values: list[npt.NDArray[np.floating]], bins: npt.NDArray[np.floating], name: str) -> None:
    for each, colour in zip(values, COLOURS, strict=True):
        finite = each[np.isfinite(each)]
        weights = np.full(len(finite), 100.0 / max(len(finite), 1))
        axes.hist(finite, bins=bins.tolist(), weights=weights, histtype="step", color=colour, linewidth=1.4)
    axes.set_title(f"{name}: % of points", fontsize=10, color=TEXT, loc="left")
    axes.grid(alpha=0.12)


def _shares(axes: Axes, shots: tuple[Shot, Shot], classes: ClassTable) -> None:
    places = np.arange(len(classes))
    for number, (shot, colour) in enumerate(zip(shots, COLOURS, strict=True)):
        if shot.train is None:
            continue
        counts = np.bincount(shot.train, minlength=len(classes) + 1)[1:]
        share = np.maximum(counts / max(counts.sum(), 1), 1e-6)
        axes.bar(places + 0.4 * (number - 0.5), share, width=0.4, color=colour, bottom=1e-6)
    axes.set_yscale("log")
    axes.set_ylim(1e-5, 1)
    axes.set_xticks(places)
    axes.set_xticklabels(classes.names, rotation=90, fontsize=6.5)
    axes.set_title("share of each class", fontsize=10, color=TEXT, loc="left")
    axes.grid(alpha=0.12, axis="y")


def _instances(axes: Axes, shots: tuple[Shot, Shot], classes: ClassTable) -> None:
    for shot, colour in zip(shots, COLOURS, strict=True):
        distance, count = instances_by_range(shot, classes)
        axes.plot(distance, count, ".", color=colour, markersize=5, alpha=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("range, m", fontsize=8, color=MUTED)
    axes.set_title("points per instance", fontsize=10, color=TEXT, loc="left")
    axes.grid(alpha=0.12)


def instances_by_range(shot: Shot, classes: ClassTable) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Range of the mean point in metres and number of points, for every instance of a thing class."""
    if shot.words is None:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    things = np.array([column + 1 for column in classes.things], dtype=np.uint8)
    train, _ = classes.to_train_lenient(shot.words)
    rows = np.isin(train, things) & (shot.words >> 16 > 0) & np.isfinite(shot.points[:, :3]).all(axis=1)
    _, inverse, counts = np.unique(shot.words[rows], return_inverse=True, return_counts=True)
    xyz = shot.points[rows, :3].astype(np.float64)
    means = np.column_stack([np.bincount(inverse, xyz[:, axis], len(counts)) for axis in range(3)]) / counts[:, None]
    return np.linalg.norm(means, axis=1), counts
