"""``image_units``: what 2D teachers claim about sets of points, forward and backward (PartDistill, CVPR 2024)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.images.units.cache import build_units, open_units
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.losses.supervised import lovasz_softmax
from kd_seg.losses.units import class_weights, forward_distillation, heaviest_claim, root_weights, scale_scores
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch, Output
from kd_seg.objectives.image_units.numbering import number_units, read_columns
from kd_seg.objectives.image_units.rescoring import Judge
from kd_seg.objectives.image_units.rounds import is_due, round_summary
from kd_seg.objectives.image_units.settings import BackwardSettings, ImageUnitsSettings
from kd_seg.objectives.image_units.view import UnitBatch, UnitsView
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.shared.ema import bare, follow_state, warmed_momentum
from kd_seg.objectives.shared.image_teacher import regime, tools
from kd_seg.objectives.shared.processes import rank_and_world, summed
from kd_seg.scans import SemanticKitti


@OBJECTIVES.register("image_units")
class ImageUnits(Objective):
    """Learn from knowledge units; with ``backward`` they are re-scored by the student itself, never by labels.

    State that is saved: r_u and s_u of every unit, the epoch losses, the round, and the EMA student.
    """

    Settings = ImageUnitsSettings
    sets: Tensor
    likelihoods: Tensor
    root: Tensor
    usual: Tensor
    ratio: Tensor
    score: Tensor

    def __init__(self, settings: ImageUnitsSettings, context: Context) -> None:
        super().__init__()
        self.settings, self.context = settings, context
        self.class_map = load_class_map(settings.class_map, context.classes)
        self.store = open_units(settings.source(), context.cache, context.data, context.classes, context.fix_command)
        self.numbering = number_units(self.store, context.data.keys())
        self.view = UnitsView(f"image_units {self.store.folder.name}", self.store, self.numbering.first)
        self.register_buffer("sets", torch.from_numpy(self.class_map.sets.copy()), persistent=False)
        likelihoods = torch.from_numpy(self.class_map.likelihoods(settings.secondary))
        self.register_buffer("likelihoods", likelihoods, persistent=False)
        self.register_buffer("usual", torch.from_numpy(self.class_map.usual), persistent=False)
        self.register_buffer("ratio", torch.full((self.numbering.count,), torch.nan))
        self.register_buffer("score", torch.ones(self.numbering.count))
        # Reading every unit takes a while on large data, and only these weights need it before a backward pass.
        self.counted = read_columns(self.store, context.data.keys() if settings.class_weights == "root" else [])
        self.register_buffer("root", self._root_weights())
        self.ema: nn.Module | None = None
        if settings.backward is not None and settings.backward.student == "ema":
            self.ema = copy.deepcopy(context.student).requires_grad_(False)
        self.history: list[float] = []
        self.round, self.last = 0, 0
        self._sum, self._steps = 0.0, 0

    @classmethod
    def needs_labels(cls, settings: ImageUnitsSettings) -> bool:
        """Never: what teachers claim in pictures teaches alone."""
        return False

    @staticmethod
    def prepare(
        settings: ImageUnitsSettings, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work
    ) -> None:
        """Build the cache of units."""
        lent = tools(data, classes, work.device, load_class_map(settings.class_map, classes).vocabulary)
        build_units(settings.source(), cache, data, classes, lent, work)

    def _root_weights(self) -> Tensor:
        """``root`` weight [C2] of each teacher class, by the points claimed, as far as they are believed."""
        columns = self.counted
        believed = torch.zeros(len(self.class_map))
        believed.index_add_(0, columns.teacher_class, columns.points * self.score.cpu()[: len(columns.points)])
        return root_weights(believed, self.usual.cpu(), len(self.context.classes)).to(self.score.device)

    def views(self) -> list[View]:
        """The units of each sample."""
        return [self.view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """ "units" over covered points, "units_lovasz" if asked for, and three counters: pairs outside the grid, live
        units, scans without units.
        """
        found: UnitBatch = batch.views[self.view.name]
        voxel = batch.inverse[found.point]
        inside = voxel >= 0
        point, unit = found.point[inside], found.unit[inside]
        covered, row = torch.unique(point, return_inverse=True)
        logits = output.logits[batch.inverse[covered]]
        claims = self.likelihoods[found.teacher_class]
        weights, alive = self._weights(found, unit, self.sets[found.teacher_class])
        distribution = (found.distribution, self.likelihoods) if found.distribution.shape[1] else None
        total = len(batch.features) if self.settings.average == "all" else None
        value, count = forward_distillation(logits, row, unit, claims, weights, distribution, total)
        if count == 0:
            value = exact_zero(output.logits)
        self._sum, self._steps = self._sum + float(value.detach()), self._steps + 1
        zero = exact_zero(output.logits)
        more = {}
        if self.settings.lovasz > 0:
            strength = self.score[found.identity] * found.confidence
            labels = heaviest_claim(row, unit, strength, self.usual[found.teacher_class] + 1, len(covered))
            more["units_lovasz"] = Term(
                lovasz_softmax(logits, labels)[0], self.settings.lovasz, int((labels > 0).sum())
            )
        return {
            **more,
            "units": Term(value, self.settings.weight, count),
            "units_outside_grid": Term(zero, 0.0, int((~inside).sum())),
            "units_alive": Term(zero, 0.0, int(alive.sum())),
            "scans_without_units": Term(zero, 0.0, found.without),
        }

    def _weights(self, found: UnitBatch, unit: Tensor, claims: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [U] of each unit of the batch, and whether it is alive."""
        score = self.score[found.identity]
        replaced = self.settings.backward is not None and self.settings.backward.replace and self.round > 0
        weights = score.clone()
        if self.settings.confidence and not replaced:
            weights = weights * found.confidence
        alive = score > 0
        if self.settings.class_weights == "log4" and len(found.teacher_class):
            per_class = class_weights(unit[alive[unit]], claims)
            weights = weights * torch.where(claims, per_class, torch.zeros_like(per_class)).amax(dim=1)
        elif self.settings.class_weights == "root":
            weights = weights * self.root[found.teacher_class]
        return weights, alive

    # ------------------------------------------------------------------ backward

    def after_step(self, step: Step) -> None:
        """The EMA student follows; its batch-norm statistics too, as both see the same kind of input."""
        if self.ema is not None:
            assert self.settings.backward is not None
            follow_state(self.ema, step.student, warmed_momentum(self.settings.backward.momentum, step.number))

    def after_epoch(self, step: Step) -> None:
        """Score the units again where it is time; the loader continues, as scores live here."""
        self.history.append(self._mean())
        backward = self.settings.backward
        if backward is not None and is_due(backward, self.history, self.round, self.last):
            self._rescore(backward, step)

    def _mean(self) -> float:
        """This epoch's mean of the unit loss, over all processes, so that all begin the backward pass together."""
        total = torch.tensor([self._sum, float(self._steps)], dtype=torch.float64)
        self._sum, self._steps = 0.0, 0
        if rank_and_world()[1] > 1:
            total = summed(total.to(self.score.device))
        return float(total[0] / total[1].clamp_min(1))

    def _rescore(self, backward: BackwardSettings, step: Step) -> None:
        """One round: agreement of every unit with the student, scores from it, a line in ``units.jsonl``."""
        self.round, self.last = self.round + 1, len(self.history)
        ratio, likely = self._agreement(self.ema or bare(step.student), backward)
        judged = ~torch.isnan(ratio)
        columns = read_columns(self.store, self.context.data.keys())
        plain = torch.where(judged, ratio, torch.ones_like(ratio))
        if backward.replace:
            self.score.copy_(plain)
        else:
            scores = scale_scores(
                plain, torch.nan_to_num(likely), columns.teacher_class.to(ratio.device), judged,
                quantile=backward.quantile, power=backward.power, floor=backward.floor,
                drop_below=backward.drop_below, unknown_below=backward.unknown_below,
            )  # fmt: skip
            self.score.copy_(scores)
            self.root.copy_(self._root_weights())
        self.ratio.copy_(ratio)
        summary = round_summary(columns, ratio.cpu(), self.score.cpu(), judged.cpu(), self.class_map.vocabulary)
        self.context.record("units", step.number, {"epoch": len(self.history), "round": self.round, **summary})

    def _agreement(self, judge: nn.Module, backward: BackwardSettings) -> Tensor:
        """r_u and mean probability of every unit [2, U], NaN for those not judged; each process judges its share."""
        rank, world = rank_and_world()
        scans = self.context.data.keys()[rank::world]
        asked = Judge(
            store=self.store,
            data=self.context.data,
            encoding=self.context.encoding,
            projection=self.settings.projection,
            settings=backward,
            sets=self.sets.cpu(),
            device=self.score.device,
            seed=self.context.seed,
        )
        ratios = asked.ratios(judge, scans, self.numbering.first, self.numbering.count, self.round)
        ratios = ratios.to(self.score.device)
        if world > 1:
            filled = summed(torch.stack([torch.nan_to_num(ratios), (~torch.isnan(ratios)).float()]))
            ratios = torch.where(filled[1] > 0, filled[0], torch.nan)
        return ratios

    # ------------------------------------------------------------------ files

    def get_extra_state(self) -> dict[str, Any]:
        """Losses by epoch and the round."""
        return {
            "history": list(self.history),
            "round": self.round,
            "last": self.last,
            "sum": self._sum,
            "steps": self._steps,
        }

    def set_extra_state(self, state: Any) -> None:
        """Inverse of ``get_extra_state``."""
        self.history, self.round, self.last = list(state["history"]), state["round"], state["last"]
        self._sum, self._steps = state["sum"], state["steps"]

    def describe(self) -> dict[str, Any]:
        """Settings, what the teacher was trained on, and the name that such a run goes by."""
        provenance = self.store.header.provenance
        return {
            **self.settings.model_dump(mode="json"),
            "teacher_provenance": provenance,
            "regime": regime(provenance, self.context),
        }
