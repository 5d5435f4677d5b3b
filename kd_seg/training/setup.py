"""From a training configuration to the parts that a Trainer works with: data, network, objectives, pipeline, device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from kd_seg.checkpoint import initialise
from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.device import choose_device
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.instances.fusion import Fuser
from kd_seg.instances.paste import Paster
from kd_seg.networks import build_network
from kd_seg.objectives import OBJECTIVES, Context, Objective
from kd_seg.objectives.interface import Record, no_record
from kd_seg.scans import FileFormat, Key, SemanticKitti
from kd_seg.training.checks import check_labels, check_scans
from kd_seg.training.config import DataSettings, TrainingConfig
from kd_seg.training.loader import Pipeline, choose_labelled
from kd_seg.training.mixing import build_mixer
from kd_seg.voxels import feature_width


def labelled_data(settings: DataSettings) -> SemanticKitti:
    """The training sequences that have labels: those named, or all but valid, select and unlabelled."""
    return _sequences(settings, _labelled_names(settings))


def training_data(settings: DataSettings) -> SemanticKitti:
    """The training sequences, those without labels last."""
    names = _labelled_names(settings)
    if twice := sorted({*settings.unlabelled} & {*names, *settings.valid, *settings.select}):
        raise ConfigError(
            f"data.unlabelled names {', '.join(twice)}, which data.train, valid or select has too; take it out of one."
        )
    return _sequences(settings, [*names, *settings.unlabelled])


def _labelled_names(settings: DataSettings) -> list[str]:
    if settings.train is not None:
        return [name for name in settings.train if name not in settings.select]
    held = {*settings.valid, *settings.select, *settings.unlabelled}
    return [name for name in SemanticKitti(settings.root).sequences if name not in held]


def file_format(settings: DataSettings) -> FileFormat:
    """How the data's .bin files are read."""
    return FileFormat(settings.columns, settings.dtype, intensity_range=settings.sensor.intensity_range)


def _sequences(settings: DataSettings, names: list[str]) -> SemanticKitti:
    data = SemanticKitti(settings.root, names, file_format(settings))
    if len(data) == 0:
        raise DataError(f"{settings.root} has no scans in sequences {', '.join(names) or 'at all'}; check data.train.")
    return data


@dataclass(frozen=True)
class Place:
    """Where a run is made.

    Attributes:
        fix_command: the command that builds what is missing on disk, for messages.
        record: adds a line to a log of the run folder.
        resumes: whether a state is read afterwards, so that ``student.init`` is not needed.
    """

    fix_command: str = "kd-seg prepare CONFIG"
    record: Record = no_record
    resumes: bool = False


@dataclass(frozen=True)
class TrainingScans:
    """What a run learns from.

    Attributes:
        data: the training scans, those without labels last. labelled_data: the sequences of them that have labels.
        chosen: scans whose labels may be used.
        cache: folder of libraries and teacher caches.
    """

    data: SemanticKitti
    labelled_data: SemanticKitti
    classes: ClassTable
    chosen: frozenset[Key]
    cache: Path

    @classmethod
    def read(cls, config: TrainingConfig) -> TrainingScans:
        """The scans that ``data`` names; errors name the key at fault."""
        data, labelled = training_data(config.data), labelled_data(config.data)
        chosen = choose_labelled(labelled.keys(), config.data.labels, config.run.seed)
        cache = cache_folder(config.data.root, config.data.cache)
        return cls(data, labelled, load_classes(config.data.classes), chosen, cache)

    @property
    def limited(self) -> frozenset[Key] | None:
        """The scans whose labels may be used, where some may not; None = all."""
        return self.chosen if len(self.chosen) < len(self.data) else None


@dataclass(frozen=True)
class ModelParts:
    """What is trained: the student on its device, and its objectives.

    Attributes:
        fuser: adds other scans' points; None where nothing of the run needs it.
        fresh: tensors of the student that ``student.init`` did not fill.
    """

    device: torch.device
    student: nn.Module
    objectives: list[Objective]
    fuser: Fuser | None
    fresh: list[str]

    @classmethod
    def build(cls, config: TrainingConfig, scans: TrainingScans, rank: int, place: Place) -> ModelParts:
        """Student, fuser and objectives, each from its section."""
        device = choose_device(config.run.device, rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)  # spconv launches its kernels on the current device, not where its data lie
        settings, encoding = config.student, config.encoding()
        width = feature_width(encoding.features)
        student = build_network(settings.network, settings.size, width, len(scans.classes)).to(device)
        # Before the objectives, which may begin with a copy of it.
        fresh = initialise(student, settings.init) if settings.init and not place.resumes else []
        fuser = open_fuser(config, scans, place.fix_command) if needs_fusion(config) else None
        context = Context(
            classes=scans.classes,
            encoding=encoding,
            student=student,
            data=scans.data,
            labelled_data=scans.labelled_data,
            device=device,
            cache=scans.cache,
            fix_command=place.fix_command,
            fuser=fuser,
            labelled=scans.limited,
            seed=config.run.seed,
            labels_used=reads_labels(config),
            record=place.record,
        )
        objectives = [OBJECTIVES.get(entry.kind)(entry, context).to(device) for entry in config.objectives]
        return cls(device, student, objectives, fuser, fresh)


