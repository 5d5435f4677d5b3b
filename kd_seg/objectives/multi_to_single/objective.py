"""Multi-to-single distillation: what the teacher predicts on fused voxels is taught to the student on its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError
from kd_seg.losses.affinity import class_affinity, instance_affinity, remember
from kd_seg.losses.feature import feature_distance, released_feature_distance
from kd_seg.losses.groups import Caps, sample_groups
from kd_seg.losses.logit import corrected, divergence, jaccard_distance, released_divergence
from kd_seg.losses.supervised import cross_entropy, lovasz_softmax
from kd_seg.networks import Batch, Level, Output
from kd_seg.networks.correspondence import correspondence, find_rows
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.multi_to_single.settings import MultiToSingleSettings
from kd_seg.objectives.multi_to_single.teachers import EmaTeacher, SeparateTeacher, SharedTeacher, Teacher
from kd_seg.objectives.multi_to_single.view import FusedBatch, FusedView
from kd_seg.objectives.supervised.objective import class_weights


@dataclass(frozen=True)
class Rows:
    """Student voxels at stride 1 and the teacher's beside them.

    Attributes:
        pi: [V] the teacher's row of each. logits: [V, C] the teacher's there, without a gradient.
        label: [V] train ids, 0 where a row teaches nothing.
        weight: [V] of the row. logit_weight: [V] of its logits; they teach on corrected and unlabelled rows too.
        corrected: [V] train ids where the teacher is wrong and its logits are corrected, else 0.
        spoken: [V] train ids of rows whose logits teach (the teacher's class where there is no label), else 0.
        dropped: labelled rows that were left out. labelled: of how many.
    """

    pi: Tensor
    logits: Tensor
    label: Tensor
    weight: Tensor
    logit_weight: Tensor
    corrected: Tensor
    spoken: Tensor
    dropped: int
    labelled: int


@OBJECTIVES.register("multi_to_single")
class MultiToSingle(Objective):
    """Distil logits, features and affinities from fused clouds to the student's own voxels."""

    Settings = MultiToSingleSettings
    class_weights: Tensor | None
    student_bank: Tensor
    student_filled: Tensor
    teacher_bank: Tensor
    teacher_filled: Tensor

    @classmethod
    def needs_fusion(cls, settings: Any) -> bool:
        """Its teacher sees fused clouds."""
        return True

    def __init__(self, settings: MultiToSingleSettings, context: Context) -> None:
        super().__init__()
        self.settings = settings
        self.hard = tuple(column + 1 for column in context.classes.hard)
        assert context.fuser is not None  # as needs_fusion asks
        teacher = _teacher(settings, context)
        # A frozen teacher stays out of the state; the others are part of it.
        self._frozen = (teacher,) if isinstance(teacher, SeparateTeacher) else ()
        self.taught = None if isinstance(teacher, SeparateTeacher) else teacher
        # Teachers with other point features than the student's have an input of their own.
        other = "" if teacher.encoding == context.encoding else f" {' '.join(teacher.encoding.features)}"
        self.view = FusedView(context.fuser, teacher.encoding, f"fused{other}")
        self.heads = nn.ModuleDict(_heads(settings, dict(context.student.channels), teacher.channels))  # type: ignore[arg-type]
        self.register_buffer("class_weights", class_weights(context.classes, "cube_root"), persistent=False)
        self.register_buffer("row_weights", class_weights(context.classes, settings.row_weights), persistent=False)
        self._banks(settings, context, teacher)

    @classmethod
    def learns_unlabelled(cls, settings: MultiToSingleSettings) -> bool:
        """Where ``unlabelled`` asks for it."""
        return settings.unlabelled

    @property
    def teacher(self) -> Teacher:
        """Whoever teaches."""
        return self._frozen[0] if self._frozen else self.taught  # type: ignore[return-value]

    def views(self) -> list[View]:
        """The fused clouds."""
        return [self.view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """Terms "kd", "kd_jaccard", "feature_<level>", "aff_*", for a shared teacher "teacher_ce" and "teacher_lovasz".

        "not_taught" has weight 0: the share of labelled voxels on which the teacher, by label or by error, is silent.
        """
        if self.settings.silent(step.share) and self.settings.teacher.mode != "shared":
            return {}
        scale = self.settings.scale(step.share)
        view: FusedBatch = batch.views[self.view.name]
        # Where the student ran under autocast the teacher does; features tell, as a float32 bias may widen the logits.
        half = output.levels["penultimate"].features.dtype == torch.float16
        with torch.autocast(output.logits.device.type, torch.float16, enabled=half):
            teacher_output = self.teacher.output(view.teacher, step)
        rows = self._rows(batch, view, teacher_output)
        terms = self._teacher_terms(batch, view, teacher_output, rows)
        if self.settings.logit.weight > 0:
            terms["kd"] = Term.of(self._logit(output, rows), scale * self.settings.logit.weight)
        if self.settings.jaccard.weight > 0:
            terms["kd_jaccard"] = Term.of(self._jaccard(output, rows), scale * self.settings.jaccard.weight)
        if self.settings.feature.weight > 0:
            terms |= self._features(batch, output, teacher_output, rows, scale)
        if self.settings.affinity.weight > 0:
            terms |= self._affinity(view, output, teacher_output, rows, scale)
        share = rows.dropped / max(rows.labelled, 1)
        terms["not_taught"] = Term(output.logits.new_tensor(share), 0.0, rows.dropped)
        return terms

    def after_step(self, step: Step) -> None:
        """Move an EMA teacher."""
        self.teacher.after_step(step)

    def describe(self) -> dict[str, Any]:
        """Settings, and what the teacher is."""
        return {**self.settings.model_dump(mode="json"), "taught_by": self.teacher.about}

    # ------------------------------------------------------------------ rows

    def _rows(self, batch: Batch, view: FusedBatch, teacher_output: Output) -> Rows:
        """Labelled student rows whose fused voxel has the same label and, with trust, whose teacher is right.

        Where ``unlabelled``, rows without a label too, with the teacher's class in its place; only their logits teach.
        """
        pi = correspondence(batch.coordinates, view.teacher.coordinates)
        label = batch.labels
        labelled = label > 0
        same = labelled & (view.teacher.labels[pi] == label)
        logits = teacher_output.logits.detach()[pi]
        predicted = logits.argmax(dim=1) + 1
        taught = same & (predicted == label) if self.settings.trust else same
        spoken = same if self.settings.trust == "corrected" else taught
        dropped = int((labelled & ~spoken).sum())
        to_correct = torch.where(spoken & ~taught, label, 0)
        if self.settings.unlabelled:
            spoken = spoken | ~labelled
        told = torch.where(spoken, torch.where(labelled, label, predicted), 0)
        hard = torch.isin(told, told.new_tensor(self.hard))
        weight = torch.where(hard, self.settings.hard_weight, 1.0) * spoken
        if isinstance(self.row_weights, Tensor):
            weight = weight * self.row_weights[(told - 1).clamp_min(0)]
        if self.settings.fused_weight != 1.0:
            more = _points_per_voxel(view.teacher)[pi] > _points_per_voxel(batch)
            weight = weight * torch.where(more, self.settings.fused_weight, 1.0)
        return Rows(
            pi,
            logits,
            torch.where(taught, label, 0),
            weight * taught,
            weight,
            to_correct,
            told,
            dropped,
            int(labelled.sum()),
        )

    # ------------------------------------------------------------------ terms

    def _logit(self, output: Output, rows: Rows) -> tuple[Tensor, int]:
        student, teacher = output.logits, corrected(rows.logits, rows.corrected)
        if self.settings.logit.form == "released":
            taught = rows.logit_weight > 0
            return released_divergence(student[taught], teacher[taught])
        return divergence(student, teacher, self.settings.logit.temperature, rows.logit_weight)

    @staticmethod
    def _jaccard(output: Output, rows: Rows) -> tuple[Tensor, int]:
        return jaccard_distance(output.logits, corrected(rows.logits, rows.corrected), rows.spoken)

    def _features(
        self, batch: Batch, output: Output, teacher_output: Output, rows: Rows, scale: float
    ) -> dict[str, Term]:
        settings = self.settings.feature
        weight = settings.weight / len(settings.levels)
        terms = {}
        shared: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # encoder and decoder levels have the same voxels
        for name in settings.levels:
            own, other = output.levels[name], teacher_output.levels[name]
            voxels = (own.coordinates.data_ptr(), other.coordinates.data_ptr())
            if voxels not in shared:
                pi = correspondence(own.coordinates, other.coordinates)
                shared[voxels] = (pi, self._level_weight(batch, own, rows))
            pi, weights = shared[voxels]
            head = self.heads[name] if name in self.heads else nn.Identity()
            student, teacher = head(own.features.float()), other.features[pi]
            if settings.form == "released":
                taught = weights > 0
                value = released_feature_distance(student[taught], teacher[taught])
            else:
                value = feature_distance(student, teacher, weights)
            terms[f"feature_{name}"] = Term.of(value, scale * weight)
        return terms

    def _level_weight(self, batch: Batch, level: Level, rows: Rows) -> Tensor:
        """Mean weight [V_l] of each level voxel's taught stride-1 children; 0 where it has none."""
        stride = torch.tensor((1, *level.stride), dtype=batch.coordinates.dtype, device=batch.coordinates.device)
        taught = rows.weight > 0
        parents = torch.div(batch.coordinates[taught], stride, rounding_mode="floor")
        parent = find_rows(parents, level.coordinates)
        total = rows.weight.new_zeros(len(level.coordinates)).index_add(0, parent, rows.weight[taught])
        count = rows.weight.new_zeros(len(level.coordinates)).index_add(
            0, parent, torch.ones_like(parent, dtype=total.dtype)
        )
        return total / count.clamp_min(1.0)

    def _affinity(
        self, view: FusedBatch, output: Output, teacher_output: Output, rows: Rows, scale: float
    ) -> dict[str, Term]:
        settings = self.settings.affinity
        caps = Caps(settings.per_class, settings.per_instance, settings.instances, settings.rows)
        priority = torch.rand(len(rows.label)).to(rows.label.device)  # drawn on the CPU, the same for any device
        groups = sample_groups(rows.label, view.key, priority, caps)
        student = self._side(output, settings.level)[groups.rows]
        teacher = self._side(teacher_output, settings.level)[rows.pi[groups.rows]]
        weight = scale * settings.weight
        if settings.form == "class":
            value = class_affinity(student, teacher, groups.label, self.hard, settings.power, settings.diagonal)
            return {"aff_class": Term.of(value, weight)}
        parts = instance_affinity(student, teacher, groups, settings.power, self._remembered())
        if settings.memory and len(parts.classes):
            remember(self.student_bank, self.student_filled, parts.classes, parts.student_prototypes)
            remember(self.teacher_bank, self.teacher_filled, parts.classes, parts.teacher_prototypes)
        return {
            "aff_within": Term(parts.within, weight, parts.rows_within),
            "aff_between": Term(parts.between, weight, parts.prototypes),
            "aff_row": Term(parts.row, weight, parts.rows),
        }

    @staticmethod
    def _side(output: Output, on: str) -> Tensor:
        if on == "logits":
            return output.logits
        level = output.levels[on]
        if level.stride != (1, 1, 1):  # its rows are no rows of the student's voxels
            finest = [name for name, each in output.levels.items() if each.stride == (1, 1, 1)]
            raise ConfigError(
                f"affinity.level: {on!r} has cells of {'x'.join(map(str, level.stride))} voxels; name one of stride 1 "
                f"({', '.join(finest)}), or logits."
            )
        return level.features

    def _remembered(self) -> tuple[Tensor, Tensor] | None:
        if not self.settings.affinity.memory or not bool(self.student_filled.any()):
            return None
        return self.student_bank[self.student_filled].clone(), self.teacher_bank[self.teacher_filled].clone()

    def _teacher_terms(self, batch: Batch, view: FusedBatch, teacher_output: Output, rows: Rows) -> dict[str, Term]:
        """Supervision of the shared second pass, on all fused voxels or (released) on those that fusion changed."""
        settings = self.settings.teacher
        if settings.mode != "shared" or settings.supervise == "none" or settings.weight == 0:
            return {}
        label = view.teacher.labels
        if settings.supervise == "changed":
            label = label.clone()
            label[rows.pi[batch.labels == label[rows.pi]]] = 0
        weights = self.class_weights if settings.supervise == "all" else None
        terms = {"teacher_ce": Term.of(cross_entropy(teacher_output.logits, label, weights), settings.weight)}
        if settings.lovasz:
            terms["teacher_lovasz"] = Term.of(lovasz_softmax(teacher_output.logits, label), settings.weight)
        return terms

    def _banks(self, settings: MultiToSingleSettings, context: Context, teacher: Teacher) -> None:
        """Remembered class prototypes of student and teacher."""
        classes = len(context.classes)
        on = settings.affinity.level
        widths: list[dict[str, int]] = [dict(context.student.channels), teacher.channels]  # type: ignore[arg-type]
        for name, channels in zip(("student", "teacher"), widths, strict=True):
            if on != "logits" and on not in channels:
                raise ConfigError(
                    f"affinity.level: there is no level {on!r}; the {name} has {', '.join(channels)}, or logits."
                )
            width = classes if on == "logits" else channels[on]
            self.register_buffer(f"{name}_bank", torch.zeros(classes, width))
            self.register_buffer(f"{name}_filled", torch.zeros(classes, dtype=torch.bool))


def _points_per_voxel(batch: Batch) -> Tensor:
    """Points [V] in each voxel."""
    return torch.bincount(batch.inverse[batch.inverse >= 0], minlength=len(batch.coordinates))


def _teacher(settings: MultiToSingleSettings, context: Context) -> Teacher:
    teacher = settings.teacher
    if teacher.mode == "separate":
        assert teacher.checkpoint is not None  # settings see to it
        return SeparateTeacher(teacher.checkpoint, context)
    if teacher.mode == "ema":
        return EmaTeacher(teacher.momentum, context)
    return SharedTeacher(teacher.separate_norm, context)


def _heads(settings: MultiToSingleSettings, student: dict[str, int], teacher: dict[str, int]) -> dict[str, nn.Module]:
    """A projection per feature level where the widths differ; ConfigError names a level that one side lacks."""
    heads: dict[str, nn.Module] = {}
    if settings.feature.weight == 0:
        return heads
    for name in settings.feature.levels:
        for side, channels in (("student", student), ("teacher", teacher)):
            if name not in channels:
                raise ConfigError(f"feature.levels: there is no level {name!r}; the {side} has {', '.join(channels)}.")
        if student[name] != teacher[name]:
            heads[name] = nn.Linear(student[name], teacher[name])
    return heads
