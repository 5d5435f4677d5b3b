"""A sheet of pictures: panels placed in inches from the upper left corner, titles and legends in one style."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kd_seg.core.errors import UsageError
from kd_seg.core.files import whole_file
from kd_seg.core.ownership import MARK, check_replaceable
from kd_seg.views.colours import GROUND, LINE, MUTED, TEXT, Colours, css
from kd_seg.views.raster import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METADATA: dict[str, dict[str, Any]] = {
    ".png": {"metadata": {"Software": MARK}},
    ".jpg": {"pil_kwargs": {"comment": MARK.encode()}},
    ".jpeg": {"pil_kwargs": {"comment": MARK.encode()}},
    ".svg": {"metadata": {"Creator": MARK}},
    ".pdf": {"metadata": {"Creator": MARK}},
}
"""By suffix, what marks a picture as kd_seg's."""


class Sheet:
    """A figure of a size in inches; nothing global is touched (no pyplot).

    Args:
        width, height: inches.
        dpi: pixels per inch.
    """

    def __init__(self, width: float, height: float, dpi: int = 100) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=dpi, facecolor=css(GROUND))
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Bare axes at a place in inches from the upper left corner."""
        bottom = self.height - top - height
        axes = self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height), facecolor=css(GROUND)
        )
        for spine in axes.spines.values():
            spine.set_color(LINE)
        axes.tick_params(colors=MUTED, labelsize=8, color=LINE)
        return axes

    def text(self, left: float, top: float, text: str, size: float = 10, colour: str = TEXT, **options: str) -> None:
        """Text whose upper left corner (or as ``ha``, ``va`` say) is at a place in inches."""
        style: dict[str, Any] = {"ha": "left", "va": "top", "fontsize": size, "color": colour, **options}
        self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def title(self, text: str, below: str, margin: float = 0.3) -> None:
        """The sheet's title and the line below it."""
        self.text(margin, 0.22, text, size=17, weight="bold")
        self.text(margin, 0.58, below, size=10.5, colour=MUTED)

    def birds_eye(self, place: tuple[float, float, float], image: Image, extent: float, title: str) -> None:
        """A bird's-eye view at (left, top, side), with range rings and the ego vehicle."""
        left, top, side = place
        self.text(left, top - 0.26, title, size=11)
        axes = self.axes(left, top, side, side)
        axes.imshow(image, extent=(extent, -extent, -extent, extent), interpolation="antialiased", aspect="auto")
        turn = np.linspace(0, 2 * np.pi, 200)
        step = 10 if extent <= 60 else 20
        for radius in range(step, int(extent * 1.42), step):
            axes.plot(radius * np.sin(turn), radius * np.cos(turn), color="white", alpha=0.10, linewidth=0.6)
            if radius < extent:
                axes.text(
                    -radius * 0.707, radius * 0.707, f"{radius} m", fontsize=6.5, color=MUTED, ha="center", va="center",
                    bbox={"facecolor": css(GROUND), "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
                )  # fmt: skip
        axes.plot([0.9, 0, -0.9], [-1.5, 1.8, -1.5], color="white", linewidth=1.1, solid_capstyle="round")
        axes.set_xlim(extent, -extent)
        axes.set_ylim(-extent, extent)
        axes.set_xticks([])
        axes.set_yticks([])

    def picture(self, place: tuple[float, float, float, float], image: Image, title: str) -> None:
        """Any picture at (left, top, width, height)."""
        left, top, width, height = place
        self.text(left, top - 0.26, title, size=11)
        axes = self.axes(left, top, width, height)
        axes.imshow(image, aspect="auto", interpolation="antialiased")
        axes.set_xticks([])
        axes.set_yticks([])

    def range_view(
        self, place: tuple[float, float, float, float], image: Image, title: str, named: bool = True
    ) -> None:
        """A range view at (left, top, width, height), with its azimuths below where ``named``."""
        left, top, width, height = place
        self.text(left, top - 0.26, title, size=11)
        axes = self.axes(left, top, width, height)
        axes.imshow(image, extent=(180, -180, 0, 1), aspect="auto", interpolation="antialiased")
        axes.set_xticks([180, 90, 0, -90, -180])
        axes.set_xticklabels(["behind", "left", "ahead", "right", "behind"] if named else [])
        sides: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "center", "center", "right")
        for tick, side in zip(axes.get_xticklabels(), sides, strict=named):
            tick.set_horizontalalignment(side)
        axes.tick_params(length=2, pad=2)
        axes.set_yticks([])

    def legend(
        self,
        place: tuple[float, float, float],
        rows: list[tuple[Colours | tuple[int, int, int], str, str]],
        columns: int,
        spacing: float = 0.24,
    ) -> float:
        """Swatch, name and value in columns at (left, top, width); returns the height in inches."""
        left, top, width = place
        each = -(-len(rows) // columns)
        step = width / columns
        for number, (colour, name, value) in enumerate(rows):
            x, y = left + (number // each) * step, top + (number % each) * spacing
            patch = self.axes(x, y - 0.01, 0.15, 0.15)
            patch.set_facecolor(css(colour))
            patch.set_xticks([])
            patch.set_yticks([])
            self.text(x + 0.23, y + 0.0, name, size=9.5)
            self.text(x + step - 0.25, y + 0.0, value, size=9.5, colour=MUTED, ha="right")
        return each * spacing

    def save(self, path: Path) -> None:
        """Write the picture whole; UsageError where its suffix is no picture's, or another's file is in the way."""
        suffix = path.suffix.lower()
        if suffix not in METADATA:
            raise UsageError(f"--out {path.name}: pictures are written as {', '.join(METADATA)}; choose one of these.")
        check_replaceable(path)
        with whole_file(path) as temporary:
            self.figure.savefig(temporary, facecolor=css(GROUND), format=suffix[1:], **METADATA[suffix])
