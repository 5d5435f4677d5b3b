"""Networks by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from kd_seg.core.registry import Registry

NETWORKS: Registry[Any] = Registry("network", "kd_seg.networks")
"""Network by name: ``build(size, features, classes) -> nn.Module`` with ``channels: dict[level, width]``."""


def build_network(name: str, size: str, features: int, classes: int) -> nn.Module:
    """The network ``name`` of a size, for ``features`` point features and ``classes`` logits."""
    network: nn.Module = NETWORKS.get(name)(size=size, features=features, classes=classes)
    return network
