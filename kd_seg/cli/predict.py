"""``kd-seg predict``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kd_seg.cli.console import print_json, progress, say, tracked, warn
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.failures import naming

if TYPE_CHECKING:
    from kd_seg.serving.segmenter import Segmenter


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(help=".bin .pcd .ply .npy files, folders of them, sequences, data roots; or one bag."),
    ],
    out: Annotated[Path, typer.Option(help="Folder (or .label file) for labels; bag folder, .mcap or .db3 for a bag.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint, run folder, or taught (default), general or hdl64e, which ship."),
    ] = None,
    params: Annotated[Path | None, typer.Option(help="Parameter YAML of the ROS node.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One parameter, such as input.intensity_range=unit.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Bag: PointCloud2 topic; may be left out if there is one.")] = None,
    storage: Annotated[str | None, typer.Option(help="Bag: mcap or sqlite3; default by the suffix of --out.")] = None,
    outputs: Annotated[
        str | None, typer.Option(help="Bag: clouds to write, of segmentation (default), visualization, filtered.")
    ] = None,
    copy_all: Annotated[bool, typer.Option("--copy-all", help="Bag: copy all messages of the input too.")] = False,
    shard: Annotated[str | None, typer.Option(help="Files: every n-th scan only: i/n, i from 1.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Files: replace labels that are there.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, max=1024, help="Threads of the network on a CPU; 0 = library's default.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as JSON on stdout.")] = False,
) -> None:
    """Predict a class for every point.

    Scans become SemanticKITTI .label files (raw ids, as the benchmark's server takes them), bags become labelled bags.
    Intensities are taken as 0-1 for .bin files and data roots, as 0-255 for bags; for other files, give it with --set.
    A call that was stopped continues where it was; labels of other checkpoints or settings are never mixed in.

    Example: kd-seg predict DATA --out PREDICTIONS --checkpoint runs/demo_baseline

             kd-seg predict scan.pcd --out scan.label --set input.intensity_range=byte

             kd-seg predict sweeps/ more/*.bin --out labels_of_sweeps --set input.columns=5

             kd-seg predict drive.mcap --topic /points --out labelled.mcap
    """
    from kd_seg.scans import is_bag
    from kd_seg.serving.parameters import FOR_BAGS, FOR_FILES, check_apply, read_parameters
    from kd_seg.serving.sources import expand, home

    values = read_parameters(home(params) if params is not None else None, set_ or [])
    found, out = expand(sources), home(out)
    bags = [source for source in found if is_bag(source)]
    check_apply(set_ or [], FOR_BAGS if bags else FOR_FILES, "bags" if bags else "files")
    asked_of_bags = {"--topic": topic, "--storage": storage, "--outputs": outputs, "--copy-all": copy_all or None}
    _check(found, bags, {"--shard": shard, "--overwrite": overwrite or None}, asked_of_bags)
    load = partial(_load, checkpoint, device, threads, values)
    with naming(out):
        summary = (
            _label_bag(bags[0], out, values, (topic, storage, outputs or "segmentation", copy_all), load)
            if bags
            else _label_files(found, out, values, set_ or [], shard, overwrite, load)
        )
    _report(summary, out, json_)


def _load(checkpoint: Path | None, device: str | None, threads: int | None, values: dict[str, Any]) -> Segmenter:
    """The network that the options, else the parameters, else nothing (the shipped one) name."""
    from kd_seg.serving.segmenter import Segmenter
    from kd_seg.serving.sources import home

    asked = checkpoint or values.get("checkpoint") or None
    where = device or values.get("device", "auto")
    count = threads if threads is not None else values.get("num_threads", 0)
    segmenter = Segmenter(home(Path(asked)) if asked else None, where, values.get("precision", "auto"), count)
    say(f"{segmenter.checkpoint_path} on {segmenter.device}")
    return segmenter


def _check(found: list[Path], bags: list[Path], of_files: dict[str, Any], of_bags: dict[str, Any]) -> None:
    """UsageError where an option is given for sources of the other kind (None: not given), or a bag is not alone."""
    for option, value in of_files.items():
        if bags and value is not None:
            raise UsageError(f"{option} is for files and data roots; {bags[0]} is a bag.")
    for option, value in of_bags.items():
        if not bags and value is not None:
            raise UsageError(f"{option} is for bags; {found[0]} is none.")
    if bags and len(found) > 1:
        raise UsageError(f"{bags[0]} is a bag, which is labelled alone; label the others by calls of their own.")


def _report(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    """Warnings and counts for a person; the summary for a program where asked for."""
    for warning in summary["warnings"]:
        warn(warning)
    skipped = f" ({summary['skipped']} were done already)" if summary.get("skipped") else ""
    say(
        f"{summary['scans']} scans{skipped}, {summary['points']:,} points, "
        f"{summary['scans_per_second']:.1f} scans/s: {out}"
    )
    if as_json:
        print_json(summary)


def _label_bag(source: Path, out: Path, values: dict[str, Any], asked: tuple[Any, ...], load: Any) -> dict[str, Any]:
    from kd_seg.serving.bags import BagOptions, count_messages, label_bag
    from kd_seg.serving.parameters import FILE_PARAMETERS, cloud_settings

    for parameter in FILE_PARAMETERS:
        if parameter.name in values:
            raise UsageError(f"{parameter.name} is for files; the messages of {source} name their own fields.")
    topic, storage, outputs, copy_all = asked
    names = tuple(name.strip() for name in outputs.split(",") if name.strip())
    options = BagOptions(topic, storage, names, copy_all, cloud_settings(values))
    with progress("labelling", count_messages(source, options)) as advance:
        summary = label_bag(source, out, load(), options, advance)
    if summary["empty"]:
        told = f"{summary['empty']} of {summary['published']} clouds hold no point"
        summary["warnings"] = [told, *summary["warnings"]]
    if summary["rejected"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
        summary["warnings"] = [
            f"{summary['rejected']} of {summary['received']} clouds rejected: {reasons}", *summary["warnings"]
        ]  # fmt: skip
    return summary


def _label_files(
    sources: list[Path],
    out: Path,
    values: dict[str, Any],
    overrides: list[str],
    shard: str | None,
    overwrite: bool,
    load: Any,
) -> dict[str, Any]:
    from kd_seg.core.shard import parse_shard
    from kd_seg.serving.label_files import Done, format_of, label_files, output_root, sensor_of
    from kd_seg.serving.records import Record, fingerprint
    from kd_seg.serving.sources import plan

    part, parts = parse_shard(shard)
    tasks = plan(sources, out, part, parts)
    settings, form = sensor_of(tasks, values), format_of(tasks, values, overrides)
    segmenter = load()
    record = Record(
        output_root(out),
        fingerprint(f"{segmenter.sha256} {segmenter.precision}", settings, form),
        f"_{part}of{parts}" if parts > 1 else "",
    )
    waiting = record.waiting(tasks, overwrite, mixes=out.suffix != ".label")
    done = Done(skipped=len(tasks) - len(waiting))
    most = int(values["input.max_points"]) if "input.max_points" in values else None
    label_files(segmenter, tracked(waiting, "labelling"), settings, form, record, done, most)
    if not tasks:
        raise DataError(f"Shard {shard} of {', '.join(map(str, sources))} holds no scan.")
    return {**done.to_json(), "out": str(out)}
