"""``kd-seg simulate``: scans of procedural streets, cars, plants and people in SemanticKITTI's layout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from kd_seg.cli import console


def command(
    out: Annotated[Path, typer.Argument(help="Folder to write; it will hold sequences/ and truth/.")],
    sequences: Annotated[
        int, typer.Option(help="Number of sequences; 11 gives 00-10, as the official splits expect.")
    ] = 11,
    scans: Annotated[int, typer.Option(help="Scans per sequence, at 10 Hz.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    images: Annotated[bool, typer.Option("--images", help="Also render the left colour camera.")] = False,
    rare: Annotated[
        float, typer.Option(help="Factor on the number of hard-class objects; 1 = as in SemanticKITTI.")
    ] = 1.0,
    distort: Annotated[
        bool, typer.Option("--distort", help="Keep the distortion caused by the vehicle's motion.")
    ] = False,
    sensor: Annotated[
        str,
        typer.Option(
            help="LiDAR: a name in configs/sensors or a file like those; random = every sequence has another one."
        ),
    ] = "hdl64e",
    caster: Annotated[
        Literal["auto", "open3d", "embreex"],
        typer.Option(help="What finds the hits of rays; auto = Open3D, or embreex where Open3D is missing."),
    ] = "auto",
    camera_shift: Annotated[
        tuple[float, float, float],
        typer.Option(help="Metres forward, left and up from KITTI's place of the camera beside the LiDAR."),
    ] = (0.0, 0.0, 0.0),
    workers: Annotated[
        int, typer.Option(min=0, max=1024, help="Processes; 0 = one per core. The bytes do not depend on it.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier simulation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and speed as JSON.")] = False,
) -> None:
    """Simulate labelled scans of procedural streets, with the truth about objects, motion and visibility beside them.

    Example: kd-seg simulate datasets/streets --sequences 11 --scans 100 --rare 5

    An interrupted simulation with the same settings continues where it stopped.
    """
    from kd_seg.streets import simulate

    start = time.monotonic()
    with console.progress("scans", sequences * scans) as advance:
        simulate(
            out, sequences, scans, seed, images, rare,
            distort=distort, sensor=sensor, caster=caster, camera_shift=camera_shift,
            workers=workers or None, overwrite=overwrite, advance=advance,
        )  # fmt: skip
    spent = time.monotonic() - start
    rate = sequences * scans / max(spent, 1e-9)
    console.say(f"{sequences * scans} scans in {spent:.0f} s ({rate:.1f}/s) are in {out}")
    if as_json:
        console.print_json({"scans": sequences * scans, "seconds": spent, "scans_per_second": rate, "out": str(out)})
