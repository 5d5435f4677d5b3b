"""Several processes that train one student: who they are, and what they share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import nn

from kd_seg.objectives import Objective

PATIENCE = timedelta(hours=2)
"""How long processes wait for one of them, which may be scoring a checkpoint on scans held back."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: number ``rank`` of ``world``."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: str) -> Processes:
        """As torchrun set them; joins the process group once, by NCCL unless ``device`` is "cpu"."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not torch.distributed.is_initialized():
            backend = "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
            torch.distributed.init_process_group(backend, timeout=PATIENCE)
        return cls(torch.distributed.get_rank(), world)

    @property
    def first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def wrapped(self, student: nn.Module, objectives: Iterable[Objective], device: torch.device) -> nn.Module:
        """The student as it is called in training; heads and buffers of objectives start as those of the first."""
        if self.world == 1:
            return student
        for module in objectives:
            for tensor in [*module.parameters(), *module.buffers()]:
                torch.distributed.broadcast(tensor.data, 0)
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(student, device_ids=ids, find_unused_parameters=True)

    def average_gradients(self, objectives: Iterable[Objective]) -> None:
        """Average the gradients of objectives' heads (DistributedDataParallel covers the student alone)."""
        if self.world == 1:
            return
        for objective in objectives:
            for parameter in objective.parameters():
                if parameter.requires_grad:
                    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                    torch.distributed.all_reduce(gradient)
                    parameter.grad = gradient / self.world

    def clock_of_first(self, seconds: float, device: torch.device) -> float:
        """The first process's seconds: where the clock decides, learning rate and end must be the same for all."""
        if self.world == 1:
            return seconds
        clock = torch.tensor(seconds, dtype=torch.float64, device=device)
        torch.distributed.broadcast(clock, 0)
        return float(clock)
