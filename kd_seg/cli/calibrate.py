"""``kd-seg calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, progress, say, warn


def command(
    source: Annotated[Path, typer.Argument(help="A bag, a folder of point files, or a sequence folder.")],
    out: Annotated[Path, typer.Option(help="Parameter file to write; a picture is written beside it.")] = Path(
        "sensor.yaml"
    ),
    sensor_out: Annotated[
        Path | None, typer.Option(help="Also write the sensor as a file for kd-seg simulate --sensor.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Bag: PointCloud2 topic; may be left out if there is one.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint the sensor is measured for; default the shipped student.")
    ] = None,
    clouds: Annotated[int, typer.Option(help="Clouds to read, spread over the recording.")] = 100,
    set_: Annotated[list[str] | None, typer.Option("--set", help="input.intensity_fields=[NAME].")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier calibration.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print figures and parameters as JSON on stdout.")] = False,
) -> None:
    """Measure a sensor: intensities, height and tilt over the ground, field of view, own vehicle.

    Writes the parameter file for the node (params_file:=) and for kd-seg predict --params, each line with its reason,
    and a picture to check it by; on demand also the sensor itself, so that streets can be simulated as it sees them.
    Record a hundred clouds or more from a moving vehicle on a flat road.

    Example: kd-seg calibrate drive.mcap --topic /points --out sensor.yaml --sensor-out lidar.yaml

             kd-seg predict drive.mcap --params sensor.yaml --out labelled.mcap
    """
    from kd_seg.checkpoint import read_spec, resolve, shipped
    from kd_seg.core.files import write_text
    from kd_seg.drives.calibrate import calibrate
    from kd_seg.drives.calibration.sensor_file import sensor_file
    from kd_seg.drives.recorded_input import recorded_input
    from kd_seg.serving.sources import home
    from kd_seg.views.calibration_sheet import calibration_sheet

    source, out, sensor_out = home(source), home(out), home(sensor_out) if sensor_out is not None else None
    picture = _check_free(out, sensor_out, overwrite)
    _, fields, form = recorded_input(source, None, set_ or [])
    sensor = read_spec(resolve(checkpoint) if checkpoint else shipped()).sensor
    with progress("measuring", clouds) as advance:
        found = calibrate(source, sensor, topic, clouds, fields, advance, form)
    simulated = sensor_file(list(found.frames), found.figures, found.source.name) if sensor_out else ""
    write_text(out, found.text)
    if sensor_out is not None:
        write_text(sensor_out, simulated)
    calibration_sheet(found).save(picture)
    for warning in found.warnings:
        warn(warning)
    for line in found.lines:
        say(f"input.{line.name}: {line.value}  ({line.reason})")
    if (span := found.figures.sweep_s) > 0:
        say(f"each cloud spans {1000 * span:.0f} ms: kd-seg convert --deskew undoes the motion meanwhile")
    written = {"parameters_file": str(out), "picture": str(picture)}
    if sensor_out is not None:
        written["sensor_file"] = str(sensor_out)
    say(", ".join(written.values()))
    if json_:
        print_json({**found.to_json(), **written})


def _check_free(out: Path, sensor_out: Path | None, overwrite: bool) -> Path:
    """The picture's path; UsageError where a file to write is a folder, where two are one, or where one exists."""
    from kd_seg.core.errors import UsageError

    for path in (out, sensor_out):
        if path is not None and path.is_dir():
            raise UsageError(f"{path} is a folder; name the file to write, such as {path / 'sensor.yaml'}.")
    picture = out.with_suffix(".png")
    if picture in (out, sensor_out):
        raise UsageError(f"{picture} is the picture that is written beside {out.name}; give the file another suffix.")
    if sensor_out is not None and sensor_out.resolve() == out.resolve():
        raise UsageError(f"--out and --sensor-out are both {out}; they are different files.")
    for path in (out, picture, sensor_out):
        if path is not None and path.exists() and not overwrite:
            raise UsageError(f"{path} exists; give another name, or add --overwrite.")
    return picture
