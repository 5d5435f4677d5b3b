"""``kd-seg view``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kd_seg.cli.console import say, tracked
from kd_seg.core.errors import UsageError
from kd_seg.core.failures import naming

if TYPE_CHECKING:
    from kd_seg.classes import ClassTable
    from kd_seg.views.coloured import ColouredCloud
    from kd_seg.views.picture import ViewRequest


def command(
    source: Annotated[Path, typer.Argument(help="Point file, sequence, data root, bag, or predictions.")],
    out: Annotated[
        Path | None, typer.Option(help="Picture to write (.png, .jpg, .svg, .pdf), or coloured points (.ply).")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Predictions, checkpoint or run (errors in red), or a scan (side by side).")
    ] = None,
    scan: Annotated[str | None, typer.Option(help="Which scan: 04/000003 of a root, 3 of a sequence or bag.")] = None,
    against_scan: Annotated[str | None, typer.Option(help="Which scan of --against, if that is data too.")] = None,
    topic: Annotated[str | None, typer.Option(help="PointCloud2 topic of a bag.")] = None,
    extent: Annotated[float, typer.Option("--range", min=1.0, help="Metres around the sensor seen from above.")] = 50.0,
    classes: Annotated[str, typer.Option(help="Class table of the labels.")] = "semantic_kitti_19",
    intensity_range: Annotated[
        Literal["unit", "byte", "uint16"] | None,
        typer.Option(help="Intensity range of the points given to a checkpoint; default unit, for bags byte."),
    ] = None,
    fused: Annotated[bool, typer.Option("--fused", help="Moving hard-class objects, without and registered.")] = False,
    window: Annotated[bool, typer.Option("--window", help="Fly through the points; C changes the colours.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="How .bin files lie: input.columns=5, input.dtype=float64.")
    ] = None,
    student: Annotated[
        list[Path] | None, typer.Option(help="With --fused: checkpoint or run to draw predictions of; repeatable.")
    ] = None,
) -> None:
    """Draw a scan from above, from the sensor and in its camera, alone or compared with another.

    Example: kd-seg view DATA --scan 04/000003 --out scan.png

             kd-seg view DATA --scan 04/000003 --against runs/demo_baseline --out errors.png

             kd-seg view PREDICTIONS --against DATA --scan 04/000003 --out errors.png

             kd-seg view SIMULATED --against REAL --out side_by_side.png

             kd-seg view drive.mcap --topic /points --scan 12 --out cloud.png

             kd-seg view DATA --scan 04/000003 --against runs/demo_baseline --window

             kd-seg view scan.pcd --out coloured.ply

             kd-seg view DATA --scan 04/000008 --fused --student runs/a --student runs/b --out objects.png
    """
    from kd_seg.serving.parameters import file_format, read_parameters
    from kd_seg.serving.sources import home, named
    from kd_seg.views.picture import ViewRequest

    _check(out, window, fused, student, against, against_scan)
    form = file_format(read_parameters(None, set_ or []))
    source, against, out = home(source), named(against) if against else None, home(out) if out else None
    request = ViewRequest(source, against, scan, against_scan, topic, extent, classes, intensity_range, form)
    if fused:
        _draw_fused(request, student or [], out)
    else:
        _draw(request, out, window)


def _check(
    out: Path | None,
    window: bool,
    fused: bool,
    student: list[Path] | None,
    against: Path | None,
    against_scan: str | None,
) -> None:
    """UsageError for options that do not go together."""
    if out is None and not window:
        raise UsageError("Name what to write with --out scan.png, or open a window with --window.")
    if student and not fused:
        raise UsageError("--student belongs to --fused; name one checkpoint with --against.")
    if against_scan is not None and against is None:
        raise UsageError("--against-scan is a scan of --against, which is not named.")
    if fused and window:
        raise UsageError("--fused draws pictures, no window; name one with --out objects.png.")


def _draw(request: ViewRequest, out: Path | None, window: bool) -> None:
    """Write a picture or coloured points, and open a window where asked to."""
    from kd_seg.scans import is_bag
    from kd_seg.views.picture import make_cloud, make_sheet

    named = [path for path in (request.source, request.against) if path is not None]
    if request.topic is not None and not any(is_bag(path) for path in named):
        raise UsageError(f"--topic is for bags; {request.source} is none.")
    coloured = out is not None and out.suffix.lower() == ".ply"
    if out is not None and not coloured:
        with naming(out):
            make_sheet(request, tracked).save(out)
        say(f"written: {out}")
    if not coloured and not window:
        return
    cloud, table = make_cloud(request)
    if out is not None and coloured:
        _write_ply(out, cloud, table)
    if window:
        from kd_seg.views.window import HELP, show

        say(HELP)
        show(cloud)


def _write_ply(out: Path, cloud: ColouredCloud, classes: ClassTable) -> None:
    from kd_seg.core.ownership import check_replaceable
    from kd_seg.views.coloured import write_ply

    check_replaceable(out)
    with naming(out):
        write_ply(out, cloud, classes)
    say(f"written: {out} ({len(cloud.points):,} points in the colours of their {next(iter(cloud.ways))})")


def _draw_fused(request: ViewRequest, students: list[Path], out: Path | None) -> None:
    """Write the sheet of fused objects; UsageError where no picture is named, or an option has no effect."""
    from kd_seg.classes import load_classes
    from kd_seg.views.fused_instances import view_fused

    if out is None or out.suffix == ".ply":
        raise UsageError("--fused draws pictures; name one with --out objects.png.")
    plain = replace(request, against=None, topic=None, extent=50.0)
    for name, option in (("against", "against"), ("topic", "topic"), ("extent", "range")):
        if getattr(request, name) != getattr(plain, name):
            raise UsageError(f"--{option} has no effect on --fused; leave it out.")
    form = replace(request.form, intensity_range=request.intensity_range or "unit")
    with naming(out):
        view_fused(request.source, request.scan, students, load_classes(request.classes), form).save(out)
    say(f"written: {out}")
