"""Parts of pictures, weights on the cells of feature maps, and boxes, against plain loops and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.images.regions.partitions import describe, erode, tiles, whole
from kd_seg.images.regions.sampling import at_pixels, over_parts
from kd_seg.images.teachers.detections import merge_tiles, overlaps, suppress
from kd_seg.images.teachers.interface import Detections, SemanticMap


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 6))
def test_tiles_cut_a_picture_into_rectangles_of_nearly_one_size(h: int, w: int, rows: int, columns: int) -> None:
    parts = tiles(h, w, rows, columns)
    sizes = []
    for part in np.unique(parts):
        lines, places = np.nonzero(parts == part)
        height, width = np.ptp(lines) + 1, np.ptp(places) + 1
        assert height * width == len(lines)
        sizes.append((height, width))
    for axis in (0, 1):
        lengths = [size[axis] for size in sizes]
        assert max(lengths) - min(lengths) <= 1
    if h >= rows and w >= columns:
        assert len(sizes) == rows * columns
        assert parts[0, 0] == 0
        assert parts[-1, -1] == rows * columns - 1
    assert not whole(h, w).any()


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 2))
def test_erosion_keeps_what_is_far_from_every_border(seed: int, count: int, pixels: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1, count, (4, 5))
    parts = np.kron(coarse, np.ones((4, 4), int)).astype(np.int32)
    found = erode(parts, pixels)
    h, w = parts.shape
    for y in range(h):
        for x in range(w):
            near = parts[max(y - pixels, 0) : y + pixels + 1, max(x - pixels, 0) : x + pixels + 1]
            assert found[y, x] == (parts[y, x] if (near == parts[y, x]).all() else -1)


@given(st.integers(0, 10**6))
def test_parts_are_described_by_class_mean_and_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.integers(-1, 5, (7, 9)).astype(np.int32)
    semantic = SemanticMap((parts + 20).astype(np.uint8), rng.random((7, 9)).astype(np.float32))
    found = describe(parts, 6, semantic)
    for part in range(6):
        lines, places = np.nonzero(parts == part)
        if not len(lines):
            assert (found.teacher_class[part], found.confidence[part], found.boxes[part].tolist()) == (0, 0, [0] * 4)
            continue
        assert found.teacher_class[part] == part + 20
        assert found.confidence[part] == pytest.approx(semantic.confidence[parts == part].mean(), rel=1e-5)
        assert found.boxes[part].tolist() == [places.min(), lines.min(), places.max() + 1, lines.max() + 1]


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_means_over_parts_are_those_of_the_enlarged_map(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.integers(-1, 4, (8, 11)).astype(np.int32)
    cells = rng.normal(size=(rows, columns)).astype(np.float32)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(cells)[None, None], (8, 11), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    weights = over_parts(parts, 5, (rows, columns))
    found = np.zeros(5)
    np.add.at(found, weights.target, weights.weight * cells.reshape(-1)[weights.cell])
    for part in range(5):
        inside = parts == part
        assert found[part] == pytest.approx(large[inside].mean() if inside.any() else 0.0, abs=1e-5)
    total = np.bincount(weights.target, weights.weight, 5)
    np.testing.assert_allclose(total, [float((parts == part).any()) for part in range(5)], atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))
def test_weights_at_pixels_read_a_plane_exactly_within_the_outer_centres(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = 30, 50
    v, u = np.mgrid[:rows, :columns]
    plane = 0.3 * (u + 0.5) * width / columns - 0.7 * (v + 0.5) * height / rows + 2
    low = np.array([0.5 * width / columns, 0.5 * height / rows])
    pixels = rng.uniform(low, [width, height] - low, (20, 2)).astype(np.float32)
    weights = at_pixels(pixels, (height, width), (rows, columns))
    found = np.zeros(20)
    np.add.at(found, weights.target, weights.weight * plane.reshape(-1)[weights.cell])
    np.testing.assert_allclose(found, 0.3 * pixels[:, 0] - 0.7 * pixels[:, 1] + 2, atol=1e-3)
    far = at_pixels(np.array([[-99.0, -99.0]], np.float32), (height, width), (rows, columns))
    assert far.weight[far.cell == 0].sum() == pytest.approx(1.0)


def boxes(rng: np.random.Generator, count: int) -> Detections:
    low = rng.integers(0, 20, (count, 2))
    corners = np.concatenate([low, low + rng.integers(1, 12, (count, 2))], axis=1).astype(np.float32)
    confidence = rng.permutation(np.linspace(0.1, 0.9, count)).astype(np.float32)
    return Detections(corners, rng.integers(0, 2, count).astype(np.int64), confidence)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_overlaps_are_shares_of_pixels(seed: int, count: int) -> None:
    found = boxes(np.random.default_rng(seed), count)
    painted = np.zeros((count, 40, 40), bool)
    for k, (left, top, right, bottom) in enumerate(found.boxes.astype(int)):
        painted[k, top:bottom, left:right] = True
    expected = [(painted[0] & one).sum() / (painted[0] | one).sum() for one in painted]
    np.testing.assert_allclose(overlaps(found.boxes[0], found.boxes), expected, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 14), st.sampled_from([0.0, 0.3]), st.sampled_from([0.2, 0.5]))
def test_of_overlapping_boxes_of_a_class_the_surest_stays(seed: int, count: int, least: float, overlap: float) -> None:
    found = boxes(np.random.default_rng(seed), count)
    kept: list[int] = []
    for k in np.argsort(-found.confidence):
        rivals = [j for j in kept if found.classes[j] == found.classes[k]]
        free = all(overlaps(found.boxes[j], found.boxes[[k]])[0] < overlap for j in rivals)
        if found.confidence[k] >= least and free:
            kept.append(int(k))
    left = suppress(found, least, overlap)
    np.testing.assert_array_equal(left.boxes, found.boxes[kept])
    np.testing.assert_array_equal(left.confidence, found.confidence[kept])
    again = suppress(left, least, overlap)
    np.testing.assert_array_equal(again.boxes, left.boxes)


def test_tiles_are_put_together_in_order() -> None:
    rng = np.random.default_rng(0)
    a, b = boxes(rng, 3), boxes(rng, 2)
    made = merge_tiles([a, b])
    np.testing.assert_array_equal(made.boxes, np.concatenate([a.boxes, b.boxes]))
    assert len(made.classes) == len(made.confidence) == 5
