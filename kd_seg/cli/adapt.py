"""``kd-seg adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kd_seg.cli.console import print_json, progress, say, warn


def command(
    drive: Annotated[Path, typer.Argument(help="Data root of the unlabelled drive (kd-seg convert makes it).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value for the configuration.")] = None,
    streets: Annotated[
        Path, typer.Option(help="Data root of labelled streets of that sensor (kd-seg simulate).")
    ] = ...,  # type: ignore[assignment]
    out: Annotated[Path, typer.Option(help="Folder of the adaptation.")] = ...,  # type: ignore[assignment]
    config: Annotated[str, typer.Option(help="Configuration of the adaptation.")] = "adapt",
    params: Annotated[Path | None, typer.Option(help="Parameter file of kd-seg calibrate.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of the networks on a CPU; 0 = library's default.")] = 0,
    labels_only: Annotated[
        bool, typer.Option("--labels-only", help="Write the data root of the first round and stop before training.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Adapt the student to a sensor by a drive without one label.

    A teacher predicts the drive; its predictions vote over time through the poses, the surest of each class and range
    are trusted, and a student learns from them beside labelled streets. Where the drive has cameras, an image teacher
    may help (teacher.images). labels/ of the drive is never opened. A run that was interrupted continues when the same
    command is given again.

    Example: kd-seg adapt DRIVE --streets STREETS --out runs/my_sensor --params sensor.yaml

             kd-seg predict drive.mcap --checkpoint runs/my_sensor/round_1/run --params sensor.yaml --out labelled.mcap
    """
    from kd_seg.adaptation.adapt import AdaptRequest, adapt, label, train_in_process
    from kd_seg.adaptation.fit import lacks_poses, misfits
    from kd_seg.adaptation.settings import AdaptSettings, sensor_settings
    from kd_seg.checkpoint import read_spec
    from kd_seg.cli.train import training_progress
    from kd_seg.core.config import apply_overrides, find_config, read_yaml, validate
    from kd_seg.scans import SemanticKitti
    from kd_seg.serving.parameters import read_parameters
    from kd_seg.serving.sources import home
    from kd_seg.views.adaptation_sheet import adaptation_sheet

    path = find_config(config)
    source = f"{path} with overrides" if overrides else str(path)
    settings = validate(AdaptSettings, apply_overrides(read_yaml(path), overrides or []), source)
    sensor = sensor_settings(read_parameters(params))
    request = AdaptRequest(home(drive), home(streets), home(out), settings, sensor, device, threads)
    unlabelled = SemanticKitti(request.drive)
    for sentence in (*lacks_poses(unlabelled), *misfits(unlabelled, SemanticKitti(request.streets), sensor)):
        warn(sentence)
    if labels_only:
        root, figures = label(request, progress)
        say(f"labels: {root}; kd-seg train adapted data.root={root} trains on them")
        if json_:
            print_json({"data": str(root), **figures})
        return
    with training_progress() as report:
        adapted = adapt(request, progress, train_in_process(report, progress))
    _say_rounds(adapted.figures["rounds"])
    picture = request.out / "adaptation.png"
    adaptation_sheet(request.out, request.drive, read_spec(adapted.checkpoint).classes).save(picture)
    say(f"student: {adapted.checkpoint}; {picture} shows it")
    if json_:
        print_json({"checkpoint": str(adapted.checkpoint), **adapted.figures})


def _say_rounds(rounds: list[dict[str, Any]]) -> None:
    for number, figures in enumerate(rounds, 1):
        parts = [f"{_percent(figures[key])} {key}" for key in ("before", "voted", "student")]
        say(f"round {number}, agreement over time: {', '.join(parts)}")
        if figures["statistics"]:
            say(f"round {number}: the teacher's batch norms took {figures['statistics']:.0%} of the drive's statistics")


def _percent(figures: dict[str, Any]) -> str:
    return "-" if figures["agreement"] is None else f"{100 * figures['agreement']:.1f} %"
