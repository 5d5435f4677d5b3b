"""Pictures of what cameras teach: parallax bleeding with the visibility test off and on, and units before and after.

python -m kd_seg.views.image_sheets bleeding DATA --scan 04/000003 --out bleeding.png
python -m kd_seg.views.image_sheets units RUN --scan 00/000000 --out units.png [--forward RUN]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable, load_classes
from kd_seg.errors import DataError, UsageError
from kd_seg.images.cameras import ProjectionSettings, Shot, shots
from kd_seg.images.class_maps import ClassMap, load_class_map
from kd_seg.images.unit_cache import open_units, read_units
from kd_seg.images.units import Units
from kd_seg.images.visibility import VisibilitySettings, see
from kd_seg.objectives.image_units import ImageUnitsSettings
from kd_seg.scans import Points, Scan, SemanticKitti
from kd_seg.segmenter import Segmenter
from kd_seg.training.run import RunFolder
from kd_seg.training.setup import cache_folder, training_data
from kd_seg.views.colours import UNLABELLED, Colours, class_colours, scalar_colours
from kd_seg.views.raster import Image, birds_eye, camera_overlay
from kd_seg.views.sheet import Sheet

MEND = "kd-seg prepare CONFIG"
MARGIN = 0.3
HIDDEN = (255, 66, 54)
REACH_M = 40.0
"""Side of the square ahead that units are shown in."""
WINDOW_M = 6.0
"""Half the side of the window on the worst bleeding."""


def bleeding_sheet(scan: Scan, shot: Shot, visibility: VisibilitySettings) -> Sheet:
    """A scan painted with the colours of its picture: without the test the background takes the foreground's colours.

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
    sheet = Sheet(width + 2 * MARGIN, 1.2 + 2 * height + 1.0 + side + 0.4)
    sheet.title(
        f"{scan.name} {shot.camera.name}: parallax bleeding",
        f"{int(projected.inside.sum()):,} points in the picture, {int(hidden.sum()):,} behind what the camera sees",
    )
    sheet.picture((MARGIN, 1.2, width, height), picture, "The picture")
    overlay = _on_picture(picture, projected.pixels, depth, projected.inside, hidden)
    top = 1.2 + height + 0.45
    sheet.picture((MARGIN, top, width, height), overlay, "Points by depth; red: refused by the test")
    top += height + 0.5
    painted = _painted(picture, projected.pixels, projected.inside)
    middle = _densest(scan.points[hidden & (projected.depth < REACH_M / 2)])
    near = scan.points.copy()
    near[:, :2] -= middle
    grey = np.array([[34, 38, 46]], dtype=np.uint8)
    marked = np.where(hidden[:, None], np.array([HIDDEN], dtype=np.uint8), painted)
    where = f"{2 * WINDOW_M:.0f} x {2 * WINDOW_M:.0f} m from above, {np.hypot(*middle):.0f} m away"
    panels = [
        (projected.inside, marked, f"Test off: {where}; red takes its colour from something nearer"),
        (seen, painted, "Test on: painted by the picture"),
    ]
    for number, (mask, colours, title) in enumerate(panels):
        image = birds_eye(near, np.where(mask[:, None], colours, grey).astype(np.uint8), WINDOW_M, 320, mask)
        sheet.picture((MARGIN + number * (side + 0.4), top, side, side), image, title)
    return sheet


def _densest(points: Points, cell: float = 2.0) -> npt.NDArray[np.float64]:
    """Centre [2] of the cell of the ground plan with most points; straight ahead where there are none."""
    if len(points) == 0:
        return np.array([WINDOW_M, 0.0])
    cells, counts = np.unique(np.floor(points[:, :2] / cell), axis=0, return_counts=True)
    return (cells[counts.argmax()] + 0.5) * cell


def _painted(picture: Image, pixels: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> Colours:
    colours = np.zeros((len(pixels), 3), dtype=np.uint8)
    at = pixels[inside].astype(np.int64)
    colours[inside] = np.clip(picture[at[:, 1], at[:, 0]].astype(np.float64) * 1.25 + 12, 0, 255).astype(np.uint8)
    return colours


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
    """Units of a training scan on its picture and lifted, before and after re-scoring, and what the students answer.

    Args:
        run: a run with the objective image_units. name: scan, "SS/NNNNNN".
        forward: a run without backward distillation, to be shown beside it.
    """
    experiment = RunFolder(run).read_experiment()
    number = next((n for n, o in enumerate(experiment.objectives) if o.kind == "image_units"), None)
    if number is None:
        raise UsageError(f"{run} was not taught by knowledge units; name a run with the objective image_units.")
    settings: ImageUnitsSettings = experiment.objectives[number]
    data, classes = training_data(experiment.data), load_classes(experiment.data.classes)
    key = _key(name, data)
    cache = cache_folder(experiment.data.root, experiment.data.cache)
    store = open_units(settings.source(), cache, data, classes, MEND)
    units, scan = read_units(store, key), data.scan(*key)
    if len(units) == 0:
        raise DataError(f"Scan {name} has no units; choose one with a picture.")
    class_map = load_class_map(settings.class_map, classes)
    score = _scores(run, number, store, data, key, units)
    return _draw_units(scan, units, score, class_map, classes, [r for r in (forward, run) if r is not None])


def _scores(run: Path, number: int, store: Any, data: SemanticKitti, key: tuple[str, int], units: Units) -> Any:
    """s_u of the scan's units as the run left them."""
    first = sum(store.lengths(k, "klass") for k in data.keys()[: data.keys().index(key)])
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
    panels: list[tuple[str, npt.NDArray[np.floating]]] = [
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
        answer = Segmenter(run, device="cpu").segment(scan.points).class_id
        image = _ahead(scan.points, class_colours(classes.class_to_train(answer), classes))
        sheet.picture((MARGIN + column * (wide + 0.4), top, side, side), image, f"What {run.name} answers")
    return sheet


def _unit_colours(
    count: int, units: Units, weight: npt.NDArray[np.floating], class_map: ClassMap, classes: ClassTable
) -> tuple[Colours, npt.NDArray[np.bool_]]:
    """Colour per point of the class that its last unit claims (the first of a set), dimmed by the unit's weight."""
    colours = np.full((count, 3), UNLABELLED, dtype=np.uint8)
    covered = np.zeros(count, dtype=bool)
    first = class_map.usual
    for unit in np.argsort(weight, kind="stable"):
        rows = units.rows(unit)
        colour = class_colours(np.array([first[units.klass[unit]] + 1], dtype=np.uint8), classes)[0]
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
