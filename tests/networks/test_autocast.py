"""Half precision as far as a CPU has it: bfloat16 autocast, with torch's operations, which cast as those of CUDA do."""

from __future__ import annotations

import pytest
import torch
from small_networks import NETWORKS, settled

from kd_seg.sparse import using
from kd_seg.sparse.spconv_backend import in_autocast


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("gradients", [False, True])
def test_networks_run_in_half_precision(name: str, gradients: bool) -> None:
    network, batch = settled(name)
    with using("torch"), torch.no_grad():
        expected = network.eval()(batch).logits
    with using("torch"), torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16):
        output = network.train(gradients)(batch)
    assert output.levels["penultimate"].features.dtype == torch.bfloat16
    if gradients:
        output.logits.float().square().mean().backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())
    else:
        off = (output.logits.float() - expected).norm() / expected.norm()
        assert 0 < float(off) < 0.1


def test_features_and_weights_meet_in_one_type() -> None:
    features, weight = torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(4, 1, 1, 1, 3)
    assert [t.dtype for t in in_autocast(features, weight)] == [torch.bfloat16, torch.float32]
    with torch.autocast("cpu", torch.bfloat16):
        assert [t.dtype for t in in_autocast(features, weight)] == [torch.bfloat16, torch.bfloat16]
