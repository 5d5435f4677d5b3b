"""What the Trainer and the loader know of an objective, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.core.registry import Registry
from kd_seg.networks.batch import Batch, Encoded, Encoding, Output
from kd_seg.scans import Cloud, Key, Scan, SemanticKitti


@dataclass(frozen=True)
class Term:
    """One named loss of one step.

    Attributes:
        value: scalar, unweighted; an exact zero with a gradient path where ``count`` is 0.
        weight: what it is multiplied with in the total.
        count: rows (voxels, points, pairs, regions) it stood on.
    """

    value: Tensor
    weight: float
    count: int


@dataclass(frozen=True)
class Step:
    """Where training stands when an objective is asked.

    Attributes:
        student: the network being trained (as called by the Trainer, so wrapped under DDP), in train mode.
        number: optimiser steps done, from 0; total: of the whole run (a huge number where the clock ends it).
        epoch: from 0.
        progress: share of the run that is done, by steps or by the clock; None = number / total.
    """

    student: nn.Module
    number: int
    total: int
    epoch: int
    progress: float | None = None

    @property
    def share(self) -> float:
        """How much of the run is done, 0-1."""
        return self.number / max(self.total, 1) if self.progress is None else self.progress


@dataclass(frozen=True)
class Sample:
    """One augmented cloud, when views are built.

    Attributes:
        scan: the scan it was made from (unaugmented).
        cloud: all rows after augmentation, the student's first.
        encoded: the student's rows, voxelized.
        labels: train ids [len(cloud)] uint8 (zeros in a label-free run).
        rng: for the view's own draws.
    """

    scan: Scan
    cloud: Cloud
    encoded: Encoded
    labels: npt.NDArray[np.uint8]
    rng: np.random.Generator


class View(Protocol):
    """Something the loader builds beside the student's input, because an objective asked for it.

    A view must pickle or fork into loader workers, and draw only from the generator it is given.
    """

    @property
    def name(self) -> str:
        """Under which a batch keeps it."""
        ...

    def extend(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """Before augmentation: the cloud with this view's rows after the student's (or as it is)."""
        ...

    def build(self, sample: Sample) -> Any:
        """After augmentation: this view of one sample."""
        ...

    def collate(self, items: list[Any], batch: Batch) -> Any:
        """One view of a batch from those of its samples; ``batch`` holds the student's offsets."""
        ...


@dataclass(frozen=True)
class Context:
    """What an objective is built from.

    Attributes:
        classes: the class table.
        encoding: the student's.
        student: the network to be trained (its ``channels`` name the widths of its levels).
        data: the training scans. labelled_data: the sequences of them that have labels.
        device: where tensors live.
        cache: folder of the data root where ``kd-seg prepare`` keeps libraries and teacher caches.
        config: the whole resolved configuration, for the few objectives that must look beyond their own entry.
        labelled: (sequence, scan) whose labels may be used, where some may not; None = all.
    """

    classes: ClassTable
    encoding: Encoding
    student: nn.Module
    data: SemanticKitti
    labelled_data: SemanticKitti
    device: torch.device
    cache: Path
    config: Any = None
    labelled: frozenset[Key] | None = None


class Objective(nn.Module):
    """What a student learns from. Parameters (heads) train with the student; buffers and parameters are saved.

    A frozen teacher is kept out of ``state_dict`` (hold it in a tuple); it belongs to the objective.
    """

    needs_labels: bool = True
    """False where training must never open ``labels/``."""

    @property
    def learns_unlabelled(self) -> bool:
        """Whether scans without labels teach it anything."""
        return not self.needs_labels

    needs_fusion: bool = False
    """True where its view fuses scans: ``kd-seg prepare`` then builds what the ``fusion`` section describes."""

    @staticmethod
    def prepare(settings: Any, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work) -> None:
        """Build in ``cache`` what training with these settings reads from disk; nothing by default.

        Called by ``kd-seg prepare``. A build goes on where it was interrupted, does the part ``work.shard``, tells
        ``work.progress``, and refuses a cache of other data unless ``work.rebuild``.
        """

    def views(self) -> list[View]:
        """Views the loader shall build; none by default."""
        return []

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """The losses of this step by name; names are unique across objectives through the Trainer's prefix."""
        raise NotImplementedError(f"{type(self).__name__} has no terms")

    def after_step(self, step: Step) -> None:
        """Called after each optimiser step (EMA teachers)."""

    def after_epoch(self, step: Step, mean_loss: float) -> bool:
        """Called after each epoch; True where views changed, so that the loader must be built anew."""
        return False

    def describe(self) -> dict[str, Any]:
        """What the checkpoint records of it: kind, settings, and what its teacher was trained on."""
        return {}


OBJECTIVES: Registry[Any] = Registry("objective", "kd_seg.objectives")
"""Objective by kind: a class with ``Settings`` (pydantic, field ``kind``) and ``__init__(settings, context)``."""
