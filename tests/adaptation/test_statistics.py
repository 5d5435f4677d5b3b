"""A network takes the statistics of a drive where they make it steadier, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kd_seg.adaptation import statistics
from kd_seg.adaptation.statistics import SHARES, divergence, take_statistics
from kd_seg.scans import Points
from kd_seg.serving.segmenter import Segmenter, made_up_cloud


@pytest.fixture
def segmenter(random_checkpoint: Path) -> Segmenter:
    return Segmenter(random_checkpoint, device="cpu")


@pytest.fixture
def clouds() -> list[Points]:
    return [made_up_cloud(3000, seed) for seed in range(4)]


def stem_norm(segmenter: Segmenter) -> tuple[str, nn.BatchNorm1d]:
    found = [(n, m) for n, m in segmenter.network.named_modules() if isinstance(m, nn.BatchNorm1d)]
    return found[0]


def test_statistics_are_plain_means_over_clouds(segmenter: Segmenter, clouds: list[Points]) -> None:
    name, _ = stem_norm(segmenter)
    before = {k: v.clone() for k, v in segmenter.network.state_dict().items()}
    found = statistics.statistics(segmenter, clouds)
    means = [statistics.statistics(segmenter, [cloud])[f"{name}.running_mean"] for cloud in clouds]
    torch.testing.assert_close(found[f"{name}.running_mean"], torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in segmenter.network.state_dict().items())
    assert statistics.statistics(segmenter, []) == {}
    assert statistics.statistics(segmenter, [clouds[0][:0]]) == {}


def test_the_steadiest_share_is_taken(
    segmenter: Segmenter, clouds: list[Points], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, norm = stem_norm(segmenter)
    trained = norm.running_mean.clone()
    drive = statistics.statistics(segmenter, clouds)[f"{name}.running_mean"]
    shares = iter([share for share in SHARES for _ in clouds])
    monkeypatch.setattr(statistics, "divergence", lambda *_: abs(next(shares) - 0.5))
    taken = take_statistics(segmenter, clouds)
    assert taken.share == 0.5
    assert list(taken.divergences) == list(SHARES)
    torch.testing.assert_close(norm.running_mean, (trained + drive) / 2)


def test_a_network_without_batch_norms_stays(segmenter: Segmenter, clouds: list[Points]) -> None:
    segmenter.network = nn.Identity()
    assert take_statistics(segmenter, clouds).share == 0.0


def test_views_that_agree_do_not_diverge(segmenter: Segmenter, clouds: list[Points]) -> None:
    cloud = clouds[0]
    assert 0 < divergence(segmenter, cloud) < np.log(3)
    monotone = np.zeros((len(cloud), 19), np.float32)
    monotone[:, 3] = 1.0
    segmenter.distribution = lambda points: monotone  # type: ignore[method-assign]
    assert divergence(segmenter, cloud) == pytest.approx(0.0, abs=1e-6)
    segmenter.distribution = lambda points: np.zeros_like(monotone)  # type: ignore[method-assign]
    assert divergence(segmenter, cloud) == 0.0
