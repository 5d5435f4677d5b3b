"""Losses on labelled rows: weighted cross-entropy and Lovasz-softmax. Train id 0 is ignored, column = train id - 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kd_seg.losses.lovasz import LovaszSoftmax
from kd_seg.losses.zero import exact_zero


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, int]:
    """Mean cross-entropy over labelled rows and their count.

    Args:
        logits: [V, C]. labels: [V] train ids, 0 = ignored.
        weights: [C] per class; the mean is then weighted as torch's cross_entropy does it.
    """
    count = int((labels > 0).sum())
    if count == 0:
        return exact_zero(logits), 0
    return F.cross_entropy(logits.float(), labels - 1, weights, ignore_index=-1), count


def lovasz_softmax(logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Lovasz-softmax over the classes present among labelled rows (Berman et al., CVPR 2018), and the rows' count.

    Args:
        logits: [V, C]. labels: [V] train ids, 0 = ignored. Computed in float32.
    """
    rows = labels > 0
    count = int(rows.sum())
    if count == 0:
        return exact_zero(logits), 0
    probabilities = torch.softmax(logits[rows].float(), dim=1)
    target = labels[rows] - 1
    if _sorts_by_kernel(probabilities):
        return LovaszSoftmax.apply(probabilities, target), count
    losses = []
    for column in torch.unique(target).tolist():
        truth = (target == column).float()
        errors = (truth - probabilities[:, column]).abs()
        ordered, order = torch.sort(errors, descending=True)
        losses.append(torch.dot(ordered, _jaccard_gradient(truth[order])))
    return torch.stack(losses).mean(), count


def _sorts_by_kernel(probabilities: Tensor) -> bool:
    """Whether the compiled form of the Lovasz extension takes them: on the CPU."""
    return probabilities.device.type == "cpu"


def _jaccard_gradient(truth: Tensor) -> Tensor:
    """Increments of the Jaccard loss along rows sorted by falling error; ``truth`` [n] in {0, 1}."""
    total = truth.sum()
    intersection = total - truth.cumsum(0)
    union = total + (1.0 - truth).cumsum(0)
    jaccard = 1.0 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
