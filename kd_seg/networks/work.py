"""How much a network computes on one input: multiply-adds, the figure beside which a latency means something."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kd_seg.networks.batch import Batch
from kd_seg.sparse import Down, Submanifold, Up, using


def multiply_adds(network: nn.Module, batch: Batch) -> int:
    """Multiply-adds of the convolutions and linear layers of one forward pass of a network on the CPU.

    A sparse convolution does (pairs of input and output voxels) * (channels in) * (channels out), so the figure depends
    on the scan. Norms, activations and pooling, which are linear in the rows, are not counted.
    """
    total = 0

    def add(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += (inputs[0].numel() // module.in_features) * module.weight.numel()
        else:
            weight = module.convolution.weight
            total += module.pairs(*inputs) * weight.shape[0] * weight.shape[-1]

    counted = [m for m in network.modules() if isinstance(m, (Down, Submanifold, Up, nn.Linear))]
    hooks = [module.register_forward_hook(add) for module in counted]
    training = network.training
    try:
        with torch.enable_grad(), using("numba"):
            network.eval()(batch)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total
