"""Every backend against a dense convolution and against torch's gather-scatter in float64; one state_dict for all."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_voxels import at, conv3d_weight, dense, random_voxels
from torch import Tensor, nn
from torch.nn import functional as F

from kd_seg.core.errors import MissingDependencyError, UsageError
from kd_seg.networks import build_network
from kd_seg.sparse import Down, SparseTensor, Submanifold, Up, choose, sparse_tensor, using

Triple = tuple[int, int, int]
KERNELS: list[Triple] = [(3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 1, 1), (1, 1, 1), (5, 1, 3)]
STRIDED: list[tuple[Triple, Triple]] = [
    ((2, 2, 2), (2, 2, 2)),
    ((3, 3, 3), (2, 2, 2)),
    ((3, 3, 3), (2, 2, 1)),
    ((3, 3, 3), (3, 3, 3)),
]
WIDTHS = [(1, 1), (4, 16), (7, 24), (16, 16), (24, 40), (33, 48), (48, 64), (40, 100)]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to ``tolerance`` of the largest value."""
    assert found.shape == expected.shape
    if expected.numel():
        error = float(
            (found.detach().double() - expected.detach().double()).abs().max() / expected.abs().max().clamp_min(1e-6)
        )
        assert error < tolerance, error


@pytest.mark.parametrize("backend", ["numba", "torch", "spconv"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_submanifold_is_a_dense_convolution_at_the_voxels(backend: str, kernel: Triple) -> None:
    torch.manual_seed(0)
    shape = (9, 14, 11)
    coordinates = random_voxels(1, 1200, shape)
    features = torch.randn(len(coordinates), 12)
    layer = Submanifold(12, 20, kernel, "level")
    with using(backend), torch.no_grad():
        found = layer(sparse_tensor(features, coordinates, shape, 2)).features
    grid = dense(features.double(), coordinates, shape, 2)
    weight = conv3d_weight(layer.convolution.weight.double())
    expected = at(F.conv3d(grid, weight, padding=[side // 2 for side in kernel]), coordinates)
    close(found, expected)


@pytest.mark.parametrize("backend", ["numba", "torch", "spconv"])
@pytest.mark.parametrize(("kernel", "stride"), STRIDED)
@pytest.mark.parametrize("shape", [(8, 12, 6), (9, 13, 7)])
def test_strided_and_inverse_are_dense_convolutions(
    backend: str, kernel: Triple, stride: Triple, shape: Triple
) -> None:
    torch.manual_seed(0)
    coordinates = random_voxels(2, 300, shape)
    features = torch.randn(len(coordinates), 5)
    down, up = Down(5, 18, kernel, stride, "d"), Up(18, 6, kernel, "d")
    with using(backend), torch.no_grad():
        coarse = down(sparse_tensor(features, coordinates, shape, 2))
        fine = up(coarse)
    padding = 1 if kernel == (3, 3, 3) else 0
    grid = dense(features.double(), coordinates, shape, 2)
    made = F.conv3d(grid, conv3d_weight(down.convolution.weight.double()), stride=stride, padding=padding)
    assert coarse.spatial_shape == tuple(made.shape[2:])
    close(coarse.features, at(made, coarse.indices))
    ones = dense(torch.ones(len(coordinates), 1), coordinates, shape, 2)
    reached = F.conv3d(ones, torch.ones(1, 1, *kernel), stride=stride, padding=padding)
    assert len(coarse.indices) == int((reached > 0).sum())
    coarse_grid = dense(coarse.features.double(), coarse.indices, coarse.spatial_shape, 2)
    back = up.convolution.weight.double().permute(4, 0, 1, 2, 3)
    undone = F.pad(F.conv_transpose3d(coarse_grid, back, stride=stride), [0, 2, 0, 2, 0, 2])
    undone = undone[:, :, padding:, padding:, padding:]
    assert torch.equal(fine.indices, coordinates)
    close(fine.features, at(undone, coordinates))


def gradients(layers: nn.ModuleList, start: Tensor, coordinates: Tensor, shape: Triple, wraps: bool) -> list[Tensor]:
    features = start.clone().requires_grad_()
    layers.zero_grad()
    x: SparseTensor = sparse_tensor(features, coordinates, shape, 2)
    for layer in layers:
        x = layer(x, (False, wraps, False))
    goal = torch.linspace(-1, 1, x.features.numel(), dtype=start.dtype).reshape(x.features.shape)
    (x.features * goal).sum().backward()
    found = [x.features.detach(), features.grad, *(p.grad for p in layers.parameters())]
    return [tensor.clone() for tensor in found if tensor is not None]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6),
    st.integers(0, 900),
    st.sampled_from(WIDTHS),
    st.sampled_from(KERNELS[:4]),
    st.sampled_from(STRIDED),
    st.booleans(),
    st.sampled_from([(8, 12, 6), (7, 9, 5), (3, 40, 70)]),
)
def test_forward_and_gradients_are_those_of_the_oracle(
    seed: int,
    count: int,
    widths: tuple[int, int],
    kernel: Triple,
    strided: tuple[Triple, Triple],
    wraps: bool,
    shape: Triple,
) -> None:
    torch.manual_seed(seed)
    width_in, width = widths
    layers = nn.ModuleList(
        [
            Submanifold(width_in, width, kernel, "a"),
            Down(width, width_in, *strided, "d"),
            Submanifold(width_in, width, (3, 3, 3), "b"),
            Up(width, 3, strided[0], "d"),
        ]
    )
    coordinates = random_voxels(seed, count, shape)
    start = torch.randn(len(coordinates), width_in)
    found = gradients(layers, start, coordinates, shape, wraps)
    expected = gradients(layers.double(), start.double(), coordinates, shape, wraps)
    assert len(found) == len(expected) == 6
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        close(mine, theirs, 2e-5)


def test_the_oracle_passes_gradcheck() -> None:
    torch.manual_seed(0)
    coordinates = random_voxels(3, 25, (4, 5, 3))
    layers = nn.ModuleList(
        [Submanifold(2, 3, (3, 3, 3), "a"), Down(3, 2, (3, 3, 3), (2, 2, 1), "d"), Up(2, 2, (3, 3, 3), "d")]
    ).double()

    def run(features: Tensor, *weights: Tensor) -> Tensor:
        x: SparseTensor = sparse_tensor(features, coordinates, (4, 5, 3), 2)
        for layer, weight in zip(layers, weights, strict=True):
            x = torch.func.functional_call(layer, {"convolution.weight": weight}, (x,))
        return x.features

    start = torch.randn(len(coordinates), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (start, *(p.detach().requires_grad_() for p in layers.parameters())))


@pytest.mark.parametrize("backend", ["numba", "torch", "spconv"])
def test_no_voxels_and_one(backend: str) -> None:
    for count in (0, 1):
        coordinates = random_voxels(0, count, (4, 4, 4), 1)
        features = torch.randn(count, 3, requires_grad=True)
        first, down, up = (
            Submanifold(3, 5, (3, 3, 3), "a"),
            Down(5, 4, (2, 2, 2), (2, 2, 2), "d"),
            Up(4, 2, (2,) * 3, "d"),
        )
        with using(backend):
            out = up(down(first(sparse_tensor(features, coordinates, (4, 4, 4), 1))))
        assert out.features.shape == (count, 2)
        out.features.sum().backward()
        assert first.convolution.weight.grad is not None
        if count:
            expected = features @ first.convolution.weight[:, 1, 1, 1].T
            with using(backend):
                close(first(sparse_tensor(features, coordinates, (4, 4, 4), 1)).features, expected)


def test_a_million_voxels() -> None:
    """2^20 voxels, all cells of a grid: the sum over 27 neighbours, fewer at the border."""
    shape = (64, 128, 128)
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) for side in (1, *shape)], indexing="ij"), dim=-1)
    coordinates = grid.reshape(-1, 4).int()
    layer = Submanifold(1, 1, (3, 3, 3), "a")
    nn.init.ones_(layer.convolution.weight)
    with torch.no_grad():
        found = layer(sparse_tensor(torch.ones(len(coordinates), 1), coordinates, shape, 1)).features.reshape(shape)
    sides = [torch.full((side,), 3.0).index_fill(0, torch.tensor([0, side - 1]), 2.0) for side in shape]
    assert len(coordinates) == 2**20
    assert torch.equal(found, sides[0][:, None, None] * sides[1][:, None] * sides[2])


