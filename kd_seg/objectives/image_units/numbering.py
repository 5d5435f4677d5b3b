"""Every unit of a data set under one number, so that scores of all units fit one tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_seg.caches import Cache
from kd_seg.images.units.cache import TEACHER_CLASS
from kd_seg.scans import Key


@dataclass(frozen=True)
class Numbering:
    """Units in the order of the scans.

    Attributes:
        first: number of each scan's first unit. count: units in all.
    """

    first: dict[Key, int]
    count: int


@dataclass(frozen=True)
class UnitColumns:
    """What the cache knows of every unit [U]: teacher class, points, and how it was spoilt on purpose (0 = not)."""

    teacher_class: Tensor
    points: Tensor
    spoilt: Tensor


def number_units(store: Cache, keys: list[Key]) -> Numbering:
    """Number the units of some scans; only the index of the cache is read."""
    first: dict[Key, int] = {}
    count = 0
    for key in keys:
        first[key] = count
        count += store.count(key, TEACHER_CLASS)
    return Numbering(first, count)


def read_columns(store: Cache, keys: list[Key]) -> UnitColumns:
    """The columns of the units of some scans, in their order."""
    classes, points, spoilt = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
    for key in keys:
        record = store.record(key, (TEACHER_CLASS, "offsets", "spoilt"))
        classes.append(torch.from_numpy(record[TEACHER_CLASS].astype("int64")))
        points.append(torch.from_numpy(record["offsets"]).diff().float())
        spoilt.append(torch.from_numpy(record["spoilt"].astype("int64")))
    return UnitColumns(torch.cat(classes), torch.cat(points), torch.cat(spoilt))
