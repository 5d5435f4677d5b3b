"""Exact changes of a translated state, so that it fits a network without the parts that eval mode makes redundant."""

from __future__ import annotations

import torch

from kd_seg.core.errors import CheckpointError
from kd_seg.importing.table import State

EPSILON = 1e-5
"""Of this package's batch norms."""


def change_epsilon(state: State, epsilon: float) -> None:
    """Make batch norms trained with ``epsilon`` the same with EPSILON: running_var + epsilon is all that matters."""
    for name in state:
        if name.endswith(".running_var"):
            state[name] = state[name] + (epsilon - EPSILON)


def fold_shortcuts(state: State) -> None:
    """Fold the norm of every ``shortcut`` into its matrix and into the bias of the block's second norm.

    ``norm(W x) = s W x + t`` with s = weight / sqrt(running_var + epsilon) and t = bias - s running_mean; t is added
    where the block's second norm adds its bias. CheckpointError where one of the tensors is missing.
    """
    ends = ".shortcut_norm.running_var"
    for base in [name.removesuffix(ends) for name in state if name.endswith(ends)]:
        scale, shift = _affine(state, f"{base}.shortcut_norm")
        matrix, bias = f"{base}.shortcut.weight", f"{base}.second_norm.bias"
        _need(state, matrix, bias)
        _need_shape(bias, state[bias], shift)
        state[matrix] = scale[:, None] * state[matrix]
        state[bias] = state[bias] + shift


def fold_biases(state: State, layers: dict[str, str]) -> None:
    """Fold the bias of each linear layer into the running mean of the norm that follows it (layer: norm)."""
    for layer, after in layers.items():
        bias, mean = f"{layer}.bias", f"{after}.running_mean"
        _need(state, bias, mean)
        _need_shape(bias, state[bias], state[mean])
        state[mean] = state[mean] - state.pop(bias)


def drop_column(state: State, names: tuple[str, ...], column: int) -> None:
    """Take the ignored class's row out of the head's tensors (first axis)."""
    for name in names:
        _need(state, name)
        rows = state[name]
        keep = [i for i in range(len(rows)) if i != column % len(rows)]
        state[name] = rows[keep]


def _affine(state: State, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [f"{name}.{what}" for what in ("weight", "bias", "running_mean", "running_var")]
    _need(state, *parts)
    weight, bias, mean, variance = (state.pop(part) for part in parts)
    for part, tensor in zip(parts, (weight, bias, mean), strict=False):
        _need_shape(part, tensor, variance)
    state.pop(f"{name}.num_batches_tracked", None)
    scale = weight / torch.sqrt(variance + EPSILON)
    return scale, bias - scale * mean


def _need_shape(name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    """CheckpointError unless the shapes are equal: a single number would be spread over all channels."""
    if tensor.shape != like.shape:
        shapes = f"{list(tensor.shape)}, and {list(like.shape)}"
        raise CheckpointError(f"the tensor for {name} has shape {shapes} is needed; the file is damaged.")


def _need(state: State, *names: str) -> None:
    for name in names:
        if name not in state:
            raise CheckpointError(f"The file has no tensor for {name}; it was cut off or is another network.")
