"""When the units are scored again, and what a round made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kd_seg.objectives.image_units.numbering import UnitColumns
from kd_seg.objectives.image_units.settings import BackwardSettings


def settled(history: list[float], window: int, tolerance: float, least: int) -> bool:
    """Whether the mean of the last ``window`` losses changed by less than ``tolerance`` with the last epoch.

    At least ``least`` epochs must be done.
    """
    if len(history) < max(least, 2):
        return False
    now, before = history[-window:], history[:-1][-window:]
    return abs(sum(now) / len(now) - sum(before) / len(before)) < tolerance


def is_due(settings: BackwardSettings, history: list[float], done: int, last: int) -> bool:
    """Whether a round begins after the last epoch of ``history`` (one loss per epoch).

    Args:
        done: rounds so far. last: the epoch of the last one.
    """
    epoch = len(history)
    if done >= settings.rounds:
        return False
    if done > 0:
        return epoch - last >= settings.every
    if settings.start_epoch is not None:
        return epoch >= settings.start_epoch
    return settled(history, settings.window, settings.tolerance, settings.min_epochs)


def round_summary(
    columns: UnitColumns, ratio: Tensor, score: Tensor, judged: Tensor, names: tuple[str, ...]
) -> dict[str, Any]:
    """What a round made of each teacher class, and apart of the units that were made wrong on purpose.

    Args:
        ratio: [U] agreement. score: [U] weights that the units have now. judged: [U] bool. names: of teacher classes.
    """

    def summary(mask: Tensor) -> dict[str, Any]:
        seen = mask & judged
        return {
            "units": int(mask.sum()),
            "judged": int(seen.sum()),
            "ratio": round(float(ratio[seen].mean()), 4) if seen.any() else None,
            "score": round(float(score[mask].mean()), 4),
            "dropped": int((score[mask] == 0).sum()),
        }

    spoilt = columns.spoilt > 0
    present = torch.unique(columns.teacher_class).tolist()
    return {
        "classes": {names[k]: summary(columns.teacher_class == k) for k in present},
        "right": summary(~spoilt),
        "spoilt": summary(spoilt) if bool(spoilt.any()) else None,
    }
