"""The pretended CUDA device finds what CUDA refuses, and lets pass what it allows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pretend_cuda import CUDA, DevicesMixed, pretend_cuda
from torch import Tensor, nn

from kd_seg.sparse import Submanifold, sparse_tensor


def cpu(*shape: int) -> Tensor:
    return torch.rand(shape)


def there(*shape: int) -> Tensor:
    return torch.rand(shape, device="cuda")


INDEX = torch.tensor([0, 1])


def sparse_mixed() -> Any:
    layer = Submanifold(4, 4, (3, 3, 3), "level").to("cuda")
    return layer(sparse_tensor(there(2, 4), torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]), (2, 2, 2), 1))


REFUSED: dict[str, Callable[[], Any]] = {
    "sum": lambda: there(3) + cpu(3),
    "in place": lambda: there(3).mul_(cpu(3)),
    "reversed": lambda: cpu(3) * there(3),
    "comparison": lambda: there(3) > cpu(3),
    "choice": lambda: torch.where(there(3) > 0.5, cpu(3), there(3)),
    "product": lambda: there(3, 3) @ cpu(3, 3),
    "join": lambda: torch.cat([there(3), cpu(3)]),
    "pile of scalars": lambda: torch.stack([there(1).sum(), cpu(1).sum()]),
    "index of ordinary rows": lambda: cpu(3)[INDEX.to("cuda")],
    "rows written at an index": lambda: there(3).__setitem__(INDEX, cpu(2)),
    "index_add": lambda: there(3).index_add(0, INDEX, there(2)),
    "index_copy": lambda: there(3).index_copy(0, INDEX, there(2)),
    "gather": lambda: there(3).gather(0, INDEX),
    "scatter": lambda: there(3).scatter_reduce(0, INDEX, there(2), "amax"),
    "search": lambda: torch.searchsorted(there(3), cpu(3)),
    "membership": lambda: torch.isin(INDEX.to("cuda"), INDEX),
    "class weights": lambda: nn.functional.cross_entropy(there(2, 3), INDEX.to("cuda"), cpu(3)),
    "a layer left behind": lambda: nn.Linear(3, 3)(there(2, 3)),
    "a buffer left behind": lambda: nn.BatchNorm1d(3)(there(4, 3)),
    "a copy of a layer left behind": lambda: copy.deepcopy(nn.Linear(3, 3))(there(2, 3)),
    "coordinates left behind": sparse_mixed,
    "numpy": lambda: there(3).numpy(),
    "an array": lambda: np.asarray(there(3)),
    "numpy's functions": lambda: np.concatenate([there(3), there(2)]),
    "numpy of what a product became": lambda: (there(3) * 2).reshape(-1)[1:].numpy(),
    "generator of the CPU": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "gradient": lambda: setattr(there(3), "grad", cpu(3)),
}

ALLOWED: dict[str, Callable[[], Tensor]] = {
    "scalar": lambda: there(3) * torch.tensor(2.0),
    "number": lambda: torch.where(there(3) > 0.5, 1.0, 2.0),
    "ordinary index": lambda: there(3)[INDEX],
    "ordinary mask": lambda: there(2)[torch.tensor([True, False])],
    "copy": lambda: there(3).copy_(cpu(3)),
    "copy into a slice": lambda: _written(there(3), slice(0, 2), cpu(2)),
    "number at an index": lambda: _written(there(3), INDEX, 0.0),
    "moved": lambda: cpu(3).to(CUDA) + cpu(3).to(there(1)) + torch.as_tensor(cpu(3), device="cuda") + cpu(3).cuda(),
    "made alike": lambda: there(3).new_zeros(3) + torch.zeros_like(cpu(3), device="cuda") + torch.empty_like(there(3)),
    "parts": lambda: sum(there(3, 2), start=there(2)) + torch.sort(there(2)).values + torch.unbind(there(3, 2))[0],
    "a layer that was moved": lambda: copy.deepcopy(nn.BatchNorm1d(3)).to("cuda")(there(4, 3)),
    "a copy of one": lambda: copy.deepcopy(nn.BatchNorm1d(3).to("cuda"))(there(4, 3)),
    "weights that were loaded": lambda: _loaded()(there(2, 3)),
}  # fmt: skip


def _written(tensor: Tensor, index: Any, value: Any) -> Tensor:
    tensor[index] = value
    return tensor


def _loaded() -> nn.Module:
    layer = nn.Linear(3, 3).to("cuda")
    layer.load_state_dict(nn.Linear(3, 3).state_dict())
    return layer


@pytest.mark.parametrize("name", REFUSED)
def test_a_mix_up_is_found(name: str) -> None:
    with (
        pretend_cuda(),
        pytest.raises((DevicesMixed, TypeError), match=r"same device|two devices|one device|numpy|cuda"),
    ):
        REFUSED[name]()


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows_passes(name: str) -> None:
    with pretend_cuda() as mode:
        assert mode.holds(ALLOWED[name]())
        assert not mode.holds(ALLOWED[name]().cpu())


def test_devices_are_said_and_kept() -> None:
    with pretend_cuda() as mode:
        here, ordinary = there(3), cpu(3)
        assert (here.device, here.is_cuda, here.is_cpu) == (CUDA, True, False)
        assert (ordinary.device.type, ordinary.is_cuda, mode.holds(here.detach().view(3, 1))) == ("cpu", False, True)
        moved = ordinary.to("cuda")
        moved += 1.0
        assert not torch.equal(moved.cpu(), ordinary)  # a copy, not a view
        layer = nn.Linear(3, 2).to("cuda")
        optimiser = torch.optim.AdamW(layer.parameters())
        layer(there(4, 3)).sum().backward()
        optimiser.step()
        assert layer.weight.grad is not None
        assert layer.weight.grad.device == optimiser.state[layer.weight]["exp_avg"].device == CUDA
    assert here.device.type == "cpu"  # outside it is what it was
