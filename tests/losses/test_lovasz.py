"""The compiled Lovasz-softmax of the CPU against torch's sort, value and gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kd_seg.losses import supervised
from kd_seg.losses.supervised import lovasz_softmax


def both(logits: Tensor, labels: Tensor) -> list[tuple[float, Tensor]]:
    """Value and gradient by the kernel and by torch."""
    answers = []
    for kernel in (True, False):
        given = logits.clone().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(supervised, "_sorts_by_kernel", lambda probabilities, kernel=kernel: kernel)
            loss, _ = lovasz_softmax(given, labels)
        (3 * loss).backward()
        assert given.grad is not None
        answers.append((loss.item(), given.grad))
    return answers


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 400), st.integers(1, 8))
def test_value_and_gradient_are_those_of_a_sort(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(rows, classes)).astype(np.float32) * 3)
    labels = torch.from_numpy(rng.integers(0, classes + 1, rows))
    labels[0] = 1
    (value, gradient), (expected, reference) = both(logits, labels)
    assert value == pytest.approx(expected, abs=2e-6)
    torch.testing.assert_close(gradient, reference, rtol=1e-3, atol=2e-6)


def test_certain_rows_right_and_wrong() -> None:
    """Probabilities of exactly 0 and 1: nothing is lost where they are right, all where they are wrong."""
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]])
    assert lovasz_softmax(logits, torch.tensor([1, 2]))[0].item() == 0.0
    assert lovasz_softmax(logits, torch.tensor([2, 1]))[0].item() == pytest.approx(1.0)