def test_results_do_not_depend_on_threads() -> None:
    torch.manual_seed(0)
    shape = (40, 60, 20)
    coordinates = random_voxels(4, 20_000, shape)
    layers = nn.ModuleList([Submanifold(16, 32, (3, 3, 3), "a"), Submanifold(32, 24, (3, 3, 3), "a")])
    start = torch.randn(len(coordinates), 16)
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(gradients(layers, start, coordinates, shape, False))
    finally:
        torch.set_num_threads(before)
    for other in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answers[0], other, strict=True))


def test_state_is_in_spconvs_layout_for_every_backend() -> None:
    state = build_network("unet", "nano", 4, 19).state_dict()
    assert state["stem.0.convolution.convolution.weight"].shape == (16, 3, 3, 3, 4)
    assert state["encoders.0.down.convolution.weight"].shape == (24, 2, 2, 2, 16)
    with using("torch"):
        assert build_network("unet", "nano", 4, 19).state_dict().keys() == state.keys()


def test_the_backend_follows_the_device_and_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_SEG_BACKEND", raising=False)
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    assert choose.explain(cpu) == ("numba", "the device is the CPU")
    assert choose.choose(cpu, torch.float64) == "torch"
    assert choose.choose(cuda) == "spconv"
    monkeypatch.setattr(choose, "has_spconv", lambda: False)
    assert choose.explain(cuda) == ("torch", "spconv is not installed")
    monkeypatch.setenv("KD_SEG_BACKEND", "torch")
    assert choose.explain(cpu) == ("torch", "KD_SEG_BACKEND asks for it")
    with using("numba"):
        assert choose.choose(cpu) == "numba"
        with pytest.raises(UsageError, match="KD_SEG_BACKEND=numba computes on the CPU, the device is cuda:0"):
            choose.choose(cuda)
    monkeypatch.setenv("KD_SEG_BACKEND", "spconv")
    with pytest.raises(MissingDependencyError, match="spconv is not installed"):
        choose.choose(cpu)
    monkeypatch.setenv("KD_SEG_BACKEND", "cudnn")
    with pytest.raises(UsageError, match="KD_SEG_BACKEND is 'cudnn'; use spconv, numba, torch, or unset it"):
        choose.choose(cpu)


