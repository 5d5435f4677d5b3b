"""Which rows an affinity loss compares: capped, stratified by instance, the same for student and teacher."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Caps:
    """Upper bounds of a sample, so that every matrix stays small.

    Attributes:
        per_class, per_instance, rows: rows of one class, of one instance, in all.
        instances: instances in all.
    """

    per_class: int = 256
    per_instance: int = 64
    instances: int = 64
    rows: int = 1024


@dataclass(frozen=True)
class Groups:
    """Sampled rows and what they belong to.

    Attributes:
        rows: [m] int64, rows of the student's voxels, ascending.
        label: [m] int64, train id of each, above 0.
        instance: [m] int64, 0..U-1, or -1 for a row without an instance.
        instance_label: [U] int64, train id of each instance.
    """

    rows: Tensor
    label: Tensor
    instance: Tensor
    instance_label: Tensor

    def to(self, device: torch.device | str) -> Groups:
        """The same groups on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def __len__(self) -> int:
        return len(self.rows)


def rank_within(group: Tensor, priority: Tensor) -> Tensor:
    """Rank [n] of each row among the rows of its group [n], by rising priority [n] (equal ones by row)."""
    order = torch.argsort(_sortable(priority), stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    ordered = group[order]
    position = torch.arange(len(group), device=group.device)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    start = torch.cummax(torch.where(first, position, torch.zeros_like(position)), dim=0).values
    rank = torch.empty_like(position)
    rank[order] = position - start
    return rank


def _sortable(priority: Tensor) -> Tensor:
    """Numbers in the same order: the bits of floats that are not negative, as torch sorts integers by radix."""
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}.get(priority.dtype)
    if whole is None or not bool((priority >= 0).all()):
        return priority
    return (priority + 0.0).view(whole)  # -0.0 becomes 0.0


def sample_groups(label: Tensor, key: Tensor, priority: Tensor, caps: Caps) -> Groups:
    """Choose rows without replacement, spread evenly over instances, then over classes.

    The caps bound every affinity matrix by 1,024 x 1,024 (docs/multi_to_single.md).

    Args:
        label: [V] train ids, 0 = left out.
        key: [V] int64, instance of each row, the same number for the same instance of the whole batch; 0 = none.
        priority: [V] random numbers; the same priorities give the same sample.
        caps: upper bounds.
    """
    rows = torch.nonzero(label > 0).reshape(-1)
    label, key, priority = label[rows], key[rows], priority[rows]
    keys, instance = torch.unique(key, return_inverse=True)
    # An instance takes the label of its first row in key order; keys hold the class, so its rows agree.
    has_key = keys > 0
    group_label = torch.zeros(len(keys), dtype=label.dtype, device=label.device)
    group_label.scatter_reduce_(0, instance, label, reduce="amax", include_self=False)
    kept = _keep_instances(keys, instance, priority, group_label, has_key, caps)
    stuff = ~has_key[instance]
    group = torch.where(stuff, -label, instance)
    rank = rank_within(group, priority)
    limit = torch.where(stuff, caps.per_class, caps.per_instance)
    chosen = (rank < limit) & (stuff | kept[instance])
    rows, label, instance, rank, priority = (x[chosen] for x in (rows, label, instance, rank, priority))
    # Rounds over instances first (rank), then rounds over classes: both caps take the rows evenly.
    in_class = rank_within(label, rank.double() + priority.double())
    chosen = in_class < caps.per_class
    chosen &= rank_within(torch.zeros_like(label), in_class.double() + priority.double()) < caps.rows
    rows, label, instance = rows[chosen], label[chosen], instance[chosen]
    instance = torch.where(has_key[instance], instance, -1)
    used = torch.unique(instance[instance >= 0])
    compact = torch.where(instance >= 0, torch.searchsorted(used, instance.clamp_min(0)), instance)
    return Groups(rows, label, compact, group_label[used])


def _keep_instances(
    keys: Tensor, instance: Tensor, priority: Tensor, group_label: Tensor, has_key: Tensor, caps: Caps
) -> Tensor:
    """Mask [K] of the instances to compare: at most ``caps.instances``, classes in turn, random within a class."""
    first = torch.full((len(keys),), torch.inf, dtype=priority.dtype, device=priority.device)
    first.scatter_reduce_(0, instance, priority, reduce="amin")
    turn = rank_within(group_label, torch.where(has_key, first, torch.inf)).double()
    order = torch.where(has_key, turn + first.double().clamp(0, 0.999), torch.inf)
    return (rank_within(torch.zeros_like(keys), order) < caps.instances) & has_key
