"""From a training configuration to the parts that a Trainer works with: data, network, objectives, pipeline, device."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import ConfigError, DataError, MissingDependencyError
from kd_seg.instances.fusion import Fuser
from kd_seg.instances.paste import Paster
from kd_seg.networks import build_network
from kd_seg.objectives import OBJECTIVES, Context, Objective
from kd_seg.scans import Key, SemanticKitti
from kd_seg.training.config import DataSettings, TrainingConfig
from kd_seg.training.loader import Pipeline, choose_labelled
from kd_seg.training.mixing import build_mixer
from kd_seg.voxels import feature_width


@dataclass(frozen=True)
class Parts:
    """What ``assemble`` made."""

    device: torch.device
    keys: tuple[Key, ...]
    student: nn.Module
    objectives: list[Objective]
    pipeline: Pipeline


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


def _sequences(settings: DataSettings, names: list[str]) -> SemanticKitti:
    data = SemanticKitti(settings.root, names)
    if len(data) == 0:
        raise DataError(f"{settings.root} has no scans in sequences {', '.join(names) or 'at all'}; check data.train.")
    return data


def assemble(config: TrainingConfig, rank: int) -> Parts:
    """Build everything that a training configuration names; errors name the key or file at fault."""
    device = choose_device(config.run.device, rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # spconv launches its kernels on the current device, not where its data lie
    data = training_data(config.data)
    classes = load_classes(config.data.classes)
    encoding = config.encoding()
    student = build_network(
        config.student.network, config.student.size, feature_width(encoding.features), len(classes)
    ).to(device)
    labelled = labelled_data(config.data)
    chosen = choose_labelled(labelled.keys(), config.data.labels, config.run.seed)
    few = chosen if len(chosen) < len(data) else None
    context = Context(
        classes=classes,
        encoding=encoding,
        student=student,
        data=data,
        labelled_data=labelled,
        device=device,
        cache=cache_folder(config.data.root, config.data.cache),
        config=config,
        labelled=few,
    )
    objectives = [OBJECTIVES.get(s.kind)(s, context).to(device) for s in config.objectives]
    opened = chosen if any(objective.needs_labels for objective in objectives) else None
    keys = _learnt_from(config.data, data.keys(), chosen, objectives)
    fused_input = config.student.input != "own"
    twin = fused_input or any(view.name == "fused" for objective in objectives for view in objective.views())
    paste = config.augment.paste
    fuser = open_fuser(config, labelled, classes, few) if fused_input or paste is not None else None
    pipeline = Pipeline(
        data=data,
        keys=tuple(keys),
        classes=classes,
        encoding=encoding,
        settings=config.augment,
        views=(),
        labelled=opened,
        fuse=fuser.fuse if fuser is not None and fused_input else None,
        paste=Paster.build(fuser, classes, paste, twin) if fuser is not None and paste is not None else None,
        mix=build_mixer(config.augment.mix, classes) if config.augment.mix is not None else None,
        fused_share=0.5 if config.student.input == "mixed" else 1.0,
    )
    return Parts(device, tuple(keys), student, objectives, pipeline)


def _learnt_from(
    settings: DataSettings, keys: list[Key], labelled: frozenset[Key], objectives: list[Objective]
) -> list[Key]:
    """The scans that training draws from: all, or the labelled ones where no objective learns from others.

    Where both kinds are, labelled ones stand in the list as often as ``labelled_share`` asks for: a tenth of the scans
    would otherwise have a tenth of the steps.
    """
    known = [key for key in keys if key in labelled]
    if any(objective.learns_unlabelled for objective in objectives):
        if not any(objective.needs_labels for objective in objectives):
            return keys
        others = len(keys) - len(known)
        times = math.ceil(settings.labelled_share / (1.0 - settings.labelled_share) * others / len(known) - 1e-9)
        return keys + known * max(times - 1, 0)
    if settings.unlabelled:
        raise ConfigError(
            f"data.unlabelled names {', '.join(settings.unlabelled)}, but no objective learns from scans without "
            "labels; set unlabelled: true for multi_to_single, or leave it out."
        )
    return known


def open_fuser(
    config: TrainingConfig, data: SemanticKitti, classes: ClassTable, allowed: frozenset[Key] | None
) -> Fuser:
    """What fuses the training clouds; DataError names what is missing and the command that builds it."""
    fusion = config.fusion
    cache = cache_folder(config.data.root, config.data.cache)
    fix_command = "kd-seg prepare CONFIG, with the config of this run"
    return Fuser.open(cache, data, classes, fusion, fix_command, allowed)


def cache_folder(root: str, cache: str | None = None) -> Path:
    """Where ``kd-seg prepare`` keeps libraries and teacher caches: ``data.cache``, else a folder of the data root."""
    return Path(cache) if cache is not None else Path(root) / "kd_seg_cache"


def choose_device(name: str, rank: int = 0) -> torch.device:
    """CPU or CUDA by name; "auto" is CUDA where it works; each of torchrun's processes gets a CUDA device of its own.

    Raises MissingDependencyError if CUDA was asked for and is not there, or has fewer devices than processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError("device cuda requested, no CUDA device found; set run.device=cpu or auto.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > count:
        raise MissingDependencyError(
            f"{processes} processes were started beside {count} CUDA devices, and each needs its own; start at most "
            f"{count}, or set run.device=cpu."
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)) % count)
