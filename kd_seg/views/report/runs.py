"""What a report needs of a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_seg.checkpoint import read_metadata, read_tensors
from kd_seg.core.config import read_yaml
from kd_seg.core.errors import DataError
from kd_seg.evaluation import Evaluation, read_evaluation


@dataclass(frozen=True)
class Run:
    """One run as a report shows it.

    Attributes:
        name: unique among the runs of the report.
        config: the resolved configuration, plain data.
        environment: versions, command, commit, machine.
        metrics: lines of metrics.jsonl, in order of steps.
        evaluation: of its validation scans, or None where ``kd-seg eval`` has not been run.
        checkpoint: ``checkpoints/last.safetensors``, or None before the first save.
        values: numbers in the checkpoint; bytes: of the file.
        training: what the checkpoint records of its training.
    """

    path: Path
    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluation: Evaluation | None
    checkpoint: Path | None
    values: int
    bytes: int
    training: dict[str, Any]


def read_run(path: Path, name: str) -> Run:
    """Read a run folder; DataError where it is none, or a file of it is broken."""
    if not (path / "config.yaml").is_file():
        raise DataError(f"{path} is no run folder (it has no config.yaml); give one that kd-seg train made.")
    checkpoint = path / "checkpoints" / "last.safetensors"
    there = checkpoint.is_file()
    evaluation = path / "evaluation.json"
    return Run(
        path=path,
        name=name,
        config=read_yaml(path / "config.yaml"),
        environment=_json(path / "environment.json"),
        metrics=_lines(path / "metrics.jsonl"),
        evaluation=read_evaluation(evaluation) if evaluation.is_file() else None,
        checkpoint=checkpoint if there else None,
        values=sum(tensor.numel() for tensor in read_tensors(checkpoint).values()) if there else 0,
        bytes=checkpoint.stat().st_size if there else 0,
        training=read_metadata(checkpoint).get("training", {}) if there else {},
    )


def read_runs(paths: list[Path]) -> list[Run]:
    """Read run folders; their names are the shortest ends of their paths that differ.

    The run of an adaptation lies in OUT/round_N/run; its name is OUT/round_N.
    """
    depth = 1
    while depth < 8 and len({_end(path, depth) for path in paths}) < len({path.resolve() for path in paths}):
        depth += 1
    return [read_run(path, _end(path, depth)) for path in paths]


def _end(path: Path, depth: int) -> str:
    parts = path.resolve().parts
    if parts[-1] == "run" and parts[-2].startswith("round_"):
        parts, depth = parts[:-1], max(depth, 2)
    return "/".join(parts[-depth:])


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete it or train again.") from None
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics file by step; a last line that a kill cut off is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8").splitlines()
    lines = []
    for number, line in enumerate(text, 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            if number == len(text):
                break
            raise DataError(f"{path}, line {number} is not JSON; delete the line.") from None
    return sorted(lines, key=lambda line: line["step"])
