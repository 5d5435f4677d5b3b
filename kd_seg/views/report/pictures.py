"""The scans of a report: truth, each run's prediction, and its errors marked red, from above and in the camera."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.core.errors import KdSegError
from kd_seg.core.progress import Track
from kd_seg.evaluation.confusion import TrainIds, confusion
from kd_seg.evaluation.metrics import scores
from kd_seg.scans import FileFormat, Scan, SemanticKitti
from kd_seg.serving.segmenter import Segmenter
from kd_seg.views.colours import Colours, class_colours, error_colours
from kd_seg.views.raster import Image, birds_eye, camera_overlay
from kd_seg.views.report.runs import Run

EXTENT = 50.0
"""Half the side of the bird's-eye views, metres."""


@dataclass(frozen=True)
class Picture:
    """One picture of a report.

    Attributes:
        title: below it; words: for those who do not see it.
        kind: "image/png" or "image/jpeg"; content: the file.
    """

    title: str
    words: str
    kind: str
    content: bytes


@dataclass(frozen=True)
class Scene:
    """All pictures of one scan in titled columns: the truth first, then each run's prediction and errors."""

    name: str
    columns: list[tuple[str, list[Picture]]]


@dataclass
class Gallery:
    """What could be drawn.

    Attributes:
        scenes: one per scan.
        milliseconds: inference time per scan by run name, median.
        device: where it was measured.
        notes: why something is missing.
    """

    scenes: list[Scene] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)
    device: str = ""
    notes: list[str] = field(default_factory=list)


def make_gallery(runs: list[Run], count: int, track: Track, threads: int = 0) -> Gallery:
    """Draw ``count`` scans of the first run's validation data with every run's prediction."""
    gallery = Gallery()
    able = [run for run in runs if run.checkpoint is not None]
    gallery.notes += [f"{run.name} has no checkpoint yet." for run in runs if run.checkpoint is None]
    if count < 1 or not able:
        return gallery
    try:
        scans = chosen_scans(able[0], count)
    except KdSegError as error:
        gallery.notes.append(f"No pictures: {error}")
        return gallery
    segmenters = {run.name: Segmenter(run.checkpoint, num_threads=threads) for run in able}
    classes = segmenters[able[0].name].classes
    for run in able:
        if segmenters[run.name].classes.names != classes.names:
            gallery.notes.append(f"No pictures of {run.name}: it has other classes than {able[0].name}.")
            del segmenters[run.name]
    spent: dict[str, list[float]] = defaultdict(list)
    for segmenter in segmenters.values():
        segmenter.segment(scans[0].points)  # compiles; not timed
    for scan in track(scans, "drawing"):
        gallery.scenes.append(_scene(scan, segmenters, classes, spent))
    gallery.milliseconds = {name: median(values) for name, values in spent.items()}
    gallery.device = str(next(iter(segmenters.values())).device)
    return gallery


def chosen_scans(run: Run, count: int) -> list[Scan]:
    """Evenly spread scans that a run was evaluated on, else of its ``data.valid``; with pictures if any has them.

    Raises KdSegError where the data are not there or have no labels.
    """
    about = run.evaluation.about if run.evaluation is not None else {}
    settings = run.config.get("data", {})
    root = Path(about.get("data") or settings.get("root") or "")
    names = about.get("sequences") or settings.get("valid") or None
    if not names:
        raise KdSegError(f"{run.name} names no validation sequences.")
    intensity = settings.get("sensor", {}).get("intensity_range", "unit")
    form = FileFormat(settings.get("columns", 0), settings.get("dtype", "auto"), intensity_range=intensity)
    data = SemanticKitti(root, names, form)
    scans = [data.scan(*key) for key in data.keys() if data.sequences[key[0]].has_labels]  # noqa: SIM118
    scans = [scan for scan in scans if scan.cameras] or scans
    if not scans:
        raise KdSegError(f"{root} has no labelled scans in {', '.join(names)}.")
    count = min(count, len(scans))
    return [scans[(2 * number + 1) * len(scans) // (2 * count)] for number in range(count)]


def _scene(scan: Scan, segmenters: dict[str, Segmenter], classes: ClassTable, spent: dict[str, list[float]]) -> Scene:
    words = scan.labels
    assert words is not None
    truth, _ = classes.to_train_lenient(words)
    share = f"{100 * (truth > 0).mean():.0f} % of {len(truth):,} points labelled"
    above, *cameras = _views(scan, class_colours(truth, classes), None, "Truth", share)
    columns = [("Truth", [above, *cameras, *_bare(scan)])]
    for name, segmenter in segmenters.items():
        answer = segmenter.segment(scan.points)
        spent[name].append(answer.timings["voxelize"] + answer.timings["inference"])
        predicted = classes.class_to_train(answer.class_id)
        title, result = _result(predicted, truth, classes)
        wrong = (predicted != truth) & (truth > 0)
        views = _views(scan, class_colours(predicted, classes), None, f"{name}: prediction", result)
        errors = _views(scan, error_colours(predicted, truth), wrong, f"{name}: errors, {title}", result)
        columns.append((name, [*views, *errors]))
    return Scene(scan.name, columns)


def _result(predicted: TrainIds, truth: TrainIds, classes: ClassTable) -> tuple[str, str]:
    labelled = truth > 0
    wrong = 100 * float((predicted != truth)[labelled].mean()) if labelled.any() else 0.0
    present = scores(confusion(predicted, truth, len(classes)), classes).miou_present
    shown = "" if present is None else f", mIoU present {100 * present:.1f} %"
    return f"{wrong:.1f} % wrong", f"{wrong:.1f} % of the labelled points wrong{shown}"


def _views(scan: Scan, colours: Colours, raised: npt.NDArray[np.bool_] | None, title: str, words: str) -> list[Picture]:
    above = birds_eye(scan.points, colours, EXTENT, 900, raised)
    pictures = [Picture(title, f"{title}, {scan.name} seen from above; {words}.", "image/png", _png(above))]
    for camera in scan.cameras[:1]:
        overlay = camera_overlay(camera, scan.points, colours)
        pictures.append(
            Picture(title, f"{title}, {scan.name} in {camera.name}; {words}.", "image/jpeg", _jpeg(overlay))
        )
    return pictures


def _bare(scan: Scan) -> list[Picture]:
    return [
        Picture(camera.name, f"The picture of {camera.name} at scan {scan.name}.", "image/jpeg", _jpeg(camera.read()))
        for camera in scan.cameras[:1]
    ]


def _png(image: Image) -> bytes:
    """A small PNG: range rings and the ego vehicle drawn on, few colours."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    picture = Pictures.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    side = len(image)
    middle, metre = side / 2, side / (2 * EXTENT)
    for radius in range(10, int(EXTENT * 1.42), 10):
        reach = radius * metre
        draw.ellipse((middle - reach, middle - reach, middle + reach, middle + reach), outline=(255, 255, 255, 30))
    nose = [(middle - 0.9 * metre, middle + 1.5 * metre), (middle, middle - 1.8 * metre)]
    draw.line([*nose, (middle + 0.9 * metre, middle + 1.5 * metre)], fill=(255, 255, 255, 255), width=2)
    content = BytesIO()
    picture.convert("P", palette=Pictures.Palette.ADAPTIVE, colors=64).save(content, "PNG", optimize=True)
    return content.getvalue()


def _jpeg(image: Image) -> bytes:
    from PIL import Image as Pictures

    content = BytesIO()
    Pictures.fromarray(image).save(content, "JPEG", quality=82)
    return content.getvalue()
