"""A sheet of single objects: one scan alone, fused by ego-motion, fused and registered, and predictions."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.core.errors import DataError
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.instances.fusion import Fuser, prepare_fusion
from kd_seg.instances.settings import CloudSettings, FusionSettings, LibrarySettings
from kd_seg.scans import Cloud, FileFormat, Kind, KittiSequence, Points, Scan, SemanticKitti
from kd_seg.views.colours import MUTED, Colours, class_colours, scalar_colours
from kd_seg.views.sheet import Sheet
from kd_seg.views.source import ShownScan, find_scan, segmented

CELL, MARGIN, TOP = 3.3, 0.3, 1.5
LIBRARY = LibrarySettings(decoy_cars=0.0, decoy_clutter=0.0)
COMMAND = "kd-seg view SOURCE --fused --out OUT"
ALIGNMENTS = (("ego", "fused by ego-motion alone"), ("registered", "fused and registered"))
OWN_COLOUR = np.array([[255, 255, 255]], dtype=np.uint8)


def view_fused(
    source: Path, which: str | None, students: list[Path], classes: ClassTable, form: FileFormat = FileFormat()
) -> Sheet:
    """``fused_sheet`` of a scan of a data root or sequence, with the predictions of checkpoints or runs.

    Args:
        form: how the .bin files lie, and the range of their intensities.
    """
    scan = find_scan(source, which, form)
    if scan.labels_path is None or not scan.labels_path.is_file():
        raise DataError(f"{scan.points_path} has no labels, which name the objects that --fused draws.")
    shot = ShownScan(scan.name, scan.file_points, scan=scan)
    names = _names(students)
    predictions = [(names[i], segmented(path, shot, classes, form.intensity_range)) for i, path in enumerate(students)]
    return fused_sheet(scan, classes, predictions)


def fused_sheet(
    scan: Scan, classes: ClassTable, predictions: list[tuple[str, TrainIds]], earlier: int = 4, most: int = 3
) -> Sheet:
    """The largest moving object of each hard class of a scan (at most ``most``), one line each.

    Args:
        scan: labelled, with a pose.
        predictions: (name, train ids [N]) of students, each a further column; own points coloured by the prediction.
        earlier: scans fused.

    Raises:
        DataError: the scan has no moving object of a hard class with an earlier appearance.
    """
    clouds: dict[str, Cloud] = {}
    with _window(scan, earlier) as data:
        same = data.scan(scan.sequence, scan.index)
        for alignment, _ in ALIGNMENTS:
            parts = CloudSettings(earlier=earlier, alignment=alignment, decoys=False, skip=0.0)
            settings = FusionSettings(library=LIBRARY, cloud=parts)
            cache = Path(data.root) / "cache"
            prepare_fusion(cache, data, classes, settings, Work(COMMAND))
            fuser = Fuser.open(cache, data, classes, settings, COMMAND)
            clouds[alignment] = fuser.fuse(same, Cloud.of_scan(same), np.random.default_rng(0))
    words = _choose(clouds["registered"], classes, most)
    if not words:
        raise DataError(
            f"Scan {scan.name} has no moving object of a hard class that earlier scans see; name another with --scan."
        )
    columns = 1 + len(ALIGNMENTS) + len(predictions)
    sheet = Sheet(2 * MARGIN + CELL * columns, TOP + (CELL + 0.5) * len(words))
    sheet.title(
        f"{scan.name}: hard-class objects over {earlier + 1} scans", "seen from above; white: this scan, colours: older"
    )
    for line, word in enumerate(words):
        top = TOP + line * (CELL + 0.5)
        own = clouds["ego"].take(np.arange(clouds["ego"].own))
        mine = own.words == word
        centre, half = _frame(clouds, word)
        name = classes.names[int(classes.to_train(np.array([word], np.uint32), scan.name)[0]) - 1]
        places = [(MARGIN + column * CELL, top) for column in range(columns)]
        _panel(
            sheet, places[0], f"{name}: one scan, {int(mine.sum())} points", own.points[mine], OWN_COLOUR, centre, half
        )
        for place, (alignment, title) in zip(places[1:], ALIGNMENTS, strict=False):
            cloud = clouds[alignment]
            rows = np.flatnonzero(cloud.words == word)
            rows = rows[np.argsort(-cloud.origin[rows].astype(int), kind="stable")]
            age = scalar_colours(cloud.origin[rows].astype(np.float64), 0.0, float(earlier), "plasma_r")
            age[cloud.origin[rows] == 0] = OWN_COLOUR
            _panel(sheet, place, f"{title}, {len(rows)}", cloud.points[rows], age, centre, half)
        for place, (student, train) in zip(places[1 + len(ALIGNMENTS) :], predictions, strict=True):
            predicted = train[own.source[mine]]
            truth = classes.to_train(own.words[mine], scan.name)
            share = float((predicted == truth).mean()) if mine.any() else 0.0
            _panel(
                sheet, place, f"{student}: {100 * share:.0f} % right", own.points[mine],
                class_colours(predicted, classes), centre, half,
            )  # fmt: skip
    return sheet


def _names(students: list[Path]) -> list[str]:
    """The last part of each path that tells it from the others."""
    parts = [path.resolve().with_suffix("").parts for path in students]
    for place in range(1, min((len(p) for p in parts), default=1)):
        names = [p[-place] for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in students]


def _panel(
    sheet: Sheet,
    place: tuple[float, float],
    title: str,
    points: Points,
    colours: Colours,
    centre: npt.NDArray[np.float64],
    half: float,
) -> None:
    left, top = place
    sheet.text(left, top - 0.26, title, size=9.5)
    axes = sheet.axes(left, top, CELL - 0.15, CELL - 0.15)
    axes.scatter(points[:, 0] - centre[0], points[:, 1] - centre[1], s=3.0, c=colours / 255.0, linewidths=0)
    axes.set_xlim(-half, half)
    axes.set_ylim(-half, half)
    axes.set_aspect("equal")
    axes.set_xticks([-int(half), 0, int(half)] if half >= 1 else [])
    axes.set_yticks([])
    axes.set_xlabel("m", fontsize=7, color=MUTED)


def _choose(cloud: Cloud, classes: ClassTable, most: int) -> list[int]:
    """Words of the moving objects with fused points, the largest of each class, classes in order of size."""
    words, counts = np.unique(cloud.words[cloud.kind == Kind.FUSED], return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for word, count in zip(words.tolist(), counts.tolist(), strict=True):
        raw = word & 0xFFFF
        if not classes.raw_names[raw].startswith("moving-"):
            continue
        train = classes.raw_train[raw]
        best[train] = max(best.get(train, (0, 0)), (count, word))
    return [word for _, word in sorted(best.values(), reverse=True)[:most]]


def _frame(clouds: dict[str, Cloud], word: int) -> tuple[npt.NDArray[np.float64], float]:
    """Centre and half side of a square that holds an object however it is fused, within twice its registered size."""
    xy = np.concatenate([cloud.points[cloud.words == word, :2] for cloud in clouds.values()])
    registered = clouds["registered"].points[clouds["registered"].words == word, :2]
    half = max(float(np.ptp(registered, axis=0).max()), 1.0)
    centre = (registered.min(axis=0) + registered.max(axis=0)) / 2
    reach = float(np.abs(xy - centre).max())
    return centre, min(1.1 * reach, 1.2 * half)


@contextlib.contextmanager
def _window(scan: Scan, earlier: int) -> Iterator[SemanticKitti]:
    """A data root that holds only the scan and those before it, so that nothing more is read or registered."""
    folder = scan.points_path.parent.parent
    sequence = KittiSequence(folder, scan.form)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "sequences" / scan.sequence
        for kind, suffix in (("velodyne", ".bin"), ("labels", ".label")):
            (made / kind).mkdir(parents=True)
            for index in range(scan.index - earlier, scan.index + 1):
                if index not in sequence:
                    continue
                source = folder / kind / f"{sequence.points_path(index).stem}{suffix}"
                if source.is_file():
                    os.symlink(source.resolve(), made / kind / source.name)
        for file in ("poses.txt", "calib.txt", "times.txt"):
            if (folder / file).is_file():
                shutil.copy(folder / file, made / file)
        yield SemanticKitti(name, form=scan.form)
