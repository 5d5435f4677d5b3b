"""Cross-entropy and Lovasz-softmax against values worked out by hand and a plain reference."""

import numpy as np
import pytest
import torch

from kd_seg.losses.supervised import cross_entropy, lovasz_softmax


def reference_lovasz(p: np.ndarray, labels: np.ndarray) -> float:
    """Berman et al., CVPR 2018, spelled out: the Jaccard loss of each prefix of the sorted errors."""
    p, labels = p[labels > 0], labels[labels > 0]
    losses = []
    for column in sorted(set(labels - 1)):
        truth = labels - 1 == column
        errors = np.where(truth, 1 - p[:, column], p[:, column])
        order = np.argsort(-errors, kind="stable")
        previous, loss = 0.0, 0.0
        for k in range(len(order)):
            wrong = set(order[: k + 1])
            miss = sum(truth[i] for i in wrong)
            extra = sum(not truth[i] for i in wrong)
            jaccard = 1.0 - (truth.sum() - miss) / (truth.sum() + extra)
            loss += errors[order[k]] * (jaccard - previous)
            previous = jaccard
        losses.append(loss)
    return float(np.mean(losses))


def test_lovasz_equals_the_reference():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(40, 5)), dtype=torch.float64).float()
    labels = torch.tensor(rng.integers(0, 5, 40))
    value, count = lovasz_softmax(logits, labels)
    expected = reference_lovasz(torch.softmax(logits, 1).numpy(), labels.numpy())
    assert count == int((labels > 0).sum())
    assert float(value) == pytest.approx(expected, abs=1e-5)


def test_lovasz_of_two_rows_by_hand():
    # one row per class, p(right) = 0.5: errors 0.5, 0.5; J_1 = 1 if the true row is first, else 1/2; both sum to 0.5
    value, _ = lovasz_softmax(torch.zeros(2, 2), torch.tensor([1, 2]))
    assert float(value) == pytest.approx(0.5)


def test_cross_entropy_by_hand_and_weighted():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    labels = torch.tensor([1, 2, 0])
    first, second = np.log(1 + np.exp(-2.0)), np.log(2.0)
    value, count = cross_entropy(logits, labels)
    assert count == 2
    assert float(value) == pytest.approx((first + second) / 2)
    value, _ = cross_entropy(logits, labels, torch.tensor([1.0, 3.0]))
    assert float(value) == pytest.approx((first + 3 * second) / 4)


@pytest.mark.parametrize("loss", [cross_entropy, lovasz_softmax])
def test_nothing_labelled_is_an_exact_zero_with_a_gradient_path(loss):
    logits = torch.randn(7, 3, requires_grad=True)
    value, count = loss(logits, torch.zeros(7, dtype=torch.long))
    value.backward()
    assert (float(value.detach()), count) == (0.0, 0)
    assert torch.equal(logits.grad, torch.zeros(7, 3))
