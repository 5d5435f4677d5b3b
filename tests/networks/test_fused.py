"""Networks run fused for inference on the CPU and give what their layers give."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny_data import tiny_cloud
from torch import nn

from kd_seg.networks import Batch, Encoding, Output, build_network, collate, encode
from kd_seg.sparse import using
from kd_seg.sparse.fused import reusing_buffers
from kd_seg.voxels import CartesianGrid, CylindricalGrid

CUBES = Encoding(CartesianGrid((0.4, 0.4, 0.4)), ("xyz", "remission"))
TURN = Encoding(CylindricalGrid((48, 64, 16), (0.0, -np.pi, -3.0), (30.0, np.pi, 3.0)), ("xyz", "remission"))
SECTOR = Encoding(CylindricalGrid((48, 64, 16), (0.0, -1.5, -3.0), (30.0, 1.5, 3.0)), ("xyz", "remission"))
NETWORKS = {
    "nano": ("unet", "nano", CUBES),
    "small": ("unet", "small", CUBES),
    "base": ("unet", "base", CUBES),
    "around a turn": ("cylinder", "nano", TURN),
    "in a sector": ("cylinder", "small", SECTOR),
}


def batch_of(encoding: Encoding, seed: int, clouds: int = 2) -> Batch:
    rng = np.random.default_rng(seed)
    return collate([encode(tiny_cloud(rng)[0], None, encoding) for _ in range(clouds)], encoding.grid)


def settled(name: str) -> tuple[nn.Module, Encoding]:
    """A network whose batch norms have seen data and whose weights are not at their start."""
    network, size, encoding = NETWORKS[name]
    torch.manual_seed(0)
    made = build_network(network, size, 4, 7)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
        for seed in range(4):
            made.train()(batch_of(encoding, seed))
    return made.eval(), encoding


def layer_by_layer(network: nn.Module, batch: Batch) -> Output:
    with torch.enable_grad():
        output: Output = network(batch)
    return output


def assert_same(found: Output, expected: Output, tolerance: float) -> None:
    assert found.levels.keys() == expected.levels.keys()
    pairs = [(found.logits, expected.logits)]
    for name, level in expected.levels.items():
        assert torch.equal(found.levels[name].coordinates, level.coordinates), name
        assert found.levels[name].stride == level.stride
        pairs.append((found.levels[name].features, level.features))
    for mine, theirs in pairs:
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < tolerance


@pytest.mark.parametrize("name", NETWORKS)
def test_fused_is_layer_by_layer_at_every_level(name: str) -> None:
    network, encoding = settled(name)
    for clouds in (1, 2):
        batch = batch_of(encoding, 9, clouds)
        expected = layer_by_layer(network, batch)
        with torch.no_grad():
            assert_same(network(batch), expected, 1e-5)


@pytest.mark.parametrize("name", ["nano", "around a turn", "in a sector"])
def test_whole_students_are_those_of_spconv(name: str) -> None:
    network, encoding = settled(name)
    batch = batch_of(encoding, 9)
    with torch.no_grad():
        found = network(batch).logits
        with using("spconv"):
            expected = network(batch).logits
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_a_changed_weight_is_noticed() -> None:
    network, encoding = settled("nano")
    batch = batch_of(encoding, 9)
    with torch.no_grad():
        before = network(batch).logits
        network.head.bias += 1.0  # type: ignore[operator, union-attr]
        torch.testing.assert_close(network(batch).logits, before + 1.0)
        other = build_network("unet", "nano", 4, 7)
        network.load_state_dict(other.state_dict())
        assert_same(network(batch), layer_by_layer(network, batch), 1e-5)
        assert_same(copy.deepcopy(network)(batch), layer_by_layer(network, batch), 1e-5)


def test_levels_outlive_the_next_forward_pass_unless_buffers_are_reused() -> None:
    network, encoding = settled("nano")
    first, second = batch_of(encoding, 1), batch_of(encoding, 2)
    with torch.no_grad():
        output = network(first)
        kept = {name: level.features.clone() for name, level in output.levels.items()}
        network(second)
        assert all(torch.equal(output.levels[name].features, rows) for name, rows in kept.items())
        with reusing_buffers():
            addresses = {network(batch).logits.data_ptr() for batch in (first, second, first)}
    assert len(addresses) == 1, "memory does not grow from scan to scan"


def test_training_and_gradients_run_layer_by_layer() -> None:
    network, encoding = settled("nano")
    batch = batch_of(encoding, 1)
    logits = network(batch).logits
    assert logits.requires_grad
    logits.sum().backward()
    with torch.no_grad(), using("torch"):
        assert_same(network(batch), layer_by_layer(network, batch), 1e-5)


def test_no_voxels_and_one() -> None:
    network, encoding = settled("nano")
    for points in (np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32)):
        batch = collate([encode(points, None, encoding)], encoding.grid)
        with torch.no_grad():
            assert_same(network(batch), layer_by_layer(network, batch), 1e-5) if len(points) else None
            assert network(batch).logits.shape == (len(points), 7)
