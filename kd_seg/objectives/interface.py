"""What the Trainer and the loader know of an objective, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.core.registry import Registry
from kd_seg.instances.fusion import Fuser
from kd_seg.networks.batch import Batch, Encoded, Encoding, Output
from kd_seg.scans import Cloud, Key, Scan, SemanticKitti

Record = Callable[[str, int, dict[str, Any]], None]
"""``record(name, step, line)`` adds one line of plain data to the run folder's ``NAME.jsonl``."""


def no_record(name: str, step: int, line: dict[str, Any]) -> None:
    """Keep nothing: for objectives that are built without a run folder."""


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

    @classmethod
    def of(cls, loss: tuple[Tensor, int], weight: float) -> Term:
        """A term from what the functions of ``kd_seg.losses`` return: a scalar, and the rows it is a mean of."""
        return cls(loss[0], weight, loss[1])


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


class View(ABC):
    """Something the loader builds beside the student's input, because an objective asked for it.

    A view must pickle or fork into loader workers, and draw only from the generator it is given.

    Attributes:
        name: under which a batch keeps it.
        adds_fused: whether ``extend`` adds points of other scans; pasted instances then bring theirs along.
    """

    name: str
    adds_fused: bool = False

    def extend(self, scan: Scan, cloud: Cloud, rng: np.random.Generator) -> Cloud:
        """Before augmentation: the cloud with this view's rows after the student's; by default as it is."""
        return cloud

    @abstractmethod
    def build(self, sample: Sample) -> Any:
        """After augmentation: this view of one sample."""

    @abstractmethod
    def collate(self, items: list[Any], batch: Batch) -> Any:
        """One view of a batch from those of its samples; ``batch`` holds the student's offsets."""


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
        fix_command: the command that builds what is missing there, for messages.
        fuser: what adds other scans' points to a cloud; None unless an objective ``needs_fusion``.
        labelled: (sequence, scan) whose labels may be used, where some may not; None = all.
        seed: of the run.
        labels_used: whether any objective of the run learns from labels.
        record: writes lines of a log of the objective's own into the run folder.
    """

    classes: ClassTable
    encoding: Encoding
    student: nn.Module
    data: SemanticKitti
    labelled_data: SemanticKitti
    device: torch.device
    cache: Path
    fix_command: str = "kd-seg prepare CONFIG"
    fuser: Fuser | None = None
    labelled: frozenset[Key] | None = None
    seed: int = 0
    labels_used: bool = False
    record: Record = no_record


class Objective(nn.Module):
    """What a student learns from. Parameters (heads) train with the student; buffers and parameters are saved.

    A frozen teacher is kept out of ``state_dict`` (hold it in a tuple); it belongs to the objective.
    """

    @classmethod
    def needs_fusion(cls, settings: Any) -> bool:
        """Whether its view fuses scans: ``kd-seg prepare`` then builds what the ``fusion`` section describes."""
        return False

    @classmethod
    def needs_labels(cls, settings: Any) -> bool:
        """Whether an entry with these settings reads labels; where none does, training never opens ``labels/``."""
        return True

    @classmethod
    def learns_unlabelled(cls, settings: Any) -> bool:
        """Whether scans without labels teach it anything; by default where it needs no labels."""
        return not cls.needs_labels(settings)

    @staticmethod
    def prepare(settings: Any, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work) -> None:
        """Build in ``cache`` what training with these settings reads from disk; nothing by default.

        Called by ``kd-seg prepare``. A build continues where it was interrupted, does the part ``work.shard``, tells
        ``work.progress``, and refuses a cache of other data unless ``work.rebuild``.
        """

    def views(self) -> list[View]:
        """Views the loader shall build, asked for once; none by default."""
        return []

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """The losses of this step by name; names are unique across objectives through the Trainer's prefix."""
        raise NotImplementedError(f"{type(self).__name__} has no terms")

    def after_step(self, step: Step) -> None:
        """Called after each optimiser step (EMA teachers)."""

    def after_epoch(self, step: Step) -> None:
        """Called after the last step of each epoch, after ``after_step``."""

    def describe(self) -> dict[str, Any]:
        """What the checkpoint records of it: kind, settings, and what its teacher was trained on."""
        return {}


OBJECTIVES: Registry[Any] = Registry("objective", "kd_seg.objectives")
"""Objective by kind: a class with ``Settings`` (pydantic, field ``kind``) and ``__init__(settings, context)``."""
