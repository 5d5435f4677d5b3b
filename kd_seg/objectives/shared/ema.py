"""Moving averages of a network that is being trained, and the network inside its distributed wrapper."""

from __future__ import annotations

import torch
from torch import nn


def bare(network: nn.Module) -> nn.Module:
    """The network inside a distributed wrapper, or the network itself."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def warmed_momentum(momentum: float, step: int) -> float:
    """``min(momentum, 1 - 1 / (step + 1))``: close at first (Tarvainen and Valpola, NIPS 2017)."""
    return min(momentum, 1.0 - 1.0 / (step + 1))


@torch.no_grad()
def follow_parameters(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """``theta <- m theta + (1 - m) theta_network`` over the parameters; buffers (batch-norm statistics) stay.

    For an average that sees other inputs than the network, and so keeps statistics of its own.
    """
    for own, other in zip(average.parameters(), bare(network).parameters(), strict=True):
        own.lerp_(other, 1.0 - momentum)


@torch.no_grad()
def follow_state(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """The same over parameters and floating-point buffers; counters are copied.

    For an average that sees the same kind of input as the network.
    """
    source = bare(network).state_dict()
    for name, own in average.state_dict().items():
        if own.dtype.is_floating_point:
            own.lerp_(source[name], 1.0 - momentum)
        else:
            own.copy_(source[name])
