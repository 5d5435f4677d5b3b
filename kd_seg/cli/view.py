"""``kd-seg view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kd_seg.cli.console import say, tracked


def command(
    source: Annotated[Path, typer.Argument(help="Point file, sequence, data root, bag, or predictions.")],
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .jpg, .svg or .pdf.")],
    against: Annotated[
        Path | None,
        typer.Option(help="Predictions, checkpoint or run (errors are marked), or another scan (side by side)."),
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
    fused: Annotated[
        bool,
        typer.Option("--fused", help="Draw its moving hard-class objects, fused with and without registration."),
    ] = False,
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

             kd-seg view DATA --scan 04/000008 --fused --student runs/a --student runs/b --out objects.png
    """
    if fused:
        from kd_seg.classes import load_classes
        from kd_seg.views.fused_instances import view_fused

        view_fused(source, scan, student or [], load_classes(classes)).save(out)
        say(f"written: {out}")
        return
    from kd_seg.views.picture import ViewRequest, make_sheet

    request = ViewRequest(source, against, scan, against_scan, topic, extent, classes, intensity_range)
    make_sheet(request, tracked).save(out)
    say(f"written: {out}")
