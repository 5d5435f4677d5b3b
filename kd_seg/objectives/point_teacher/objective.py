"""The objective: the student's voxels learn the mean of a teacher's probabilities of their points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.losses.logit import divergence_from
from kd_seg.networks import Batch, Output
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.point_teacher import cache
from kd_seg.objectives.point_teacher.settings import PointTeacherSettings
from kd_seg.objectives.point_teacher.teacher import FrozenTeacher
from kd_seg.objectives.point_teacher.view import LiveView, StoredView, Targets, TeacherInput
from kd_seg.scans import SemanticKitti
from kd_seg.sparse import pool_rows


@OBJECTIVES.register("point_teacher")
class PointTeacher(Objective):
    """Kullback-Leibler divergence from a teacher's probabilities, on rows with and without a label.

    Teacher and student need not share a grid: probabilities belong to points, and a student's voxel has the mean of its
    points'.
    """

    Settings = PointTeacherSettings

    def __init__(self, settings: PointTeacherSettings, context: Context) -> None:
        super().__init__()
        self.settings, self.classes = settings, context.classes
        seen = f"{settings.sees} {settings.scans} {settings.top}"  # two entries may differ in these alone
        self.name = f"point_teacher {settings.checkpoint} {settings.mode} {seen}"
        # kept out of the state: a frozen teacher is a file of its own
        self._teacher: tuple[FrozenTeacher, ...] = ()
        self._view: View
        if settings.mode == "live":
            teacher = FrozenTeacher(settings.checkpoint, context.classes, context.device)
            scale = teacher.spec.largest_intensity
            self._teacher = (teacher,)
            fuser = context.fuser if settings.sees == "fused" else None
            self._view = LiveView(self.name, teacher.spec.encoding, scale, fuser)
            self.about = teacher.about()
        else:
            store = cache.opened(settings, context.data, context.classes, context.cache, context.fix_command)
            self._view = StoredView(self.name, store, len(context.classes))
            self.about = cache.provenance(store)

    @classmethod
    def needs_labels(cls, settings: PointTeacherSettings) -> bool:
        """Labels only tell which rows to trust, where there are any."""
        return False

    @classmethod
    def needs_fusion(cls, settings: PointTeacherSettings) -> bool:
        """Where the teacher sees fused clouds."""
        return settings.sees == "fused"

    @staticmethod
    def prepare(
        settings: PointTeacherSettings, data: SemanticKitti, classes: ClassTable, cache_folder: Path, work: Work
    ) -> None:
        """The teacher's probabilities of every scan, for mode prepared."""
        if settings.mode == "prepared":
            cache.build(settings, data, classes, cache_folder, work)

    def views(self) -> list[View]:
        """Stored probabilities, or the teacher's input."""
        return [self._view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """Term "kd"; "untaught" and "wrong" have weight 0: shares of voxels without a teacher's answer, and of labelled
        voxels on which it is wrong.
        """
        target, known = self._targets(batch)
        likeliest, answer = target.max(dim=1)
        labelled = batch.labels > 0
        right = answer + 1 == batch.labels
        teaches = known & (likeliest >= self.settings.min_confidence)
        if self.settings.trust == "unlabelled":
            teaches &= ~labelled
        elif self.settings.trust == "right":
            teaches &= ~labelled | right
        loss = divergence_from(output.logits, target, self.settings.temperature, teaches.float())
        judged = known & labelled
        zero = output.logits.new_zeros(())
        return {
            "kd": Term.of(loss, self.settings.weight),
            "untaught": Term(zero + (~teaches).float().mean() if len(known) else zero, 0.0, int((~teaches).sum())),
            "wrong": Term((judged & ~right).sum() / judged.sum().clamp_min(1), 0.0, int(judged.sum())),
        }

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Probabilities [V, C] float32 of the student's voxels, and whether there are any [V]."""
        view: Any = batch.views[self.name]
        if isinstance(view, Targets):
            return view.probabilities.float(), view.known
        assert isinstance(view, TeacherInput)
        points = self._teacher[0].probabilities(view.batch)[view.own]
        known = points.sum(dim=1) > 0
        rows = torch.where(known, batch.inverse, -1)
        count = len(batch.coordinates)
        mean = pool_rows(points, rows, count, "mean")
        return mean, mean.sum(dim=1) > 0

    def describe(self) -> dict[str, Any]:
        """The settings, and what the teacher was trained on."""
        return {**self.settings.model_dump(mode="json"), "teacher": self.about}
