"""The Segmenter: one answer per point, whatever the points."""

import numpy as np
import pytest
import torch
from tiny_data import tiny_cloud

from kd_seg.checkpoint import Spec, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.errors import CheckpointError, MissingDependencyError
from kd_seg.networks import Encoding, build_network
from kd_seg.segmenter import Segmenter
from kd_seg.voxels import CartesianGrid


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    torch.manual_seed(1)
    spec = Spec("unet", "nano", load_classes(), Encoding(CartesianGrid((0.4,) * 3), ("xyz", "remission", "offset")))
    path = tmp_path_factory.mktemp("ckpt") / "student.safetensors"
    save_checkpoint(path, build_network("unet", "nano", 7, 19), spec)
    return Segmenter(path, device="cpu", num_threads=1)


def test_every_point_gets_its_voxels_class(segmenter):
    points, _ = tiny_cloud(np.random.default_rng(0))
    answer = segmenter.segment(points)
    assert answer.class_id.shape == (len(points),)
    assert answer.class_id.max() < 19
    assert ((answer.probability > 1 / 19 - 1e-6) & (answer.probability <= 1)).all()
    assert ((answer.entropy >= 0) & (answer.entropy <= 1)).all()
    assert set(answer.timings) == {"voxelize", "inference"}
    cells = np.floor((points[:, :3] + (81.6, 81.6, 35.2)) / 0.4).astype(int)
    _, voxel = np.unique(cells, axis=0, return_inverse=True)
    for column in (answer.class_id, answer.probability):
        first = np.zeros(voxel.max() + 1, column.dtype)
        first[voxel] = column
        np.testing.assert_array_equal(first[voxel], column)


def test_order_of_points_does_not_matter(segmenter):
    points, _ = tiny_cloud(np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(len(points))
    straight, shuffled = segmenter.segment(points), segmenter.segment(points[order])
    assert (straight.class_id[order] == shuffled.class_id).mean() > 0.999


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e4, 100.0])
def test_unusable_points_are_255_and_do_not_touch_the_others(segmenter, bad):
    points, _ = tiny_cloud(np.random.default_rng(3))
    clean = segmenter.segment(points[10:])
    points[:10, 0] = bad
    kept = points.copy()
    answer = segmenter.segment(points)
    np.testing.assert_array_equal(points, kept)
    assert (answer.class_id[:10] == 255).all()
    assert (answer.probability[:10] == 0).all()
    assert (answer.entropy[:10] == 1).all()
    np.testing.assert_array_equal(answer.class_id[10:], clean.class_id)


def test_a_broken_intensity_counts_as_zero(segmenter):
    points, _ = tiny_cloud(np.random.default_rng(4))
    zero, broken = points.copy(), points.copy()
    zero[::7, 3], broken[::7, 3] = 0.0, np.nan
    np.testing.assert_array_equal(segmenter.segment(zero).class_id, segmenter.segment(broken).class_id)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_points(segmenter, count):
    answer = segmenter.segment(np.ones((count, 4), np.float32))
    assert len(answer.class_id) == len(answer.probability) == len(answer.entropy) == count


def test_all_invalid(segmenter):
    answer = segmenter.segment(np.full((5, 4), np.nan, np.float32))
    assert (answer.class_id == 255).all()


def test_warm_up_runs(segmenter):
    segmenter.warm_up(points=2000, frames=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        Segmenter(tmp_path / "none.safetensors")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cpu_and_cuda_agree(segmenter):
    points, _ = tiny_cloud(np.random.default_rng(5))
    other = Segmenter(segmenter.checkpoint_path, device="cuda", precision="fp32")
    here, there = segmenter.segment(points), other.segment(points)
    np.testing.assert_allclose(here.probability, there.probability, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize(
    ("options", "says"), [({"device": "cuda:0"}, "no CUDA device"), ({"precision": "fp16"}, "fp16")]
)
def test_devices_that_are_not_there(segmenter, options, says):
    with pytest.raises(MissingDependencyError, match=says):
        Segmenter(segmenter.checkpoint_path, **options)
