"""Statistics of batch norms on a drive: which share of them a network takes, found without a label.

Batch norms hold the means and variances of what a network was trained on; another sensor has others (adaptive batch
normalization, Li et al., 2016). On some drives the drive's own ones help, on others, of few places or of a sector of
the view, they ruin. What helps also makes the network steadier: the share is taken with which predictions change least
when the cloud is turned.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from kd_seg.adaptation.teacher import Distribution
from kd_seg.adaptation.views import turned
from kd_seg.networks import collate, encode
from kd_seg.scans import Points
from kd_seg.serving.segmenter import Segmenter

State = dict[str, torch.Tensor]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
VIEWS = 3
"""Views of a cloud that are compared: as it is, and two turned ones."""


@dataclass(frozen=True)
class ShareTaken:
    """What a network took.

    Attributes:
        share: of the drive's statistics; 0 = the network stays as it was trained.
        divergences: per tried share, the mean Jensen-Shannon divergence (nats) of a point's predictions over views.
    """

    share: float
    divergences: dict[float, float]


def take_statistics(segmenter: Segmenter, clouds: Sequence[Points], judged: int = 16) -> ShareTaken:
    """Give the segmenter's network the share of the clouds' statistics with which it is steadiest.

    Args:
        clouds: [N, 4] each, as the network takes them.
        judged: clouds at most, spread over all, that shares are compared on.
    """
    trained = copy.deepcopy(segmenter.network.state_dict())
    drive = statistics(segmenter, clouds)
    if not drive:
        return ShareTaken(0.0, {})
    chosen = clouds[:: max(1, -(-len(clouds) // judged))]
    divergences = {}
    for share in SHARES:
        _set(segmenter.network, trained, drive, share)
        divergences[share] = float(np.mean([divergence(segmenter, cloud) for cloud in chosen]))
    best = min(SHARES, key=lambda share: divergences[share])
    _set(segmenter.network, trained, drive, best)
    return ShareTaken(best, divergences)


def statistics(segmenter: Segmenter, clouds: Sequence[Points]) -> State:
    """Running means and variances of the network's batch norms over the clouds, each cloud with the same weight.

    Empty for a network without batch norms, and without a cloud that has a voxel.
    """
    network = copy.deepcopy(segmenter.network).train()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    encoding, seen = segmenter.spec.encoding, 0
    with torch.no_grad():
        for cloud in clouds if norms else ():
            batch = collate([encode(segmenter.spec.as_trained(cloud), None, encoding)], encoding.grid)
            if len(batch.coordinates) < 2:
                continue
            seen += 1
            for norm in norms:
                norm.momentum = 1.0 / seen  # a plain mean over clouds
            network(batch.to(segmenter.device))
    kept = ("running_mean", "running_var")
    return {k: v.clone() for k, v in network.state_dict().items() if seen and k.endswith(kept)}


def divergence(segmenter: Segmenter, cloud: Points) -> float:
    """Mean Jensen-Shannon divergence of a point's predictions over views, in nats; 0 where there is no prediction."""
    seen = [segmenter.distribution(turned(cloud, view, VIEWS)) for view in range(VIEWS)]
    known = np.all([one.sum(axis=1) > 0 for one in seen], axis=0)
    if not known.any():
        return 0.0
    apart = _entropy(np.mean(seen, axis=0)[known]) - np.mean([_entropy(one[known]) for one in seen], axis=0)
    return float(apart.mean())


def _entropy(rows: Distribution) -> Distribution:
    return np.asarray(-(rows * np.log(np.maximum(rows, 1e-9))).sum(axis=1))


def _set(network: nn.Module, trained: State, drive: State, share: float) -> None:
    network.load_state_dict({k: torch.lerp(v, drive[k], share) if k in drive else v for k, v in trained.items()})
