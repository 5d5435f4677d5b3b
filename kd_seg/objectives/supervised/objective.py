"""``supervised``: cross-entropy with class weights and Lovasz-softmax on the student's labelled voxels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from kd_seg.classes import ClassTable
from kd_seg.core.config import Settings
from kd_seg.losses.supervised import cross_entropy, lovasz_softmax
from kd_seg.networks import Batch, Output
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term


class SupervisedSettings(Settings):
    """Settings of ``kind: supervised``."""

    kind: Literal["supervised"] = "supervised"
    cross_entropy: float = Field(1.0, ge=0, description="weight of the cross-entropy")
    lovasz: float = Field(1.0, ge=0, description="weight of Lovasz-softmax")
    class_weights: Literal["none", "cube_root", "inverse"] = Field(
        "cube_root", description="cube_root: (max f / f)^(1/3) as 2DPASS; inverse: 1/(f + 0.001) as RangeNet"
    )


def class_weights(classes: ClassTable, kind: str) -> Tensor | None:
    """Weights [C] from the classes' shares in the training data; None for "none".

    Classes without a share get the largest weight.
    """
    if kind == "none":
        return None
    share = classes.shares()
    floor = share[share > 0].min() if (share > 0).any() else 1.0
    share = np.maximum(share, floor)
    weights = np.cbrt(share.max() / share) if kind == "cube_root" else 1.0 / (share + 1e-3)
    return torch.from_numpy(weights.astype(np.float32))


@OBJECTIVES.register("supervised")
class Supervised(Objective):
    """Learn from the labels of the student's own voxels."""

    weights: Tensor | None

    Settings = SupervisedSettings

    def __init__(self, settings: SupervisedSettings, context: Context) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("weights", class_weights(context.classes, settings.class_weights), persistent=False)

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """Terms "ce" and "lovasz"; one with weight 0 is left out."""
        terms = {}
        if self.settings.cross_entropy > 0:
            loss = cross_entropy(output.logits, batch.labels, self.weights)
            terms["ce"] = Term.of(loss, self.settings.cross_entropy)
        if self.settings.lovasz > 0:
            terms["lovasz"] = Term.of(lovasz_softmax(output.logits, batch.labels), self.settings.lovasz)
        return terms

    def describe(self) -> dict[str, Any]:
        """The settings."""
        return self.settings.model_dump(mode="json")
