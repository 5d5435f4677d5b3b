"""``kd-seg eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kd_seg.cli.console import out, print_json, progress, say, tracked, warn
from kd_seg.core.failures import naming
from kd_seg.core.ownership import check_replaceable

if TYPE_CHECKING:
    from kd_seg.evaluation import Evaluation


def command(
    what: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint, run folder, folder of .label files, or evaluation.json files to add up."),
    ],
    data: Annotated[Path | None, typer.Option(help="Folder that holds sequences/; default: that of the run.")] = None,
    split: Annotated[str | None, typer.Option(help="Official split; default valid, or a run's data.valid.")] = None,
    sequences: Annotated[
        list[str] | None, typer.Option(help="Sequences instead of a split, such as 04 or 04,08; may be repeated.")
    ] = None,
    input_: Annotated[
        Literal["own", "fused"], typer.Option("--input", help="own: single scans; fused: a teacher on fused clouds.")
    ] = "own",
    distances: Annotated[bool, typer.Option("--distances", help="Also score by range, 0-10 .. 40-50 m.")] = False,
    shard: Annotated[str | None, typer.Option(help="Every n-th scan only: i/n, i from 1; parts add up.")] = None,
    classes: Annotated[str, typer.Option(help="Class table of a folder of .label files.")] = "semantic_kitti_19",
    save: Annotated[Path | None, typer.Option("--out", help="Write the JSON result to this file too.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="Threads of the network on a CPU; 0 = the library's default.")
    ] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for what fused clouds need; default in the data root.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="With --input fused: rebuild its library.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="How .bin files lie: input.columns=5, input.dtype=float64.")
    ] = None,
    intensity_range: Annotated[
        Literal["unit", "byte", "uint16"] | None,
        typer.Option(help="Of the data's .bin files: 0-1, 0-255, 0-65535; default: that of the run, else unit."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Score predictions with SemanticKITTI's official metrics, on every point.

    Example: kd-seg eval runs/demo_baseline

             kd-seg eval student.safetensors --data DATA --sequences 04 --json

             kd-seg eval PREDICTIONS --data DATA --split valid

             kd-seg eval part1.json part2.json
    """
    from kd_seg.evaluation.request import EvaluationRequest, evaluate_request, own_record
    from kd_seg.serving.parameters import file_format, read_parameters
    from kd_seg.serving.sources import home, named

    names = tuple(n.strip() for part in sequences for n in part.split(",") if n.strip()) if sequences else None
    whats, root = tuple(named(path) for path in what), home(data) if data is not None else None
    form = file_format(read_parameters(None, set_ or []))
    request = EvaluationRequest(
        whats, root, split, names, input_, distances, shard, classes, device, threads, cache, rebuild, form,
        intensity_range,
    )  # fmt: skip
    result = evaluate_request(request, tracked, progress)
    _write(result, save, own_record(request))
    print_json(result.to_json()) if json_ else _print(result)


def _write(result: Evaluation, *paths: Path | None) -> None:
    """Write the result to the file asked for (the first) and to the run's own record."""
    from kd_seg.evaluation import write_evaluation

    if result.unknown:
        warn(f"{result.unknown} predicted raw ids are unknown to {result.classes.name}; they count as missed")
    for path in {path for path in paths if path is not None}:
        if path == paths[0]:
            check_replaceable(path, '"counts"')
        with naming(path):
            write_evaluation(path, result)
        say(f"written: {path}")


def _print(result: Evaluation) -> None:
    """The tables for a person, on stdout."""
    from kd_seg.evaluation.table import class_table, distance_table, summary

    out.print(class_table(result))
    if result.by_distance is not None:
        out.print(distance_table(result))
    for line in summary(result):
        out.print(line)
