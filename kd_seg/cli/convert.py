"""``kd-seg convert``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kd_seg.cli.console import print_json, progress, say, warn

if TYPE_CHECKING:
    from kd_seg.drives.convert import Converted, ConvertOptions


def command(
    source: Annotated[Path, typer.Argument(help="A bag, or a folder of point files (.pcd .bin .ply .npy).")],
    out: Annotated[Path, typer.Option(help="Data root; the drive becomes its sequences/NN.")],
    sequence: Annotated[str, typer.Option(help="Name of the sequence folder.")] = "00",
    points: Annotated[str | None, typer.Option(help="Bag: PointCloud2 topic; may be left out if there is one.")] = None,
    odometry: Annotated[str | None, typer.Option(help="Bag: topic of nav_msgs/Odometry or PoseStamped.")] = None,
    tf: Annotated[str | None, typer.Option(help="Bag: fixed frame whose transforms in /tf are the poses.")] = None,
    poses: Annotated[Path | None, typer.Option(help="TUM file: time x y z qx qy qz qw.")] = None,
    kiss_icp: Annotated[bool, typer.Option("--kiss-icp", help="Estimate poses from the points.")] = False,
    extrinsic: Annotated[
        str | None, typer.Option(help="'x y z roll pitch yaw' of the LiDAR in the frame of the poses (m, degrees).")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="Bag: image topic, raw or compressed; twice at most.")
    ] = None,
    camera_info: Annotated[
        list[str] | None, typer.Option(help="Bag: its CameraInfo; default camera_info beside it.")
    ] = None,
    deskew: Annotated[bool, typer.Option("--deskew", help="Undo motion within a sweep by per-point times.")] = False,
    every: Annotated[int, typer.Option(help="Take every n-th cloud.")] = 1,
    limit: Annotated[int, typer.Option(help="Take at most so many clouds; 0 = all.")] = 0,
    params: Annotated[
        Path | None, typer.Option(help="Parameter file of kd-seg calibrate: intensities' field and range.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="input.intensity_range=... or input.intensity_fields=[...].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier conversion.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> None:
    """Turn a recorded drive into a data set that every other command reads.

    Scans, times, poses, calibration and pictures are written in SemanticKITTI's layout. A run that was interrupted goes
    on where it stopped. Poses come from an odometry topic, from /tf, from a TUM file, or from LiDAR odometry (package
    kiss-icp). Intensities are stored as 0-1.

    Example: kd-seg convert drive.mcap --points /points --odometry /odom --params sensor.yaml --out DATA

             kd-seg convert drive.mcap --kiss-icp --camera /camera/image_raw/compressed --out DATA

             kd-seg convert SCANS --poses SCANS/poses.tum --out DATA
    """
    from kd_seg.drives.convert import ConvertOptions
    from kd_seg.drives.recorded_input import recorded_input

    taken = frozenset({"input.intensity_range"})
    values, fields, form = recorded_input(source.expanduser(), params, set_ or [], taken)
    options = ConvertOptions(
        points=points, odometry=odometry, tf=tf, poses=poses, kiss_icp=kiss_icp, extrinsic=extrinsic,
        cameras=tuple(camera or ()), camera_infos=tuple(camera_info or ()), deskew=deskew, every=every, limit=limit,
        intensity_range=values.get("input.intensity_range"),
        intensity_fields=fields, form=form, sequence=sequence, overwrite=overwrite,
    )  # fmt: skip
    report = _convert(source.expanduser(), out.expanduser(), options)
    _report(report)
    if json_:
        print_json(report.to_json())


def _report(report: Converted) -> None:
    """Warnings, what was left out, and counts for a person."""
    for warning in report.warnings:
        warn(warning)
    for reason, count in report.left_out.items():
        say(f"left out: {count} {reason}")
    driven = f", {report.metres:.0f} m driven" if report.metres is not None else ""
    say(f"{report.scans} scans, {report.pictures} pictures{driven}: {report.folder}")


def _convert(source: Path, out: Path, options: ConvertOptions) -> Converted:
    """Convert with a progress bar for each stage."""
    from kd_seg.drives.convert import convert

    with contextlib.ExitStack() as stages:

        def stage(name: str, total: int) -> Callable[[int], None]:
            stages.close()
            return stages.enter_context(progress(name, total))

        return convert(source, out, options, stage)
