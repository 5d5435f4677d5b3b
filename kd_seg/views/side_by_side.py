"""Two scans side by side, and below them in which figures their data differ: how real is the simulator?"""

from __future__ import annotations

from kd_seg.classes import ClassTable
from kd_seg.views.colours import class_colours, height_colours
from kd_seg.views.raster import birds_eye, camera_overlay, range_view
from kd_seg.views.sheet import Sheet
from kd_seg.views.source import ShownScan
from kd_seg.views.statistics_panels import HEIGHT, Pair, draw_statistics

MARGIN = 0.3
WIDTH = 7.55


def side_by_side_sheet(
    shots: tuple[ShownScan, ShownScan],
    names: tuple[str, str],
    classes: ClassTable,
    extent: float = 50.0,
    statistics: Pair | None = None,
) -> Sheet:
    """Both scans from above, from the sensor and in their cameras; below, the statistics of where they come from.

    Args:
        names: of the two data sets.
        statistics: of the two data sets, or None to leave them out.
    """
    cameras = any(shot.cameras for shot in shots)
    picture = WIDTH * 0.303
    view = 1.2 + WIDTH + 0.5 + (2 * (picture + 0.45) if cameras else 0.0)
    below = view + 1.0 + 0.6
    sheet = Sheet(16.0, below + (HEIGHT if statistics is not None else 0.0))
    titles = [
        f"{name}: {shot.name}" if shot.scan is not None else shot.name for name, shot in zip(names, shots, strict=True)
    ]
    sheet.title(" beside ".join(titles), " and ".join(f"{len(shot.points):,} points" for shot in shots))
    for number, (shot, title) in enumerate(zip(shots, titles, strict=True)):
        column = MARGIN + number * (WIDTH + 0.3)
        colours = class_colours(shot.train, classes) if shot.train is not None else height_colours(shot.points)
        sheet.birds_eye((column, 1.2, WIDTH), birds_eye(shot.points, colours, extent), extent, title)
        top = 1.2 + WIDTH + 0.5
        for camera in shot.cameras[:1]:
            sheet.picture((column, top, WIDTH, picture), camera.read(), camera.name)
            overlay = camera_overlay(camera, shot.points, colours)
            below_it = f"{camera.name} with the points that it sees"
            sheet.picture((column, top + picture + 0.45, WIDTH, picture), overlay, below_it)
        sheet.range_view((column, view, WIDTH, 1.0), range_view(shot.points, colours), "Seen from the sensor")
    if statistics is not None:
        draw_statistics(sheet, below, names, statistics, classes)
    return sheet
