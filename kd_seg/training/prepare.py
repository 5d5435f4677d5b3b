"""What a configuration needs on disk before it trains: the instance library, registrations, teacher caches."""

from __future__ import annotations

from dataclasses import replace

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.device import choose_device
from kd_seg.instances.fusion import prepare_fusion
from kd_seg.objectives import OBJECTIVES, Objective
from kd_seg.training.config import TrainingConfig
from kd_seg.training.setup import cache_folder, labelled_data, needs_fusion, training_data


def prepare(config: TrainingConfig, work: Work) -> list[str]:
    """Build all of it; what is there already and fits is left alone. Returns what was built or found, for a person."""
    data = training_data(config.data)
    classes = load_classes(config.data.classes)
    cache = cache_folder(config.data.root, config.data.cache)
    done = []
    if needs_fusion(config):
        whole = prepare_fusion(cache, labelled_data(config.data), classes, config.fusion, work)
        done.append("instance library and registrations" if whole else "this part of the instance library")
    for entry in config.objectives:
        objective = OBJECTIVES.get(entry.kind)
        if objective.prepare is not Objective.prepare:
            there = replace(work, device=str(choose_device(config.run.device)))
            objective.prepare(entry, data, classes, cache, there)
            done.append(entry.kind)
    return done
