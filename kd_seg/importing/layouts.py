"""Kernel layouts of other libraries, brought to the one of this package: [out, x, y, z, in] (spconv 2's KRSC).

Each function takes one weight tensor and raises ValueError, with what it expected, where the shape cannot be right.
All libraries correlate, and an up-convolution reuses the pairs of the halving that it undoes; so its weights are laid
out as those of a halving. A kernel of one cell becomes the weight [out, in] of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Layout = Callable[[Tensor], Tensor]


def plain(weight: Tensor) -> Tensor:
    """Vectors and matrices of norms and linear layers: as they are."""
    if weight.ndim > 2:
        raise ValueError(f"a vector or a matrix was expected, not {list(weight.shape)}")
    return weight


def _side(cells: int) -> int:
    side: int = round(cells ** (1 / 3))
    if side**3 != cells:
        raise ValueError(f"{cells} kernel cells are no cube")
    return side


def torchsparse(weight: Tensor) -> Tensor:
    """[cells, in, out] with x fastest for odd sides and z fastest for even ones (torchsparse 1.4, nn/utils/kernel.py);
    [in, out] for one cell.
    """
    if weight.ndim == 2:
        return weight.T
    return _flat(weight, x_fastest=weight.shape[:1].numel() % 2 == 1)


def minkowski(weight: Tensor) -> Tensor:
    """[cells, in, out] with x fastest (MinkowskiEngine 0.5, kernel_region.hpp); [in, out] for one cell."""
    if weight.ndim == 2:
        return weight.T
    return _flat(weight, x_fastest=True)


def _flat(weight: Tensor, x_fastest: bool) -> Tensor:
    if weight.ndim != 3:
        raise ValueError(f"[cells, in, out] was expected, not {list(weight.shape)}")
    side = _side(weight.shape[0])
    cube = weight.reshape(side, side, side, *weight.shape[1:])
    return cube.permute(4, 2, 1, 0, 3) if x_fastest else cube.permute(4, 0, 1, 2, 3)


def spconv1(weight: Tensor) -> Tensor:
    """[x, y, z, in, out] (spconv 1, mmcv)."""
    if weight.ndim != 5:
        raise ValueError(f"[x, y, z, in, out] was expected, not {list(weight.shape)}")
    return _matrix(weight.permute(4, 0, 1, 2, 3))


def spconv2(weight: Tensor) -> Tensor:
    """[out, x, y, z, in], but a kernel of one cell, which spconv 2 stores as [out, 1, 1, 1, in] and reads as [in, out].

    See SparseConvolution.forward in spconv/pytorch/conv.py: ``mm(features, weight.view(in, out))``. A square one gives
    no error where that is missed.
    """
    if weight.ndim != 5:
        raise ValueError(f"[out, x, y, z, in] was expected, not {list(weight.shape)}")
    if tuple(weight.shape[1:4]) == (1, 1, 1):
        return weight.reshape(weight.shape[4], weight.shape[0]).T
    return weight


def spconv2_zyx(weight: Tensor) -> Tensor:
    """spconv 2's [out, z, y, x, in] of networks that give coordinates as z, y, x (2DPASS)."""
    turned = spconv2(weight)
    return turned if turned.ndim == 2 else turned.permute(0, 3, 2, 1, 4)


def spconv(weight: Tensor) -> Tensor:
    """[out, x, y, z, in] or, where the three equal sides come first, spconv 1's [x, y, z, in, out].

    mmdetection3d writes either.
    """
    if weight.ndim != 5:
        raise ValueError(f"a kernel of five axes was expected, not {list(weight.shape)}")
    first, second = set(weight.shape[:3]), set(weight.shape[1:4])
    if len(first) == 1 and (len(second) > 1 or first == {1}):
        return spconv1(weight)
    return spconv2(weight)


def shared(cells: tuple[int, int, int]) -> Layout:
    """spconv 1's layout, of a kernel that ran on the map of another one with ``cells``: its first cells, in order.

    The other cells were never read; files hold NaN or anything there.
    """

    def used(weight: Tensor) -> Tensor:
        if weight.ndim != 5:
            raise ValueError(f"[x, y, z, in, out] was expected, not {list(weight.shape)}")
        flat = weight.reshape(-1, *weight.shape[3:])
        count = cells[0] * cells[1] * cells[2]
        if len(flat) < count:
            raise ValueError(f"{count} kernel cells or more were expected, not {len(flat)}")
        return flat[:count].reshape(*cells, *weight.shape[3:]).permute(4, 0, 1, 2, 3)

    return used


def _matrix(weight: Tensor) -> Tensor:
    """[out, 1, 1, 1, in] as [out, in]."""
    return weight.flatten(1) if tuple(weight.shape[1:4]) == (1, 1, 1) else weight
