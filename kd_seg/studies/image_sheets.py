"""Pictures of what cameras teach: parallax bleeding with the visibility test off and on, and units before and after.

python -m kd_seg.studies.image_sheets bleeding DATA --scan 04/000003 --out bleeding.png
python -m kd_seg.studies.image_sheets units RUN --scan 00/000000 --out units.png [--forward RUN]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.images.projection.cameras import ProjectionSettings, Shot, shots
from kd_seg.images.projection.visibility import VisibilitySettings, see
from kd_seg.images.units.cache import TEACHER_CLASS, open_units, read_units
from kd_seg.images.units.class_maps import ClassMap, load_class_map
from kd_seg.images.units.units import Units
from kd_seg.objectives.image_units import ImageUnitsSettings
from kd_seg.scans import Points, Scan, SemanticKitti
from kd_seg.serving.segmenter import Segmenter
from kd_seg.training.run import RunFolder
from kd_seg.training.setup import cache_folder, training_data
from kd_seg.views.colours import UNLABELLED, Colours, class_colours, scalar_colours
from kd_seg.views.raster import Image, birds_eye, camera_overlay
from kd_seg.views.sheet import Sheet

FIX_COMMAND = "kd-seg prepare CONFIG"
MARGIN = 0.3
HIDDEN = (255, 255, 255)
REACH_M = 40.0
"""Side of the square ahead that units are shown in."""
WINDOW_PX = (240, 160)
"""Width and height of the window on the worst bleeding."""


def bleeding_sheet(scan: Scan, shot: Shot, visibility: VisibilitySettings) -> Sheet:
    """Points on a picture, and the place where most of what the camera cannot see falls on nearer things.

    DataError for a scan without a picture is the caller's (it has no shot).
    """
    picture = shot.camera.read()
    projected, seen = see(scan.points, shot.optics, visibility)
    hidden = projected.inside & ~seen
    depth = scalar_colours(np.log(np.maximum(projected.depth, 1.0)), 1.0, 4.2, "turbo")
    depth[hidden] = HIDDEN
    width = 15.4
    height = width * picture.shape[0] / picture.shape[1]
    side = 7.5
    low = side * WINDOW_PX[1] / WINDOW_PX[0]
    sheet = Sheet(width + 2 * MARGIN, 1.2 + 2 * height + 1.0 + low + 0.4)
    sheet.title(
        f"{scan.name} {shot.camera.name}: parallax bleeding",
        f"{int(projected.inside.sum()):,} points in the picture, {int(hidden.sum()):,} behind what the camera sees",
    )
    sheet.picture((MARGIN, 1.2, width, height), picture, "The picture")
    overlay = _on_picture(picture, projected.pixels, depth, projected.inside, hidden)
    top = 1.2 + height + 0.45
    sheet.picture((MARGIN, top, width, height), overlay, "Points by depth; white: refused by the test")
    top += height + 0.5
    corner = _worst_window(projected.pixels[hidden & (projected.depth < REACH_M)], picture.shape)
    panels = [
        (
            projected.inside,
            "Test off: far points (yellow, red) take the colour and class of the near thing before them",
        ),
        (seen, "Test on: what is left"),
    ]
    colours = scalar_colours(np.log(np.maximum(projected.depth, 1.0)), 1.0, 4.2, "turbo")
    for number, (mask, title) in enumerate(panels):
        image = _enlarged(picture, projected.pixels, colours, mask, projected.depth, corner)
        sheet.picture((MARGIN + number * (side + 0.4), top, side, low), image, title)
    return sheet


def _worst_window(pixels: npt.NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int]:
    """Left and top of the window of a picture that holds most of some pixels [n, 2]."""
    step = 20
    table = np.zeros((shape[0] // step + 1, shape[1] // step + 1), dtype=np.int64)
    cells = (pixels // step).astype(np.int64)
    np.add.at(table, (cells[:, 1], cells[:, 0]), 1)
    sums = np.pad(table.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    high, wide = min(WINDOW_PX[1], shape[0]) // step, min(WINDOW_PX[0], shape[1]) // step
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    top = min(int(row) * step, max(shape[0] - WINDOW_PX[1], 0))
    return min(int(column) * step, max(shape[1] - WINDOW_PX[0], 0)), top


def _enlarged(
    picture: Image,
    pixels: npt.NDArray[np.float32],
    colours: Colours,
    mask: npt.NDArray[np.bool_],
    depth: npt.NDArray[np.float32],
    corner: tuple[int, int],
) -> Image:
    """A window of the picture, four times as large, with points as dots, the farthest on top."""
    zoom = 4
    part = picture[corner[1] : corner[1] + WINDOW_PX[1], corner[0] : corner[0] + WINDOW_PX[0]]
    image = (np.repeat(np.repeat(part, zoom, axis=0), zoom, axis=1) * 0.55).astype(np.uint8)
    rows = np.flatnonzero(mask)
    rows = rows[np.argsort(depth[rows], kind="stable")]
    at = ((pixels[rows] - corner) * zoom).astype(np.int64)
    within = ((at >= 2) & (at < [image.shape[1] - 3, image.shape[0] - 3])).all(axis=1)
    rows, at = rows[within], at[within]
    for down in range(-2, 3):
        for right in range(-2, 3):
            image[at[:, 1] + down, at[:, 0] + right] = colours[rows]
    return image


def _on_picture(
    picture: Image,
    pixels: npt.NDArray[np.float32],
    colours: Colours,
    inside: npt.NDArray[np.bool_],
    last: npt.NDArray[np.bool_],
) -> Image:
    """Points as 2 x 2 dots on the dimmed picture, those of ``last`` over all others."""
    image = (picture * 0.4).astype(np.uint8)
    for mask in (inside & ~last, inside & last):
        column, row = pixels[mask].astype(np.int64).T
        for down in range(2):
            for right in range(2):
                place = np.minimum(row + down, len(image) - 1), np.minimum(column + right, image.shape[1] - 1)
                image[place] = colours[mask]
    return image


def _ahead(points: Points, colours: Colours, raised: npt.NDArray[np.bool_] | None = None) -> Image:
    """Bird's-eye view of the square ahead of the sensor."""
    moved = points.copy()
    moved[:, 0] -= REACH_M / 2
    return birds_eye(moved, colours, REACH_M / 2, 1000, raised)


