"""The sheets that ``kd-seg view`` makes of one scan, and of a scan and what was predicted on it."""

from __future__ import annotations

import numpy as np

from kd_seg.classes import ClassTable
from kd_seg.evaluation.confusion import TrainIds, confusion
from kd_seg.evaluation.metrics import scores
from kd_seg.views.colours import (
    RIGHT,
    UNLABELLED,
    WRONG,
    Colours,
    class_colours,
    error_colours,
    height_colours,
    legend_colours,
)
from kd_seg.views.raster import birds_eye, camera_overlay, range_view
from kd_seg.views.sheet import Sheet
from kd_seg.views.source import ShownScan

MARGIN = 0.3


def scan_sheet(shot: ShownScan, classes: ClassTable, extent: float = 50.0) -> Sheet:
    """One scan: bird's-eye view, range view, camera overlay, and the share of each class."""
    colours = class_colours(shot.train, classes) if shot.train is not None else height_colours(shot.points)
    sheet = Sheet(16.0, 11.0)
    known = "coloured by class" if shot.train is not None else "coloured by height, brightness is intensity"
    sheet.title(shot.name, f"{len(shot.points):,} points, {known}")
    side, right = 7.6, 8.2
    sheet.birds_eye((MARGIN, 1.2, side), birds_eye(shot.points, colours, extent), extent, "Seen from above")
    top = 1.2
    for camera in shot.cameras[:1]:
        picture = camera.read()
        height = 7.5 * picture.shape[0] / picture.shape[1]
        sheet.picture((right, top, 7.5, height), picture, camera.name)
        top += height + 0.45
        overlay = camera_overlay(camera, shot.points, colours)
        sheet.picture((right, top, 7.5, height), overlay, f"{camera.name} with the points that it sees")
        top += height + 0.5
    if not shot.cameras:
        near = 5.0 if shot.train is not None else 7.5
        sheet.birds_eye((right, top, near), birds_eye(shot.points, colours, extent * 0.4), extent * 0.4, "Nearby")
        top += near + 0.5
    if shot.train is not None:
        sheet.text(right, top - 0.26, "Share of points", size=11)
        sheet.legend((right, top + 0.1, 7.5), share_rows(shot.train, classes), columns=3)
    sheet.range_view((MARGIN, 9.25, 15.4, 1.4), range_view(shot.points, colours), "Seen from the sensor")
    return sheet


def comparison_sheet(
    shot: ShownScan, prediction: TrainIds, classes: ClassTable, what: str, extent: float = 50.0
) -> Sheet:
    """A scan's truth, a prediction, and the errors marked red; the IoU of each class on this scan."""
    truth = shot.train if shot.train is not None else np.zeros(len(prediction), dtype=np.uint8)
    wrong = (prediction != truth) & (truth > 0)
    sides = [
        ("Truth", class_colours(truth, classes), None),
        (f"Prediction: {what}", class_colours(prediction, classes), None),
        ("Errors", error_colours(prediction, truth), wrong),
    ]
    ratio = 0.3026
    camera = shot.cameras[0] if shot.cameras else None
    pictures = 5.0 * ratio + 0.5 if camera else 0.0
    sheet = Sheet(16.0, 1.2 + 5.0 + 0.55 + pictures + 3 * 1.25 + 1.85)
    result = scores(confusion(prediction, truth, len(classes)), classes)
    present = "-" if result.miou_present is None else f"{100 * result.miou_present:.1f} %"
    counted = int((truth > 0).sum())
    share = 100 * wrong.sum() / max(counted, 1)
    below = f"{len(prediction):,} points, {counted:,} labelled, {share:.1f} % of these wrong; mIoU present {present}"
    sheet.title(f"{shot.name}: {what}", below)
    for number, (title, colours, raised) in enumerate(sides):
        left = MARGIN + number * 5.2
        sheet.birds_eye((left, 1.2, 5.0), birds_eye(shot.points, colours, extent, 1000, raised), extent, title)
        if camera is not None:
            image = camera_overlay(camera, shot.points, colours)
            sheet.picture((left, 6.65, 5.0, 5.0 * ratio), image, f"{title} in {camera.name}")
        place = (MARGIN, 1.2 + 5.0 + 0.45 + pictures + number * 1.25, 15.4, 0.95)
        sheet.range_view(place, range_view(shot.points, colours, raised), title, named=number == 2)
    top = sheet.height - 1.5
    sheet.text(MARGIN, top - 0.26, "IoU on this scan", size=11)
    rows = [
        (colour, name, "-" if result.iou[name] is None else f"{100 * float(result.iou[name] or 0):.1f}")
        for name, colour in zip(classes.names, legend_colours(classes), strict=True)
    ]
    extra = [(RIGHT, "right", ""), (WRONG, "wrong", f"{share:.1f} %"), (UNLABELLED, "unlabelled", "")]
    sheet.legend((MARGIN, top + 0.05, 15.6), rows + extra, columns=-(-(len(rows) + 3) // 5))
    return sheet


def share_rows(train: TrainIds, classes: ClassTable) -> list[tuple[Colours | tuple[int, int, int], str, str]]:
    """Legend rows with each class's share of the points."""
    counts = np.bincount(train, minlength=len(classes) + 1)
    total = max(len(train), 1)
    rows: list[tuple[Colours | tuple[int, int, int], str, str]] = [
        (colour, name, _share(counts[c + 1] / total))
        for c, (name, colour) in enumerate(zip(classes.names, legend_colours(classes), strict=True))
    ]
    rows.append((UNLABELLED, "unlabelled", _share(counts[0] / total)))
    return rows


def _share(value: float) -> str:
    return "-" if value == 0 else f"{100 * value:.1f} %" if value >= 0.001 else f"{1e6 * value:.0f} ppm"
