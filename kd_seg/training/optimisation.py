"""Optimiser and learning-rate schedule from their settings."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from kd_seg.training.config import OptimSettings


def build_optimiser(
    student: nn.Module, settings: OptimSettings, objectives: Iterable[nn.Module] = ()
) -> torch.optim.Optimizer:
    """AdamW or SGD over all trainable parameters of the student and of what its objectives bring; norms and biases are
    not decayed. The groups' ``share`` of the learning rate is ``backbone_lr`` for the student's layers before its head.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for module in (student, *objectives):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                share = settings.backbone_lr if module is student and not name.startswith("head.") else 1.0
                groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    ordered = [
        {"params": groups[share, decays], "lr": share * settings.lr, "share": share}
        | {"weight_decay": settings.weight_decay if decays else 0.0}
        for share, decays in sorted(groups, reverse=True)
    ]
    if settings.optimiser == "adamw":
        on_cpu = all(parameter.device.type == "cpu" for group in groups.values() for parameter in group)
        # On the CPU torch would take ten calls for each parameter by default, a twentieth of a small network's step.
        return torch.optim.AdamW(ordered, lr=settings.lr, fused=True if on_cpu else None)
    return torch.optim.SGD(ordered, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


def rate(progress: float, settings: OptimSettings) -> float:
    """Learning rate at ``progress`` in [0, 1] of the run.

    one_cycle: a cosine rise from 4 % over the warm-up, then a cosine fall to ``final_lr``; cosine: a linear rise, then
    the same fall; constant: a linear rise, then level.
    """
    if progress < settings.warmup:
        rise = progress / settings.warmup
        if settings.schedule == "one_cycle":
            return settings.lr * (0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * rise)))
        return settings.lr * max(rise, 1e-3)
    if settings.schedule == "constant":
        return settings.lr
    fall = min((progress - settings.warmup) / (1.0 - settings.warmup), 1.0)
    return settings.lr * (settings.final_lr + (1.0 - settings.final_lr) * 0.5 * (1.0 + math.cos(math.pi * fall)))
