"""``image_regions``: region alignment of student features with a 2D teacher's (SLidR, PPKT, ScaLR, PointMCD)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.core.errors import ConfigError
from kd_seg.images.regions.cache import build_regions, open_regions
from kd_seg.losses.contrastive import info_nce
from kd_seg.losses.regions import align, pool_attention, pool_max, pool_mean, unit
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch, Output
from kd_seg.objectives.image_regions.heads import build_head
from kd_seg.objectives.image_regions.settings import ImageRegionsSettings
from kd_seg.objectives.image_regions.view import RegionBatch, RegionsView
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.shared.image_rows import level_rows
from kd_seg.objectives.shared.image_teacher import regime, tools
from kd_seg.scans import SemanticKitti


@OBJECTIVES.register("image_regions")
class ImageRegions(Objective):
    """``k_r = pool_{i in r} h(F_i)`` is drawn towards ``q_r = mean_{pixels in r} t(I)`` over the regions of a batch."""

    Settings = ImageRegionsSettings

    def __init__(self, settings: ImageRegionsSettings, context: Context) -> None:
        super().__init__()
        self.settings, self.context = settings, context
        channels = getattr(context.student, "channels", {})
        if settings.level not in channels:
            raise ConfigError(f"image_regions.level: no level {settings.level!r}; it has: {', '.join(channels)}.")
        self.store = open_regions(settings.source(), context.cache, context.data, context.fix_command)
        points = settings.regions.kind == "point"
        self.view = RegionsView(f"image_regions {self.store.folder.name}", self.store, points, settings.samples)
        teacher = self.store.width("features")
        width = settings.head.dim or teacher
        self.head = build_head(settings.head.kind, channels[settings.level], width)
        self.teacher_head = nn.Linear(teacher, width) if settings.teacher_head == "linear" else nn.Identity()
        self.attention = nn.Linear(channels[settings.level], 1) if settings.pooling == "attention" else None

    @classmethod
    def needs_labels(cls, settings: ImageRegionsSettings) -> bool:
        """Never: pictures alone teach."""
        return False

    @staticmethod
    def prepare(
        settings: ImageRegionsSettings, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work
    ) -> None:
        """Build the cache of regions."""
        build_regions(settings.source(), cache, data, tools(data, classes, work.device), work)

    def views(self) -> list[View]:
        """The regions of each sample."""
        return [self.view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """ "regions" over those with enough points, and counters of those dropped, and of scans without a picture."""
        found: RegionBatch = batch.views[self.view.name]
        level = output.levels[self.settings.level]
        zero = exact_zero(level.features, *self.parameters())
        voxel = batch.inverse[found.point]
        inside = voxel >= 0
        sizes = torch.bincount(found.region[inside], minlength=found.count)
        targeted = torch.bincount(found.target, minlength=found.count) > 0
        used = (sizes >= self.settings.min_points) & targeted
        number = torch.cumsum(used.long(), 0) - 1
        count = int(used.sum())
        if count:
            of_point = inside & used[found.region]
            rows = level.features[level_rows(batch, level)[voxel[of_point]]]
            student = self._student(rows, number[found.region[of_point]], count)
            of_target = used[found.target]
            target = self._target(found, number[found.target[of_target]], of_target, count)
            value, count = self._distance(student, target)
        else:
            value = zero
        return {
            "regions": Term(value + zero, self.settings.weight, count),
            "regions_dropped": Term(zero, 0.0, found.count - count),
            "scans_without_regions": Term(zero, 0.0, found.without),
        }

    def _student(self, rows: Tensor, region: Tensor, count: int) -> Tensor:
        """k [R, d]."""
        on_rows = self.settings.head.on == "rows"
        projected = self.head(rows.float()) if on_rows else rows.float()
        if self.settings.norm in ("rows", "both"):
            projected = unit(projected)
        if self.attention is not None:
            pooled = pool_attention(projected, self.attention(rows.float()).squeeze(1), region, count)
        elif self.settings.pooling == "max":
            pooled = pool_max(projected, region, count)
        else:
            pooled = pool_mean(projected, region, count)
        if not on_rows:
            pooled = self.head(pooled)
        return unit(pooled) if self.settings.norm in ("pooled", "both") else pooled

    def _target(self, found: RegionBatch, region: Tensor, chosen: Tensor, count: int) -> Tensor:
        """q [R, d]: cells through the head, normalised, then averaged with the weights of their pixels."""
        cells, compact = torch.unique(found.cell[chosen], return_inverse=True)
        features = self.teacher_head(found.features[cells].float())
        if self.settings.norm in ("rows", "both") and self.settings.regions.kind != "point":
            features = unit(features)
        pooled = pool_mean(features[compact], region, count, found.weight[chosen])
        single = self.settings.norm == "rows" and self.settings.regions.kind == "point"
        return unit(pooled) if single or self.settings.norm in ("pooled", "both") else pooled

    def _distance(self, student: Tensor, target: Tensor) -> tuple[Tensor, int]:
        if self.settings.loss == "info_nce":
            return info_nce(student, target, self.settings.temperature, self.settings.alike)
        return align(student, target, self.settings.loss, self.settings.temperature)

    def describe(self) -> dict[str, Any]:
        """Settings, what the teacher was trained on, and the name that such a run goes by."""
        provenance = self.store.header.provenance
        return {
            **self.settings.model_dump(mode="json"),
            "teacher_provenance": provenance,
            "regime": regime(provenance, self.context),
        }
