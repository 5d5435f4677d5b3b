"""The Segmenter: one answer per point, whatever the points."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_data import tiny_cloud

from kd_seg.checkpoint import Spec, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.core.errors import CheckpointError, KdSegError, MissingDependencyError
from kd_seg.networks import Encoding, build_network
from kd_seg.serving.postprocess import TILE, point_predictions
from kd_seg.serving.segmenter import Segmenter, all_within, made_up_cloud
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
    assert set(answer.timings) == {"voxelize", "inference", "network"}
    assert 0 < answer.timings["network"] < answer.timings["inference"]
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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e4, 500.0])
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


def reference_answers(logits, inverse):
    """Class, probability and entropy in plain float64 NumPy."""
    t = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    p = np.exp(t) / np.exp(t).sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(max(logits.shape[1], 2))
    outside = inverse < 0
    class_id = np.where(outside, 255, logits.argmax(axis=1)[inverse])
    return class_id, np.where(outside, 0.0, p.max(axis=1)[inverse]), np.where(outside, 1.0, entropy[inverse])


@settings(max_examples=60, deadline=None)
@given(
    logits=arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 25)),
        elements=st.floats(-200, 200, width=32) | st.sampled_from([0.0, 1.0, 2.0**100, -(2.0**100)]),
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_answers_are_those_of_plain_numpy(logits, seed):
    inverse = np.random.default_rng(seed).integers(-1, len(logits), 50).astype(np.int32)
    class_id, probability, entropy = point_predictions(logits, inverse).spread()
    expected = reference_answers(logits, inverse)
    np.testing.assert_array_equal(class_id, expected[0])
    np.testing.assert_allclose(probability, expected[1], atol=1e-6)
    np.testing.assert_allclose(entropy, expected[2], atol=1e-5)
    assert ((entropy >= 0) & (entropy <= 1)).all()
    assert (class_id.dtype, probability.dtype, entropy.dtype) == (np.uint8, np.float32, np.float32)


@pytest.mark.parametrize("voxels", [1, TILE - 1, TILE, TILE + 1, 5 * TILE + 3])
def test_answers_of_every_tile(voxels):
    rng = np.random.default_rng(voxels)
    logits = np.asfortranarray(rng.normal(0, 5, (voxels, 19)).astype(np.float32))
    inverse = rng.permutation(np.arange(-1, voxels)).astype(np.int32)
    for found, expected in zip(
        point_predictions(logits, inverse).spread(), reference_answers(logits, inverse), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_broken_network_does_not_look_sure():
    logits = np.zeros((3, 19), np.float32)
    logits[1, 4] = np.nan
    _, probability, entropy = point_predictions(logits, np.arange(3, dtype=np.int32)).spread()
    np.testing.assert_allclose(probability, [1 / 19, np.nan, 1 / 19], rtol=1e-6)
    np.testing.assert_allclose(entropy[::2], 1.0, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 11.0, -11.0])
def test_one_value_beyond_is_found_wherever_it_is(count, bad):
    values = np.full(count, -10.0, np.float32)
    assert all_within(values, np.float32(10.0))
    for place in {0, count // 2, count - 1} if count else ():
        broken = values.copy()
        broken[place] = bad
        assert not all_within(broken, np.float32(10.0))


def test_warm_up_runs(segmenter):
    segmenter.warm_up(points=2000, frames=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        Segmenter(tmp_path / "none.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.parametrize(
    ("options", "says"), [({"device": "cuda:0"}, "no CUDA device"), ({"precision": "fp16"}, "fp16")]
)
def test_devices_that_are_not_there(segmenter, options, says):
    with pytest.raises(MissingDependencyError, match=says):
        Segmenter(segmenter.checkpoint_path, **options)


@pytest.fixture(scope="module")
def shipped_segmenter() -> Segmenter:
    return Segmenter(device=torch.device("cpu"), num_threads=1)


def test_points_in_any_form_that_can_be_meant(shipped_segmenter: Segmenter) -> None:
    points = made_up_cloud(2000, 3)
    wanted = shipped_segmenter.segment(points).class_id
    fields = np.dtype([("intensity", "f4"), ("Z", "f8"), ("x", "f4"), ("y", "f4"), ("normal", "f4", 3)])
    structured = np.zeros(len(points), fields)
    for name, column in (("x", 0), ("y", 1), ("Z", 2), ("intensity", 3)):
        structured[name] = points[:, column]
    forms = [
        points.astype(">f8"), np.asfortranarray(points), np.hstack([points, points[:, :2]]), torch.from_numpy(points),
        torch.from_numpy(points).requires_grad_(), points.tolist(), structured, structured.reshape(40, 50),
    ]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(shipped_segmenter.segment(form).class_id, wanted)
    for empty in ([], points[:0], np.zeros((0, 7))):
        assert len(shipped_segmenter.segment(empty).class_id) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.T, "transpose them"), (lambda p: p[:, :3], "no intensity"), (lambda p: p[0], "not float32 [4]"),
        (lambda p: p[:, :2], "not [2000, 2]"), (lambda p: p.astype(str), "Points are numbers"),
        (lambda p: "scan.bin", "Points are numbers"),
        (lambda p: p + np.array([450_000, 5_400_000, 0, 0]), "are these metres"),
        (lambda p: [[1, 2], [3]], "These are no points"),
        (lambda p: p[:, :3].copy().view([("a", "f4"), ("y", "f4"), ("z", "f4")]), "has no field x"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(shipped_segmenter: Segmenter, change: object, said: str) -> None:
    with pytest.raises(KdSegError) as caught:
        shipped_segmenter.segment(change(made_up_cloud(2000, 3)))  # type: ignore[operator]
    assert said in str(caught.value)


def test_other_ranges_are_told_once() -> None:
    segmenter = Segmenter(device="cpu", num_threads=1)
    points = made_up_cloud(2000, 3)
    with pytest.warns(UserWarning, match="the segmenter takes 0 to 1"):
        segmenter.segment(points * [1, 1, 1, 255])
    with pytest.warns(UserWarning, match="no point lies inside"):
        segmenter.segment(points + [0, 0, 500, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.segment(points * [1, 1, 1, 255])
        segmenter.segment(points)
