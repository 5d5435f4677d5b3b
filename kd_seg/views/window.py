"""A window to fly through a scan, by Open3D."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from kd_seg.core.errors import MissingDependencyError
from kd_seg.core.open3d import open3d
from kd_seg.views.coloured import ColouredCloud
from kd_seg.views.colours import GROUND

HELP = "drag: turn, wheel: zoom, shift and drag: move, C: next colours, + and -: size of points, Q: close"

_NO_DISPLAY = (
    "There is no display to open a window on; write a picture with --out scan.png, or points for a viewer on another "
    "machine with --out cloud.ply."
)


def show(cloud: ColouredCloud, frames: int | None = None) -> str:
    """Open the window and return the name of the colours shown last once it is closed.

    Args:
        frames: close it by itself after so many (for tests), each with the next colours; None = the user closes it.

    Raises MissingDependencyError where there is no display, or Open3D cannot be imported.
    """
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise MissingDependencyError(_NO_DISPLAY)
    module = open3d()
    module.utility.set_verbosity_level(module.utility.VerbosityLevel.Error)
    window = module.visualization.VisualizerWithKeyCallback()
    if not window.create_window(window_name=f"kd-seg: {cloud.name}", width=1280, height=800):
        raise MissingDependencyError(_NO_DISPLAY)
    try:
        return _fly(module, window, cloud, frames)
    finally:
        window.destroy_window()


def _fly(module: Any, window: Any, cloud: ColouredCloud, frames: int | None) -> str:
    names = list(cloud.ways)
    shown = [0]
    drawn = module.geometry.PointCloud(module.utility.Vector3dVector(cloud.points[:, :3].astype(float)))

    def paint() -> None:
        drawn.colors = module.utility.Vector3dVector(cloud.ways[names[shown[0]]] / 255.0)

    def following(_: Any) -> bool:
        shown[0] = (shown[0] + 1) % len(names)
        paint()
        window.update_geometry(drawn)
        return False

    paint()
    window.add_geometry(drawn)
    options = window.get_render_option()
    options.background_color = [part / 255.0 for part in GROUND]
    options.point_size = 2.0
    window.register_key_callback(ord("C"), following)
    _look_forward(window)
    if frames is None:
        window.run()
    else:
        _turn_pages(window, frames, following)
    return names[shown[0]]


def _turn_pages(window: Any, frames: int, following: Callable[[Any], bool]) -> None:
    for _ in range(frames):
        window.poll_events()
        window.update_renderer()
        following(window)


def _look_forward(window: Any) -> None:
    """From behind and above the sensor, forwards."""
    view = window.get_view_control()
    view.set_front([-0.8, 0.0, 0.6])
    view.set_up([0.0, 0.0, 1.0])
    view.set_lookat([8.0, 0.0, 0.0])
    view.set_zoom(0.25)
