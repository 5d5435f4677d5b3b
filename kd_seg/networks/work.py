"""How much a network computes on one input: multiply-adds, the figure beside which a latency means something."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kd_seg.networks.batch import Batch
from kd_seg.sparse import Down, Submanifold, Up


def multiply_adds(network: nn.Module, batch: Batch) -> int:
    """Multiply-adds of the convolutions and linear layers of one forward pass of a network on the CPU.

    A sparse convolution does (pairs of input and output voxels) * (channels in) * (channels out), so the figure depends
    on the scan. Norms, activations and pooling, which are linear in the rows, are not counted.
    """
    total = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += (inputs[0].numel() // module.in_features) * module.weight.numel()
        else:
            inner: Any = module.convolution
            total += _pairs(inner, inputs[0]) * inner.in_channels * inner.out_channels

    counted = [m for m in network.modules() if isinstance(m, (Down, Submanifold, Up, nn.Linear))]
    hooks = [module.register_forward_hook(add) for module in counted]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(batch)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total


def _pairs(convolution: Any, x: Any) -> int:
    """Voxel pairs in the kernel map that a convolution used."""
    data = x.indice_dict.get(convolution.indice_key)
    if data is None:  # no voxels, no map
        return 0
    counted = int(data.indice_pair_num.sum())
    # Of a submanifold map only half of the cells are counted: the others mirror it, the centre is every voxel itself.
    return 2 * counted + len(x.indices) if convolution.subm else counted
