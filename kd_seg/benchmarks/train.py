"""``kd-seg bench train``: one training step of the small U-Net, ours and its peers, from points to updated weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.benchmarks.plain import by, plain_encode, plain_spconv, same
from kd_seg.benchmarks.timing import BenchRow, Rival, compare, wait_for
from kd_seg.losses.supervised import cross_entropy, lovasz_softmax
from kd_seg.networks import Batch, Encoded, Encoding, build_network, collate, encode
from kd_seg.scans import Points
from kd_seg.sparse.choose import choose
from kd_seg.voxels import CartesianGrid, feature_width

FEATURES = ("xyz", "remission", "offset")
CLASSES = 19
Encode = Callable[[Points, npt.NDArray[np.uint8] | None, Encoding], Encoded]


def rows(points: Points, voxel_size: float, repeats: int, size: str = "small", device: str = "cpu") -> list[BenchRow]:
    """Times of one step on one scan: voxelize, vote labels, forward, both losses, backward, AdamW.

    Rivals have the same architecture, weights, losses, optimiser and device; they differ in what computes convolutions,
    and spconv as it is has np.unique for a voxelizer. Their logits are compared first. Labels are made
    from height and range: what a step costs does not depend on what it learns.
    """
    points = np.ascontiguousarray(points[np.isfinite(points).all(axis=1), :4], dtype=np.float32)
    encoding = Encoding(CartesianGrid((voxel_size,) * 3), FEATURES)
    labels = _made_up_labels(points)
    torch.manual_seed(0)
    network = build_network("unet", size, feature_width(FEATURES), CLASSES).to(device)
    expected = _logits(network, points, encode, encoding)

    def check(step: _Step) -> None:
        same(expected, step.first)

    def step(net: nn.Module, path: Encode, backend: str) -> Callable[[], _Step]:
        return by(backend, by(backend, lambda: _Step(net, points, labels, path, encoding))())

    own = choose(torch.device(device))
    rivals = [
        Rival("kd_seg step", step(network, encode, own), check, ours=True),
        Rival("kd_seg 0.1.0: spconv's native algorithm on our maps", step(_twin(network), encode, "spconv"), check),
        Rival("spconv as it is, np.unique", step(plain_spconv(network), plain_encode, "spconv"), check),
        Rival("torch gather-scatter on our maps", step(_twin(network), encode, "torch"), check),
    ]
    if device.startswith("cuda"):
        del rivals[1]  # there it is our step
    return compare(rivals, repeats, wait_for(device))


def _twin(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)


class _Step:
    """A network, its optimiser and its input path; called, it takes one step and returns itself."""

    def __init__(
        self,
        network: nn.Module,
        points: Points,
        labels: npt.NDArray[np.uint8],
        path: Encode,
        encoding: Encoding,
    ) -> None:
        self.network, self.points, self.labels, self.path, self.encoding = network, points, labels, path, encoding
        self.device = next(network.parameters()).device
        self.first = _logits(network, points, path, encoding)
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def __call__(self) -> _Step:
        batch = _batch(self.points, self.labels, self.path, self.encoding).to(self.device)
        logits = self.network(batch).logits
        loss = cross_entropy(logits, batch.labels)[0] + lovasz_softmax(logits, batch.labels)[0]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return self


def _batch(points: Points, labels: npt.NDArray[np.uint8] | None, path: Encode, encoding: Encoding) -> Batch:
    return collate([path(points, labels, encoding)], encoding.grid)


def _logits(network: nn.Module, points: Points, path: Encode, encoding: Encoding) -> Tensor:
    network.eval()
    with torch.no_grad():
        batch = _batch(points, None, path, encoding).to(next(network.parameters()).device)
        logits: Tensor = network(batch).logits
    network.train()
    return logits


def _made_up_labels(points: Points) -> npt.NDArray[np.uint8]:
    ring = np.hypot(points[:, 0], points[:, 1]) // 8.0
    height = np.floor(points[:, 2] + 4.0)
    labels: npt.NDArray[np.uint8] = (1 + (3 * np.abs(height) + ring) % CLASSES).astype(np.uint8)
    return labels
