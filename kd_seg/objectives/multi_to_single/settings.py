"""Settings of ``kind: multi_to_single`` (docs/multi_to_single.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kd_seg.core.config import Settings


class TeacherSettings(Settings):
    """Who teaches."""

    mode: Literal["separate", "shared", "ema"] = Field(
        "separate",
        description="separate: a frozen checkpoint; shared: the student's own second pass; ema: its moving average",
    )
    checkpoint: str | None = Field(None, description="separate: checkpoint or run folder of the teacher")
    momentum: float = Field(0.999, ge=0, lt=1, description="ema: largest momentum")
    separate_norm: bool = Field(True, description="shared: batch-norm statistics of their own for the fused pass")
    supervise: Literal["none", "all", "changed"] = Field(
        "all",
        description="shared: labels for the fused pass; changed: only voxels whose label fusion changed (released)",
    )
    weight: float = Field(0.5, ge=0, description="shared: weight of that supervision")
    lovasz: bool = Field(True, description="shared: Lovasz-softmax beside the cross-entropy")

    @model_validator(mode="after")
    def _checkpoint_given(self) -> TeacherSettings:
        if self.mode == "separate" and not self.checkpoint:
            raise ValueError(
                "teacher.checkpoint is needed for mode separate; train one with student.input=fused or mixed"
            )
        return self


class LogitSettings(Settings):
    """Distillation of logits."""

    weight: float = Field(1.0, ge=0)
    form: Literal["kl", "released"] = "kl"
    temperature: float = Field(2.0, gt=0, description="kl")


class JaccardSettings(Settings):
    """Distillation of the logits' overlap per class."""

    weight: float = Field(0.0, ge=0)


class FeatureSettings(Settings):
    """Distillation of features."""

    weight: float = Field(0.5, ge=0)
    form: Literal["unit", "released"] = "unit"
    levels: tuple[str, ...] = Field(
        ("enc1", "dec1"), min_length=1, description="one early encoder level, one late decoder level"
    )


class AffinitySettings(Settings):
    """Distillation of affinities."""

    weight: float = Field(1.0, ge=0)
    form: Literal["instance", "class"] = Field("instance", description="class: as released, per hard class")
    level: str = Field("penultimate", description='a stride-1 level, or "logits"')
    power: Literal[1, 2] = 1
    diagonal: bool = Field(False, description="class: pairs of a row with itself too (released)")
    memory: bool = Field(False, description="instance: remember class prototypes across batches")
    per_class: int = Field(256, ge=2)
    per_instance: int = Field(64, ge=2)
    instances: int = Field(64, ge=1)
    rows: int = Field(1024, ge=2)


class MultiToSingleSettings(Settings):
    """Settings of ``kind: multi_to_single``; what is fused stands in the configuration's ``fusion`` section."""

    kind: Literal["multi_to_single"] = "multi_to_single"
    teacher: TeacherSettings
    logit: LogitSettings = LogitSettings()
    jaccard: JaccardSettings = JaccardSettings()
    feature: FeatureSettings = FeatureSettings()
    affinity: AffinitySettings = AffinitySettings()
    trust: bool | Literal["corrected"] = Field(
        True,
        description="true: rows on which the teacher is wrong teach nothing; corrected: there its logits of the label "
        "and of its prediction are swapped, and features and affinities teach nothing; false: every row teaches",
    )
    unlabelled: bool = Field(
        False,
        description="rows without a label learn from the teacher's logits too: with data.unlabelled, or data.labels "
        "below 1, those scans take part",
    )
    row_weights: Literal["none", "cube_root", "inverse"] = Field(
        "none", description="weights of rows by class in logit and feature terms, as supervised.class_weights has them"
    )
    hard_weight: float = Field(1.0, gt=0, description="weight of rows of hard classes in logit and feature terms")
    fused_weight: float = Field(
        1.0, gt=0, description="weight of rows whose fused voxel holds points that the student's does not"
    )
    ramp: float | None = Field(
        None, ge=0, le=1, description="share of the steps with rising weight; default 0.1, separate: 0"
    )
    fade: tuple[float, float] | None = Field(
        None,
        description="shares of the steps at which the weights begin to fall and have reached 0; null: they stay",
    )

    @model_validator(mode="after")
    def _fade_ordered(self) -> MultiToSingleSettings:
        if self.fade is not None and not 0.0 <= self.fade[0] < self.fade[1] <= 1.0:
            raise ValueError(f"fade is {list(self.fade)}; it needs two shares of the steps, the first below the second")
        return self

    def scale(self, share: float) -> float:
        """What the weights are multiplied with when ``share`` of the steps is done: they rise, stay, and fade."""
        ramp = self.ramp_share()
        rise = min(1.0, share / ramp) if ramp > 0 else 1.0
        if self.fade is None:
            return rise
        begin, end = self.fade
        return rise * min(1.0, max(0.0, (end - share) / (end - begin)))

    def silent(self, share: float) -> bool:
        """Whether the weights have faded for good, so that no teacher need run."""
        return self.fade is not None and share >= self.fade[1]

    def ramp_share(self) -> float:
        """The ramp, by mode where it is not given."""
        if self.ramp is not None:
            return self.ramp
        return 0.0 if self.teacher.mode == "separate" else 0.1
