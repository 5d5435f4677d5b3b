"""Projection heads; they train with the student and are left behind."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kd_seg.core.errors import ConfigError


class NormalisedHead(nn.Module):
    """``ReLU(BN(W x))`` without bias (PointMCD); a single row is normalised by the running statistics."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out, bias=False)
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [n, width_in] to [n, width_out]."""
        rows = self.linear(rows)
        if len(rows) > 1 or not self.training:
            return F.relu(self.norm(rows))
        norm = self.norm
        return F.relu(
            F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
        )


def build_head(kind: str, width_in: int, width_out: int) -> nn.Module:
    """A head by kind; ConfigError where "none" is asked for and widths differ."""
    if kind == "linear":
        return nn.Linear(width_in, width_out)
    if kind == "linear_bn_relu":
        return NormalisedHead(width_in, width_out)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width_in, width_in), nn.ReLU(), nn.Linear(width_in, width_out))
    if width_in != width_out:
        raise ConfigError(f"head.kind none needs equal widths, the student has {width_in} and the target {width_out}.")
    return nn.Identity()
