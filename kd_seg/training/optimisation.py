"""Optimiser and learning-rate schedule from their settings."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from kd_seg.training.config import OptimSettings


def build_optimiser(modules: Iterable[nn.Module], settings: OptimSettings) -> torch.optim.Optimizer:
    """AdamW or SGD over all trainable parameters; norms and biases are not decayed."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if settings.optimiser == "adamw":
        on_cpu = all(parameter.device.type == "cpu" for parameter in (*decayed, *plain))
        # On the CPU torch would take ten calls for each parameter by default, a twentieth of a small network's step.
        return torch.optim.AdamW(groups, lr=settings.lr, fused=True if on_cpu else None)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


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
