"""Voting over time: the predictions of several scans for one place of the world, combined through the poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.teacher import Distribution
from kd_seg.core.kernels import kernel

Codes = npt.NDArray[np.int64]

_HALF = 1 << 20


@dataclass(frozen=True)
class Vote:
    """What a scan's points got from the votes of several scans.

    Attributes:
        distribution: [N, C] mean probabilities of all votes for the point's place.
        agreement: [N] share of the scans that voted there whose class is that of the mean; 1 where only one voted.
        scans: [N] how many scans voted there.
    """

    distribution: Distribution
    agreement: npt.NDArray[np.float32]
    scans: npt.NDArray[np.int32]


def world_codes(xyz: npt.NDArray[np.float64], voxel_m: float) -> Codes:
    """One number per cube of the world [N]; -1 for a point that is not finite or beyond a million cubes."""
    cell = np.floor(np.nan_to_num(xyz, nan=np.inf) / voxel_m)
    inside = (np.abs(cell) < _HALF).all(axis=1)
    cell = np.where(inside[:, None], cell, 0).astype(np.int64) + _HALF
    return np.where(inside, (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2], -1)


def vote(own: Codes, predictions: Sequence[tuple[Codes, Distribution]]) -> Vote:
    """Combine the predictions of scans for the places of one of them.

    Args:
        own: [N] places of the scan's points. predictions: places and probabilities of every scan that votes, the own
            one included.

    Each scan has one vote for a place: the mean of its points there. Points without a prediction do not vote.
    """
    count = predictions[0][1].shape[1]
    if len(own) == 0:
        return Vote(np.zeros((0, count), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    places, inverse = np.unique(own, return_inverse=True)
    total = np.zeros((len(places), count), np.float32)
    voters = np.zeros(len(places), np.int32)
    classes = np.full((len(predictions), len(places)), -1, np.int16)
    for number, (codes, distribution) in enumerate(predictions):
        mean, hits = np.zeros((len(places), count), np.float32), np.zeros(len(places), np.int32)
        at = np.searchsorted(places, codes)
        at[at == len(places)] = 0
        at = np.where((places[at] == codes) & (codes >= 0), at, -1)
        gather(at, distribution, mean, hits)
        seen = hits > 0
        mean[seen] /= hits[seen, None]
        total += mean
        voters += seen
        classes[number, seen] = mean[seen].argmax(axis=1)
    winner = total.argmax(axis=1)
    agreeing = (classes == winner).sum(axis=0)
    known = np.maximum(voters, 1)
    return Vote(
        (total / known[:, None])[inverse],
        (np.where(voters > 0, agreeing / known, 0.0).astype(np.float32))[inverse],
        voters[inverse],
    )


@kernel
def gather(
    at: npt.NDArray[Any], distribution: npt.NDArray[Any], mean: npt.NDArray[Any], hits: npt.NDArray[Any]
) -> None:
    """Add the probabilities [N, C] of points to their places; ``at`` [N], -1 = none; rows of zeros are left out."""
    for i in range(len(at)):
        place = at[i]
        if place < 0:
            continue
        total = np.float32(0.0)
        for c in range(distribution.shape[1]):
            total += distribution[i, c]
        if total <= 0:
            continue
        hits[place] += 1
        for c in range(distribution.shape[1]):
            mean[place, c] += distribution[i, c]
