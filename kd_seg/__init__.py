"""kd_seg: compact sparse-convolution networks for LiDAR segmentation, taught by several scans and by images.

The public names below are imported when they are first used, so that ``import kd_seg`` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_seg.evaluation.evaluate import evaluate as evaluate
    from kd_seg.serving.segmenter import Prediction as Prediction
    from kd_seg.serving.segmenter import Segmenter as Segmenter
    from kd_seg.training import Trainer as Trainer
    from kd_seg.training import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

_HOMES = {
    "Prediction": "kd_seg.serving.segmenter",
    "Segmenter": "kd_seg.serving.segmenter",
    "Trainer": "kd_seg.training",
    "TrainingConfig": "kd_seg.training",
    "evaluate": "kd_seg.evaluation",
}

__all__ = ["Prediction", "Segmenter", "Trainer", "TrainingConfig", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """A public name, imported from its module at first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names beside what has been imported."""
    return sorted({*globals(), *__all__})