@dataclass(frozen=True)
class Parts:
    """All that a Trainer works with.

    Attributes:
        keys: scans in the order and as often as they are drawn from.
        warnings: what is odd about them, for a person.
        fresh: tensors of the student that ``student.init`` did not fill.
    """

    device: torch.device
    keys: tuple[Key, ...]
    student: nn.Module
    objectives: list[Objective]
    pipeline: Pipeline
    warnings: list[str]
    fresh: list[str]

    @classmethod
    def build(cls, config: TrainingConfig, rank: int = 0, place: Place | None = None) -> Parts:
        """Data, model, pipeline: all that a configuration names; errors name the key or file at fault.

        Args:
            rank: number of this process among those that train together.
        """
        scans = TrainingScans.read(config)
        if reads_labels(config):
            check_labels(scans.labelled_data)
        model = ModelParts.build(config, scans, rank, place or Place())
        pipeline = build_pipeline(config, scans, model)
        labelled = needs_labels(config)
        drawn = [key for key in pipeline.keys if not labelled or key in scans.chosen]
        intensity = config.data.sensor.intensity_range
        warnings = check_scans(scans.data, drawn, labelled, scans.classes, config.encoding(), intensity)
        return cls(model.device, pipeline.keys, model.student, model.objectives, pipeline, warnings, model.fresh)


def build_pipeline(config: TrainingConfig, scans: TrainingScans, model: ModelParts) -> Pipeline:
    """How the samples of a run are made."""
    views = tuple(view for objective in model.objectives for view in objective.views())
    fused_input = config.student.input != "own"
    twins = fused_input or any(view.adds_fused for view in views)
    paste, mix, fuser = config.augment.paste, config.augment.mix, model.fuser
    return Pipeline(
        data=scans.data,
        keys=tuple(_drawn_from(config, scans)),
        classes=scans.classes,
        encoding=config.encoding(),
        settings=config.augment,
        views=views,
        labelled=scans.chosen if reads_labels(config) else None,
        fuse=fuser.fuse if fuser is not None and fused_input else None,
        paste=Paster.build(fuser, scans.classes, paste, twins) if fuser is not None and paste is not None else None,
        mix=build_mixer(mix, scans.classes) if mix is not None else None,
        fused_share=0.5 if config.student.input == "mixed" else 1.0,
    )


def needs_labels(config: TrainingConfig) -> bool:
    """Whether any objective of the run reads labels."""
    return any(OBJECTIVES.get(entry.kind).needs_labels(entry) for entry in config.objectives)


def reads_labels(config: TrainingConfig) -> bool:
    """Whether labels are opened: objectives learn from them, or instances are fused or pasted, which need them."""
    return needs_labels(config) or needs_fusion(config)


def needs_fusion(config: TrainingConfig) -> bool:
    """Whether anything of the run works on fused clouds or pastes instances."""
    asked = any(OBJECTIVES.get(entry.kind).needs_fusion(entry) for entry in config.objectives)
    return asked or config.student.input != "own" or config.augment.paste is not None


def _drawn_from(config: TrainingConfig, scans: TrainingScans) -> list[Key]:
    """The scans that training draws from: all, or the labelled ones where no objective learns from others.

    Where both kinds are, or labels that are predictions, scans of the rarer kind stand in the list as often as
    ``labelled_share`` and ``predicted_share`` ask for: a tenth of the scans would otherwise have a tenth of the steps.
    """
    settings, keys = config.data, scans.data.keys()
    known = [key for key in keys if key in scans.chosen]
    wider = any(OBJECTIVES.get(entry.kind).learns_unlabelled(entry) for entry in config.objectives)
    if wider and not needs_labels(config):
        return keys
    if settings.unlabelled and not wider:
        raise ConfigError(
            f"data.unlabelled names {', '.join(settings.unlabelled)}, but no objective learns from scans without "
            "labels; set unlabelled: true for multi_to_single, or leave it out."
        )
    drawn = keys if wider else known
    predicted = [key for key in known if any(fnmatchcase(key[0], name) for name in settings.predicted)]
    sure = [key for key in known if key not in set(predicted)]
    often = sure * _repeats(settings.labelled_share, len(sure), len(drawn) - len(sure))
    return drawn + often + predicted * _repeats(settings.predicted_share, len(predicted), len(drawn) - len(predicted))


def _repeats(share: float, own: int, others: int) -> int:
    """How often more than once each of ``own`` scans is drawn, so that they are ``share`` of all."""
    times = math.ceil(share / (1.0 - share) * others / max(own, 1) - 1e-9)
    return max(times - 1, 0)


def open_fuser(config: TrainingConfig, scans: TrainingScans, fix_command: str) -> Fuser:
    """What fuses the training clouds; DataError names what is missing and the command that builds it."""
    return Fuser.open(scans.cache, scans.labelled_data, scans.classes, config.fusion, fix_command, scans.limited)


def cache_folder(root: str, cache: str | None = None) -> Path:
    """Where ``kd-seg prepare`` keeps libraries and teacher caches: ``data.cache``, else a folder of the data root."""
    return Path(cache) if cache is not None else Path(root) / "kd_seg_cache"
