"""How good a checkpoint is on ``data.select``: scans that were held back from training to choose ``best`` on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kd_seg.evaluation.evaluate import evaluate, select
from kd_seg.evaluation.predictors import Network
from kd_seg.training.config import DataSettings


def score_of(data: DataSettings) -> Callable[[Path], float] | None:
    """A function from a checkpoint to its mIoU over present classes on ``data.select``; None if none are held back."""
    if not data.select:
        return None
    scans = select(Path(data.root), data.select, None)

    def score(checkpoint: Path) -> float:
        from kd_seg.serving.segmenter import Segmenter

        return evaluate(Network(Segmenter(checkpoint)), scans).scores.miou_present or 0.0

    return score
