"""Batch norm, shortcut and ReLU of one kernel are torch's three modules: values, gradients and running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kd_seg.networks import build_network
from kd_seg.sparse import normalisation, sparse_tensor, using
from kd_seg.sparse.normalisation import norm_relu


def random_norm(width: int, seed: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(width, momentum=0.3)
    torch.manual_seed(seed)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    return norm


def passed(norm: nn.Module, rows: Tensor, added: Tensor | None, slopes: Tensor) -> list[Tensor]:
    """Output, gradients of rows, weight, bias and what is added."""
    rows = rows.clone().requires_grad_()
    leaf = None if added is None else added.clone().requires_grad_()
    norm.zero_grad()
    out = norm_relu(rows * 1.0, norm, leaf)
    (out * slopes).sum().backward()
    found = [out, rows.grad, norm.weight.grad, norm.bias.grad, None if leaf is None else leaf.grad]
    return [tensor.detach().clone() for tensor in found if tensor is not None]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([15, 16, 17, 500, 4096, 4097, 9000]),
    st.sampled_from([1, 7, 16, 24, 33, 64]),
    st.booleans(),
    st.floats(-30, 30),
)
def test_one_kernel_is_three_modules(seed: int, count: int, width: int, adds: bool, centre: float) -> None:
    norm = random_norm(width, seed)
    rows = centre + 2.0 * torch.randn(count, width)
    added = torch.randn(count, width) if adds else None
    slopes = torch.randn(count, width)
    theirs = copy.deepcopy(norm).double()
    with using("numba"):
        found = passed(norm, rows, added, slopes)
    # A value that rounding moves over the ReLU's edge has another gradient; the oracle then sees the same side.
    exact = theirs(rows.double()) + (0 if added is None else added.double())
    slopes = slopes * ((exact > 0) == (found[0] > 0))
    with using("numba"):
        found = passed(copy.deepcopy(norm), rows, added, slopes)
    theirs = random_norm(width, seed).double()
    expected = passed(theirs, rows.double(), None if added is None else added.double(), slopes.double())
    assert len(found) == len(expected) == 4 + adds
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        scale = float(other.abs().max().clamp_min(0.1))
        assert float((mine - other).abs().max()) < 1e-5 * scale * (1 + abs(centre))
    torch.testing.assert_close(norm.running_mean, theirs.running_mean.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var, theirs.running_var.float(), rtol=1e-4, atol=1e-5)
    assert norm.num_batches_tracked == theirs.num_batches_tracked == 1


def test_values_are_those_of_torch_to_a_millionth() -> None:
    torch.manual_seed(0)
    rows, added = torch.randn(20_000, 16), torch.randn(20_000, 16)
    norm = random_norm(16, 0)
    with using("numba"):
        found = norm_relu(rows, norm, added)
        expected = norm_relu(rows.double(), random_norm(16, 0).double(), added.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("adds", [True, False])
def test_gradients_pass_gradcheck(adds: bool, count: int) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5).double()
    rows = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    added = torch.randn(count, 5, dtype=torch.float64, requires_grad=True) if adds else None

    def once(r: Tensor, w: Tensor, b: Tensor, a: Tensor | None) -> Tensor:
        made: Tensor = normalisation._NormReLU.apply(r, w, b, a, norm)
        return made

    assert torch.autograd.gradcheck(once, (rows, norm.weight, norm.bias, added))


def test_what_is_not_finite_stays_so() -> None:
    rows = torch.randn(50, 4)
    rows[7, 2] = torch.nan
    with using("numba"):
        assert torch.isnan(norm_relu(rows, random_norm(4, 0))[:, 2]).all()


def test_running_statistics_serve_in_eval_mode_and_a_single_row_passes() -> None:
    norm = random_norm(3, 1)
    before = copy.deepcopy(norm.state_dict())
    row = torch.tensor([[1.0, -2.0, 3.0]])
    with using("numba"):
        assert torch.equal(norm_relu(row.clone(), norm), torch.tensor([[1.0, 0.0, 3.0]]))
        assert torch.equal(norm_relu(row.clone(), norm.eval()), torch.relu(norm(row)))
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


def test_a_fused_network_is_made_again_after_a_step_in_training_mode() -> None:
    torch.manual_seed(0)
    network = build_network("unet", "nano", 3, 5)
    coordinates = torch.tensor([[0, x, y, 0] for x in range(6) for y in range(6)], dtype=torch.int32)
    block = network.stem[0]
    x = sparse_tensor(torch.randn(36, 3), coordinates, (16, 16, 16), 1)
    versions = [tensor._version for tensor in block.norm.buffers()]
    with using("numba"), torch.no_grad():
        block.train()(x)
    assert [tensor._version for tensor in block.norm.buffers()] != versions
