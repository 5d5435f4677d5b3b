"""``kd-seg predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, progress, say, tracked
from kd_seg.core.errors import DataError


def command(
    source: Annotated[Path, typer.Argument(help=".bin .pcd .ply .npy, a sequence, a data root, or a bag.")],
    out: Annotated[Path, typer.Option(help="Folder (or .label file) for labels; bag folder, .mcap or .db3 for a bag.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint or run folder; default the shipped student.")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="Parameter YAML of the ROS node.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter, such as input.intensity_range=unit.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Bag: PointCloud2 topic; may be left out if there is one.")] = None,
    storage: Annotated[str | None, typer.Option(help="Bag: mcap or sqlite3; default by the suffix of --out.")] = None,
    outputs: Annotated[
        str, typer.Option(help="Bag: clouds to write, of segmentation,visualization,filtered.")
    ] = "segmentation",
    copy_all: Annotated[bool, typer.Option("--copy-all", help="Bag: copy all messages of the input too.")] = False,
    shard: Annotated[str | None, typer.Option(help="Every n-th scan only: i/n, i from 1.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the network on a CPU; 0 = library's default.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> None:
    """Predict a class for every point.

    Scans become SemanticKITTI .label files (raw ids, as the benchmark's server takes them), bags become labelled bags.
    Intensities are taken as 0-1 for .bin files and data roots, as 0-255 for bags; for other files, give it with --set.

    Example: kd-seg predict DATA --out PREDICTIONS --checkpoint runs/demo_baseline

             kd-seg predict scan.pcd --out scan.label --set input.intensity_range=byte

             kd-seg predict drive.mcap --topic /points --out labelled.mcap
    """
    from kd_seg.scans import is_bag
    from kd_seg.serving.parameters import cloud_settings, read_parameters
    from kd_seg.serving.segmenter import Segmenter

    values = read_parameters(params, set_ or [])

    def load() -> Segmenter:
        asked = checkpoint or values.get("checkpoint") or None
        where = device or values.get("device", "auto")
        count = threads if threads is not None else values.get("num_threads", 0)
        segmenter = Segmenter(asked, where, values.get("precision", "auto"), count)
        say(f"{segmenter.checkpoint_path} on {segmenter.device}")
        return segmenter

    if is_bag(source):
        from kd_seg.serving.bags import BagOptions, count_messages, label_bag

        names = tuple(name.strip() for name in outputs.split(",") if name.strip())
        options = BagOptions(topic, storage, names, copy_all, cloud_settings(values))
        with progress("labelling", count_messages(source, options)) as advance:
            summary = label_bag(source, out, load(), options, advance)
    else:
        from kd_seg.core.shard import parse_shard
        from kd_seg.serving.label_files import label_files, plan, sensor_of

        tasks = plan(source, out, *parse_shard(shard))
        settings = sensor_of(source, values)
        segmenter = load()
        summary = {**label_files(segmenter, tracked(tasks, "labelling"), settings).to_json(), "out": str(out)}
    for warning in summary["warnings"]:
        say(f"warning: {warning}")
    say(f"{summary['scans']} scans, {summary['points']:,} points, {summary['scans_per_second']:.1f} scans/s: {out}")
    if json_:
        print_json(summary)
    if summary["scans"] == 0:
        raise DataError(f"Nothing in {source} was labelled; the warnings above name the reasons.")
