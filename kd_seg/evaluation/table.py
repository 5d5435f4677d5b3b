"""An evaluation as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd_seg.evaluation.result import Evaluation

if TYPE_CHECKING:
    from rich.table import Table


def percent(value: float | None) -> str:
    """A fraction in per cent with two digits, "-" where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def class_table(evaluation: Evaluation) -> Table:
    """IoU, precision and recall by class, with the number of labelled points."""
    from rich.table import Table

    table = Table(title=None, header_style="bold", pad_edge=False)
    table.add_column("class")
    for name in ("IoU %", "precision %", "recall %", "points"):
        table.add_column(name, justify="right")
    counted = evaluation.matrix.copy()
    counted[:, 0] = 0
    predicted, true = counted.sum(axis=1), counted.sum(axis=0)
    iou = evaluation.scores.iou
    for column, name in enumerate(evaluation.classes.names):
        hit, row = int(counted[column + 1, column + 1]), column + 1
        red, green, blue = (int(value) for value in evaluation.classes.colours[column])
        mark = "*" if column in evaluation.classes.hard else ""
        table.add_row(
            f"[rgb({red},{green},{blue})]■[/] {name}{mark}",
            percent(iou[name]),
            percent(hit / predicted[row] if predicted[row] else None),
            percent(hit / true[row] if true[row] else None),
            f"{int(true[row]):,}",
        )
    return table


def distance_table(evaluation: Evaluation) -> Table:
    """mIoU and accuracy by interval of range."""
    from rich.table import Table

    table = Table(header_style="bold", pad_edge=False)
    table.add_column("range m")
    for name in ("mIoU %", "mIoU present %", "mIoU hard %", "accuracy %"):
        table.add_column(name, justify="right")
    for near, far, scores in evaluation.distance_scores():
        values = (scores.miou, scores.miou_present, scores.miou_hard, scores.accuracy)
        table.add_row(f"{near:.0f}-{far:.0f}", *(percent(value) for value in values))
    return table


def summary(evaluation: Evaluation) -> list[str]:
    """The means, each with what it is a mean of, and what was left out."""
    scores = evaluation.scores
    true = evaluation.matrix[:, 1:].sum(axis=0)
    present = [name for column, name in enumerate(evaluation.classes.names) if true[column]]
    hard = [evaluation.classes.names[column] for column in evaluation.classes.hard if true[column]]
    count = len(evaluation.classes)
    hard_names = ", ".join(hard) or "none"
    lines = [
        f"mIoU          {percent(scores.miou):>6} %  official: over all {count} classes, absent ones count 0",
        f"mIoU present  {percent(scores.miou_present):>6} %  over the {len(present)} classes that occur",
        f"mIoU hard*    {percent(scores.miou_hard):>6} %  over the hard classes that occur: {hard_names}",
        f"accuracy      {percent(scores.accuracy):>6} %  official: of the points that were given a class",
        f"scans {evaluation.scans:,}, points {evaluation.points:,}",
    ]
    missed, labelled = int(evaluation.matrix[0, 1:].sum()), int(true.sum())
    lines.append(f"labelled points without a predicted class: {missed:,} ({_share(missed, labelled)})")
    if evaluation.about.get("kind") != "labels":
        share = _share(evaluation.outside, evaluation.points)
        lines.append(f"points outside the grid or not finite, counted as predicted 0: {evaluation.outside:,} ({share})")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.3f} %"
