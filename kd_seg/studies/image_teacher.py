"""What an image teacher itself knows of a scan's points, and students beside it on the very same points.

    python -m kd_seg.studies.image_teacher CONFIG [key=value ...] --sequences 04 [--student RUN] [--json]

CONFIG names the teacher in its objective image_units. Points are those that a camera sees and the teacher has a
prediction for. A teacher class that may stand for several classes is scored twice: ``right`` counts any of them; for
IoU it stands for the first of its set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import UsageError
from kd_seg.evaluation import confusion, scores
from kd_seg.images.projection.cameras import seen_views
from kd_seg.images.teachers import NO_PREDICTION, build_teacher
from kd_seg.images.units.cache import UnitSource
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.objectives.image_units import ImageUnitsSettings
from kd_seg.objectives.shared.image_teacher import tools
from kd_seg.scans import SemanticKitti
from kd_seg.serving.segmenter import Segmenter
from kd_seg.training import read_training_config
from kd_seg.training.setup import file_format


def measure(
    source: UnitSource, data: SemanticKitti, keys: Iterable[tuple[str, int]], classes: ClassTable, students: list[Path]
) -> dict[str, Any]:
    """Scores of the teacher, and of each student on the same points; labels are read, for scoring alone."""
    class_map = load_class_map(source.class_map, classes)
    teacher = build_teacher(source.teacher, tools(data, classes, "cpu", class_map.vocabulary))
    segmenters = {str(run): Segmenter(run, device="cpu") for run in students}
    for name, segmenter in segmenters.items():
        if segmenter.classes.names != classes.names:
            raise UsageError(f"{name} predicts the classes of {segmenter.classes.name}, not {classes.name}.")
    matrices = {name: np.zeros((len(classes) + 1,) * 2, dtype=np.int64) for name in ("teacher", *segmenters)}
    inside = answered = right = 0
    for key in keys:
        sequence = data.sequences[key[0]]
        scan = sequence.scan(key[1])
        views = seen_views(scan, sequence, source.projection)
        if scan.labels is None or not views:
            continue
        train = classes.to_train(scan.labels, scan.name)
        answers = {name: classes.class_to_train(s.segment(scan.points).class_id) for name, s in segmenters.items()}
        for view in views:
            answer = teacher.predict(view.shot)
            if answer is None or answer.semantic is None:
                continue
            rows = view.pairs.rows
            claimed = answer.semantic.classes[view.pairs.cells()]
            labelled = train[rows] > 0
            known = labelled & (claimed != NO_PREDICTION)
            known[known] = class_map.mapped[claimed[known]]
            inside, answered = inside + int(labelled.sum()), answered + int(known.sum())
            rows, claimed, truth = rows[known], claimed[known], train[rows[known]]
            right += int(class_map.sets[claimed, truth.astype(np.int64) - 1].sum())
            matrices["teacher"] += confusion((class_map.usual[claimed] + 1).astype(np.uint8), truth, len(classes))
            for name, answer_of in answers.items():
                matrices[name] += confusion(answer_of[rows], truth, len(classes))
    return {
        "points_seen": inside,
        "points_answered": answered,
        "teacher_right": right / max(answered, 1),
        "scores": {name: scores(matrix, classes).to_json() for name, matrix in matrices.items()},
    }


def teacher_of(
    config: str, overrides: list[str], sequences: list[str] | None = None
) -> tuple[ImageUnitsSettings, SemanticKitti, ClassTable]:
    """The first image_units entry of a configuration, its data, read as training reads it, and its class table.

    Args:
        sequences: names; None = all.

    Raises UsageError where there is no such entry.
    """
    settings = read_training_config(config, overrides)
    for entry in settings.objectives:
        if isinstance(entry, ImageUnitsSettings):
            data = SemanticKitti(settings.data.root, sequences, file_format(settings.data))
            return entry, data, load_classes(settings.data.classes)
    raise UsageError(f"{config} has no objective image_units; name a configuration that has a teacher.")


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--sequences", nargs="+", required=True)
    parser.add_argument("--student", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    entry, data, classes = teacher_of(arguments.config, arguments.overrides, arguments.sequences)
    result = measure(entry.source(), data, data.keys(), classes, arguments.student)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['points_answered']} of {result['points_seen']} labelled visible points have a prediction")
    print(f"teacher right (any class of the set): {result['teacher_right']:.3f}")
    for name, found in result["scores"].items():
        print(
            f"{name}: accuracy {found['accuracy']:.3f}, mIoU present {found['miou_present']}, mIoU {found['miou']:.3f}"
        )
        print("  " + "  ".join(f"{k} {v:.2f}" for k, v in found["iou"].items() if v is not None))


if __name__ == "__main__":
    main()
