"""The three kinds of teacher; each predicts a fused batch (docs/multi_to_single.md)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_seg.checkpoint import load_checkpoint, resolve
from kd_seg.core.errors import ConfigError
from kd_seg.networks import Batch, Encoding, Output
from kd_seg.objectives.interface import Context, Step
from kd_seg.objectives.shared.ema import bare, follow_parameters, warmed_momentum
from kd_seg.sparse.fused import reusing_buffers

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class SeparateTeacher:
    """A frozen network from a checkpoint: eval mode, no gradients, no part of any state."""

    def __init__(self, checkpoint: str, context: Context) -> None:
        loaded = load_checkpoint(resolve(Path(checkpoint)))
        if loaded.spec.largest_intensity != 1.0:
            raise ConfigError(
                f"The teacher {loaded.path} takes intensities of 0 to {loaded.spec.largest_intensity:.0f}, the student "
                "0 to 1; the objective point_teacher gives each its own."
            )
        if loaded.spec.encoding.grid != context.encoding.grid:
            raise ConfigError(
                f"The teacher {loaded.path} was trained on another grid than the student's; their voxels must "
                "coincide, so give both the same grid section; the objective point_teacher takes any grid."
            )
        if loaded.spec.classes.names != context.classes.names:
            raise ConfigError(f"The teacher {loaded.path} knows other classes than data.classes; train one with these.")
        self.encoding: Encoding = loaded.spec.encoding
        self.channels: dict[str, int] = dict(loaded.network.channels)  # type: ignore[arg-type]
        self.about: dict[str, Any] = {"network": loaded.spec.network, "size": loaded.spec.size, **loaded.spec.training}
        self.network = loaded.network.requires_grad_(False).to(context.device)

    def output(self, batch: Batch, step: Step) -> Output:
        """Logits and levels on the fused voxels, valid until the next call: losses take the rows that they need."""
        with torch.no_grad(), reusing_buffers():
            result: Output = self.network(batch)
            return result

    def after_step(self, step: Step) -> None:
        """Nothing changes."""


class EmaTeacher(nn.Module):
    """A moving average of the student; its batch-norm statistics come from its own, fused, input."""

    def __init__(self, momentum: float, context: Context) -> None:
        super().__init__()
        self.momentum = momentum
        self.encoding = context.encoding
        self.channels: dict[str, int] = dict(context.student.channels)  # type: ignore[arg-type]
        self.about: dict[str, Any] = {"momentum": momentum}
        self.network = copy.deepcopy(context.student).requires_grad_(False)

    def output(self, batch: Batch, step: Step) -> Output:
        """Logits and levels on the fused voxels."""
        self.network.train()
        with torch.no_grad():
            output: Output = self.network(batch)
        return output

    def after_step(self, step: Step) -> None:
        """``theta_T <- m theta_T + (1 - m) theta_S`` with ``m = min(momentum, 1 - 1 / (step + 1))``; no buffers."""
        follow_parameters(self.network, step.student, warmed_momentum(self.momentum, step.number))


class SharedTeacher(nn.Module):
    """The student's own second pass, with gradients; by default with batch-norm statistics of its own.

    Without them the statistics of both inputs mix in one running mean, which the served student then carries.
    """

    def __init__(self, separate_norm: bool, context: Context) -> None:
        super().__init__()
        self.encoding = context.encoding
        self.channels: dict[str, int] = dict(context.student.channels)  # type: ignore[arg-type]
        self.about: dict[str, Any] = {"separate_norm": separate_norm}
        self.separate_norm = separate_norm
        for number, norm in enumerate(_norms(context.student) if separate_norm else ()):
            for name in STATISTICS:
                self.register_buffer(f"n{number}_{name}", getattr(norm, name).clone())

    def output(self, batch: Batch, step: Step) -> Output:
        """Logits and levels on the fused voxels, of the network in train mode."""
        network = bare(step.student)
        with self._own_statistics(network) if self.separate_norm else contextlib.nullcontext():
            output: Output = network(batch)
        return output

    @contextlib.contextmanager
    def _own_statistics(self, network: nn.Module) -> Iterator[None]:
        """While it lasts, the network's norms keep this teacher's statistics."""
        self._exchange(network)
        try:
            yield
        finally:
            self._exchange(network)

    def _exchange(self, network: nn.Module) -> None:
        """Swap the tensors themselves: copying into them would spoil what autograd kept of the student's pass."""
        for number, norm in enumerate(_norms(network)):
            for name in STATISTICS:
                own = f"n{number}_{name}"
                norm._buffers[name], self._buffers[own] = self._buffers[own], norm._buffers[name]

    def after_step(self, step: Step) -> None:
        """Nothing to do: the weights are the student's."""


Teacher = SeparateTeacher | EmaTeacher | SharedTeacher


def _norms(network: nn.Module) -> list[nn.BatchNorm1d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
