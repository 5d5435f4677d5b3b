"""The same street through different LiDARs: ``python -m kd_seg.studies.sensor_sheets NAME... --out PICTURE.png``.

For every sensor a row: the labelled scan from above, and intensity as the sensor sees it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from kd_seg.classes import load_classes
from kd_seg.scans import Points, SemanticKitti, Words
from kd_seg.streets import simulate
from kd_seg.views.colours import class_colours, scalar_colours
from kd_seg.views.raster import Image, birds_eye, range_view

SIDE = 420
"""Pixels of a view from above, and of the height of a row."""
EXTENT_M = 30.0
SEED = 3


def scan_of(sensor: str) -> tuple[Points, Words]:
    """Points [N, 4] and label words [N] of one scan of a street that is the same for every sensor."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(folder, 1, 2, SEED, workers=1, sensor=sensor)
        scan = SemanticKitti(folder).scan("00", 1)
        points, words = scan.points, scan.labels
    if words is None:
        raise RuntimeError(f"the simulation of {sensor} has no labels")
    return points, words


def row(sensor: str) -> Image:
    """One sensor's row [SIDE, 3 * SIDE, 3]: classes from above, intensity (lowest to 95 %) as it sees them."""
    points, words = scan_of(sensor)
    classes = load_classes()
    above = birds_eye(points, class_colours(classes.to_train(words, sensor), classes), EXTENT_M, SIDE)
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    upper, lower = float(elevation.max()) + 1.0, float(elevation.min()) - 1.0
    shown = scalar_colours(points[:, 3], 0.0, max(float(np.percentile(points[:, 3], 95)), 1e-3))
    azimuth = np.abs(np.degrees(np.arctan2(points[:, 1], points[:, 0])))
    width = 2 * SIDE
    reach = max(float(azimuth.max()), 30.0)
    whole = int(width * 180.0 / reach)
    seen = range_view(points, shown, fov_deg=(upper, lower), shape=(SIDE, whole))
    middle = (whole - width) // 2
    return np.concatenate([above, seen[:, middle : middle + width]], axis=1)


def main() -> None:
    """Write the picture."""
    from PIL import Image as Pictures

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sensors", nargs="+", help="names in configs/sensors, or files")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    gap = np.full((8, 3 * SIDE, 3), 255, np.uint8)
    rows = [part for sensor in arguments.sensors for part in (row(sensor), gap)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(np.concatenate(rows[:-1])).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {', '.join(arguments.sensors)}, from the top")


if __name__ == "__main__":
    main()