@pytest.mark.parametrize("backend", ["numba", "torch", "spconv"])
def test_up_without_its_down_is_refused(backend: str) -> None:
    coordinates = random_voxels(0, 5, (4, 4, 4), 1)
    with using(backend), pytest.raises(UsageError, match="key 'd', but no Down with that key"):
        Up(2, 2, (2, 2, 2), "d")(sparse_tensor(torch.zeros(5, 2), coordinates, (4, 4, 4), 1))


def test_denormal_numbers_cost_nothing_and_the_thread_keeps_its_mode() -> None:
    coordinates = random_voxels(0, 40, (4, 4, 4), 1)
    tiny = torch.full((40, 4), 1e-41)
    layer = Submanifold(4, 4, (3, 3, 3), "a")
    nn.init.ones_(layer.convolution.weight)
    with torch.no_grad():
        found = layer(sparse_tensor(tiny, coordinates, (4, 4, 4), 1)).features
    assert torch.equal(found, torch.zeros(40, 4))
    assert float(np.float32(1e-41) * np.float32(2.0)) > 0, "outside the kernels denormals stay numbers"


@pytest.mark.parametrize("backend", ["numba", "torch", "spconv"])
def test_maps_are_free_with_the_last_tensor(backend: str) -> None:
    """Sites of several levels hold each other in one direction only, so nothing waits for the garbage collector."""
    coordinates = random_voxels(0, 300, (8, 8, 8), 1)
    down, up = Down(2, 3, (2, 2, 2), (2, 2, 2), "d"), Up(3, 2, (2, 2, 2), "d")
    gc.collect()
    gc.disable()
    try:
        with using(backend), torch.no_grad():
            fine = sparse_tensor(torch.randn(300, 2), coordinates, (8, 8, 8), 1)
            coarse = down(fine)
            assert down(fine).sites is coarse.sites, "and is kept while its tensor is"
            back = up(coarse)
        watched = [weakref.ref(tensor.sites) for tensor in (fine, coarse, back)]
        del fine, coarse, back
        assert [ref() for ref in watched] == [None, None, None]
    finally:
        gc.enable()