def units_sheet(run: Path, name: str, forward: Path | None) -> Sheet:
    """Units of a training scan on its picture and lifted, before and after re-scoring, and what the students predict.

    Args:
        run: a run with the objective image_units. name: scan, "SS/NNNNNN".
        forward: a run without backward distillation, to be shown beside it.
    """
    config = RunFolder(run).read_config()
    number = next((n for n, o in enumerate(config.objectives) if o.kind == "image_units"), None)
    if number is None:
        raise UsageError(f"{run} was not taught by knowledge units; name a run with the objective image_units.")
    settings: ImageUnitsSettings = config.objectives[number]
    data, classes = training_data(config.data), load_classes(config.data.classes)
    key = _key(name, data)
    cache = cache_folder(config.data.root, config.data.cache)
    store = open_units(settings.source(), cache, data, classes, FIX_COMMAND)
    units, scan = read_units(store, key), data.scan(*key)
    if len(units) == 0:
        raise DataError(f"Scan {name} has no units; choose one with a picture.")
    if not scan.cameras:
        raise DataError(f"Scan {name} has units of other moments' pictures, but no picture itself; choose another.")
    class_map = load_class_map(settings.class_map, classes)
    score = _scores(run, number, store, data, key, units)
    return _draw_units(scan, units, score, class_map, classes, [r for r in (forward, run) if r is not None])


def _scores(run: Path, number: int, store: Any, data: SemanticKitti, key: tuple[str, int], units: Units) -> Any:
    """s_u of the scan's units as the run left them."""
    first = sum(store.count(k, TEACHER_CLASS) for k in data.keys()[: data.keys().index(key)])
    state = RunFolder(run).read_state()["objectives"][number]
    return state["score"][first : first + len(units)].numpy()


