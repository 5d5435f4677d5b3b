"""How good a checkpoint is on ``data.select``: scans that were held back from training to choose ``best`` on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kd_seg.evaluation.evaluate import evaluate, select
from kd_seg.evaluation.predictors import NetworkPredictor
from kd_seg.serving.segmenter import Segmenter
from kd_seg.training.config import TrainingConfig
from kd_seg.training.setup import file_format


def score_of(config: TrainingConfig) -> Callable[[Path], float] | None:
    """A function from a checkpoint to its mIoU over present classes on ``data.select``; None if none are held back.

    It runs where training runs: on ``run.device``, with ``run.threads``.
    """
    if not config.data.select:
        return None
    scans = select(Path(config.data.root), config.data.select, None, form=file_format(config.data))

    def score(checkpoint: Path) -> float:
        segmenter = Segmenter(checkpoint, device=config.run.device, num_threads=config.run.threads)
        return evaluate(NetworkPredictor(segmenter), scans).scores.miou_present or 0.0

    return score
