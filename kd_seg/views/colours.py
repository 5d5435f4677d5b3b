"""Colours of points and of the pictures' furniture. All pictures stand on a dark ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.classes import ClassTable
from kd_seg.evaluation.confusion import TrainIds

Colours = npt.NDArray[np.uint8]

GROUND = (15, 18, 25)
"""Behind everything, RGB."""
TEXT = "#e8ebf1"
MUTED = "#8f98aa"
LINE = "#39414f"
ACCENT = "#5db7ff"

UNLABELLED = (58, 64, 76)
RIGHT = (88, 98, 116)
WRONG = (255, 66, 54)

_BRIGHT = 0.56
_DARKEST = 0.20


def class_colours(train: TrainIds, classes: ClassTable) -> Colours:
    """Colour per point [N, 3] of train ids [N]; 0 is dim grey."""
    table = np.vstack([np.array([UNLABELLED], dtype=np.uint8), legend_colours(classes)])
    return table[train]


def legend_colours(classes: ClassTable) -> Colours:
    """The table's colours [C, 3], dark ones brightened until they can be told from the dark ground."""
    rgb = classes.colours.astype(np.float64) / 255.0
    rgb *= np.maximum(1.0, _BRIGHT / np.maximum(rgb.max(axis=1, keepdims=True), 1e-6))
    luminance = rgb @ np.array([0.30, 0.59, 0.11])
    share = np.clip((_DARKEST - luminance) / (1.0 - luminance), 0.0, 1.0)[:, None]
    bright: Colours = np.round(255.0 * (rgb + share * (1.0 - rgb))).astype(np.uint8)
    return bright


def error_colours(predicted: TrainIds, truth: TrainIds) -> Colours:
    """Grey where the prediction is right, red where it is wrong, darkest where there is no truth [N, 3]."""
    colours = np.empty((len(truth), 3), dtype=np.uint8)
    colours[:] = RIGHT
    colours[predicted != truth] = WRONG
    colours[truth == 0] = (40, 45, 55)
    return colours


def scalar_colours(values: npt.NDArray[np.floating[Any]], low: float, high: float, name: str = "viridis") -> Colours:
    """Colours [N, 3] of a matplotlib colour map over [low, high]; NaN is dim grey."""
    import matplotlib

    scaled = np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0)
    colours: Colours = (255 * matplotlib.colormaps[name](np.nan_to_num(scaled))[:, :3]).astype(np.uint8)
    colours[~np.isfinite(values)] = UNLABELLED
    return colours


def height_colours(points: npt.NDArray[np.float32]) -> Colours:
    """Colours [N, 3] of points without classes: hue by height, brightness by intensity."""
    z = points[:, 2]
    finite = z[np.isfinite(z)]
    low, high = (np.percentile(finite, 2), np.percentile(finite, 99)) if len(finite) else (0.0, 1.0)
    colours = scalar_colours(z, float(low), float(high), "turbo").astype(np.float64)
    intensity = np.nan_to_num(points[:, 3])
    top = np.percentile(intensity, 98) if len(intensity) else 1.0
    brightness = 0.45 + 0.55 * np.sqrt(np.clip(intensity / max(top, 1e-9), 0.0, 1.0))
    shaded: Colours = (colours * brightness[:, None]).astype(np.uint8)
    return shaded


def css(rgb: tuple[int, int, int] | Colours) -> str:
    """#rrggbb."""
    red, green, blue = (int(value) for value in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}"