def _draw_units(
    scan: Scan, units: Units, score: npt.NDArray[np.float32], class_map: ClassMap, classes: ClassTable, runs: list[Path]
) -> Sheet:
    camera = scan.cameras[0]
    picture = camera.read()
    wide = 7.5
    high = wide * picture.shape[0] / picture.shape[1]
    side = 5.0
    panels: list[tuple[str, npt.NDArray[np.floating[Any]]]] = [
        ("Units before re-scoring", np.ones(len(units))),
        ("after, brightness = s_u", score),
    ]
    sheet = Sheet(2 * wide + 0.4 + 2 * MARGIN, 1.2 + 2 * (high + 0.5) + 2 * (side + 0.5) + 0.2)
    dropped, spoilt = int((score == 0).sum()), int((units.spoilt > 0).sum())
    made_wrong = f", {spoilt} made wrong on purpose" if spoilt else ""
    sheet.title(f"{scan.name}: knowledge units", f"{len(units)} units, {dropped} dropped by the student{made_wrong}")
    sheet.picture((MARGIN, 1.2, wide, high), picture, camera.name)
    if scan.labels is not None:
        truth = classes.to_train_lenient(scan.labels)[0]
        place = (MARGIN + wide + 0.4, 1.2, wide, high)
        sheet.picture(place, camera_overlay(camera, scan.points, class_colours(truth, classes)), "Labels, to compare")
    for column, (title, weight) in enumerate(panels):
        colours, covered = _unit_colours(len(scan.points), units, weight, class_map, classes)
        left = MARGIN + column * (wide + 0.4)
        overlay = camera_overlay(camera, scan.points, colours, covered)
        sheet.picture((left, 1.2 + high + 0.5, wide, high), overlay, title)
        place = (left, 1.2 + 2 * (high + 0.5), side, side)
        sheet.picture(place, _ahead(scan.points, colours, covered), f"{title}: lifted points, {REACH_M:.0f} m ahead")
    top = 1.2 + 2 * (high + 0.5) + side + 0.5
    for column, run in enumerate(runs):
        predicted = Segmenter(run, device="cpu").segment(scan.points).class_id
        image = _ahead(scan.points, class_colours(classes.class_to_train(predicted), classes))
        place = (MARGIN + column * (wide + 0.4), top, side, side)
        sheet.picture(place, image, f"Predicted by {run.parent.name}/{run.name}")
    return sheet


def _unit_colours(
    count: int, units: Units, weight: npt.NDArray[np.floating[Any]], class_map: ClassMap, classes: ClassTable
) -> tuple[Colours, npt.NDArray[np.bool_]]:
    """Colour per point of the class that its last unit claims (the first of a set), dimmed by the unit's weight."""
    colours = np.full((count, 3), UNLABELLED, dtype=np.uint8)
    covered = np.zeros(count, dtype=bool)
    first = class_map.usual
    for unit in np.argsort(weight, kind="stable"):
        rows = units.rows(unit)
        colour = class_colours(np.array([first[units.teacher_class[unit]] + 1], dtype=np.uint8), classes)[0]
        share = 0.12 + 0.88 * float(np.clip(weight[unit], 0, 1))
        colours[rows] = (colour * share).astype(np.uint8)
        covered[rows] = True
    return colours, covered


def _key(name: str, data: SemanticKitti) -> tuple[str, int]:
    sequence, _, index = name.partition("/")
    if not index.isdigit() or sequence not in data.sequences:
        raise UsageError(f"--scan {name} is not of the form SS/NNNNNN with a sequence of {', '.join(data.sequences)}.")
    return sequence, int(index)


def main() -> None:
    """Draw one sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bleeding", "units"])
    parser.add_argument("source", type=Path)
    parser.add_argument("--scan", required=True)
    parser.add_argument("--forward", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.what == "units":
        units_sheet(arguments.source, arguments.scan, arguments.forward).save(arguments.out)
        return
    data = SemanticKitti(arguments.source)
    scan = data.scan(*_key(arguments.scan, data))
    taken = shots(scan, ProjectionSettings())
    if not taken:
        raise DataError(f"Scan {scan.name} has no picture; choose another.")
    bleeding_sheet(scan, taken[0], VisibilitySettings()).save(arguments.out)


if __name__ == "__main__":
    main()
