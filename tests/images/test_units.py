"""Knowledge units: class maps, components, frustum clutter, lifting, noise, and sampling of feature maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_frame import CLASSES, SAME, class_image, frame, quiet
from images_scene import HEIGHT, WIDTH, Scene, poses

from kd_seg.core.errors import ConfigError
from kd_seg.images.regions.partitions import components, erode, superpixels, tiles
from kd_seg.images.regions.sampling import at_pixels, over_parts
from kd_seg.images.teachers import Detections, SemanticMap
from kd_seg.images.teachers.detections import suppress
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.images.units.clutter import ClutterSettings, above_ground, cut_depth, fit_ground
from kd_seg.images.units.lifting import LiftSettings, lift_detections, lift_semantic
from kd_seg.images.units.noise import Noise, NoiseSettings
from kd_seg.images.units.units import Spoilt, UnitKind, gather

# ---------------------------------------------------------------- class maps


def test_cityscapes_table() -> None:
    """The table of configs/class_maps/cityscapes_19.yaml, row by row where it is not one-to-one."""
    class_map = load_class_map("cityscapes_19", CLASSES)

    def meant(name: str) -> set[str]:
        row = class_map.sets[class_map.vocabulary.index(name)]
        return {CLASSES.names[c] for c in np.flatnonzero(row)}

    assert class_map.vocabulary[:3] == ("road", "sidewalk", "building")
    assert meant("road") == {"road", "parking"}
    assert meant("sidewalk") == {"sidewalk", "other-ground"}
    assert meant("wall") == {"building", "fence"}
    assert meant("vegetation") == {"vegetation", "trunk"}
    assert meant("rider") == {"bicyclist", "motorcyclist"}
    assert meant("bus") == meant("train") == {"other-vehicle"}
    assert meant("motorcycle") == {"motorcycle", "motorcyclist"}
    assert meant("bicycle") == {"bicycle", "bicyclist"}
    assert meant("sky") == meant("traffic light") == set()
    assert not class_map.mapped[class_map.vocabulary.index("sky")]
    assert class_map.things(CLASSES).sum() == 8
    likely = class_map.likelihoods(0.1)
    road, parking = CLASSES.names.index("road"), CLASSES.names.index("parking")
    assert likely[0, [road, parking]].tolist() == pytest.approx([1.0, 0.1])
    assert likely[0].sum() == pytest.approx(1.1)
    assert likely[class_map.vocabulary.index("sky")].sum() == 0
    assert ((class_map.likelihoods(1.0) > 0) == class_map.sets).all()


def test_class_map_errors(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("name: mine\nstudent: semantic_kitti_19\nclasses: {tree: [vegetaton]}\n")
    with pytest.raises(ConfigError, match=r"classes\.tree.*vegetaton"):
        load_class_map(str(path), CLASSES)
    with pytest.raises(ConfigError, match="semantic_kitti_25"):
        load_class_map("cityscapes_25", CLASSES)
    with pytest.raises(ConfigError, match="class_maps"):
        load_class_map("cityscape", CLASSES)


# ---------------------------------------------------------------- parts of pictures


def semantic(rows: list[str], confidence: float = 0.9) -> SemanticMap:
    """One letter per pixel: a = class 0 and so on, . = no answer."""
    table = np.array([[255 if c == "." else ord(c) - ord("a") for c in row] for row in rows], dtype=np.uint8)
    return SemanticMap(table, np.full(table.shape, confidence, dtype=np.float32))


def test_components_are_4_connected_and_of_one_class() -> None:
    said = semantic(["aab.", "aab.", "bbaa", "..aa"])
    found = components(said, np.ones(2, dtype=bool), 0.5, 1)
    # the two a-squares touch at a corner alone, as do the two parts of b
    assert len(found) == 4
    assert sorted(found.teacher_class.tolist()) == [0, 0, 1, 1]
    assert found.boxes[found.parts[0, 0]].tolist() == [0, 0, 2, 2]
    assert found.confidence.tolist() == pytest.approx([0.9] * 4)
    assert len(components(said, np.ones(2, dtype=bool), 0.5, 3)) == 2
    assert len(components(said, np.array([True, False]), 0.5, 1)) == 2
    unsure = SemanticMap(said.classes, np.where(said.classes == 1, 0.4, 0.9).astype(np.float32))
    assert (components(unsure, np.ones(2, dtype=bool), 0.5, 1).teacher_class == 0).all()
    assert len(components(semantic(["...."]), np.ones(2, dtype=bool), 0.5, 1)) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_erosion_is_a_loop(seed: int, pixels: int) -> None:
    parts = np.repeat(np.repeat(np.random.default_rng(seed).integers(-1, 3, (3, 4)), 5, 0), 5, 1).astype(np.int32)
    found = erode(parts, pixels)
    for r in range(parts.shape[0]):
        for c in range(parts.shape[1]):
            window = parts[max(r - pixels, 0) : r + pixels + 1, max(c - pixels, 0) : c + pixels + 1]
            assert found[r, c] == (parts[r, c] if (window == parts[r, c]).all() else -1)


def test_tiles_and_superpixels_have_no_gaps() -> None:
    parts = tiles(94, 310, 4, 12)
    assert np.unique(parts).tolist() == list(range(48))
    assert np.bincount(parts.ravel()).min() > 0.8 * 94 * 310 / 48
    picture = Scene().picture(poses(1)[0])[0]
    cut = superpixels(picture, 60, 6.0, 1.0)
    assert np.unique(cut).tolist() == list(range(int(cut.max()) + 1))


# ---------------------------------------------------------------- clutter


def test_depth_cut_keeps_the_object_in_the_middle() -> None:
    """Road at 5-6 m at the lower rim, a car at 10 m in the middle, a wall at 20 m around it."""
    rng = np.random.default_rng(0)
    depth = np.concatenate([np.linspace(5, 6, 20), rng.uniform(10, 11.5, 40), rng.uniform(20, 20.3, 60)]).astype(
        np.float32
    )
    pixels = np.concatenate(
        [
            np.column_stack([rng.uniform(0, 100, 20), np.full(20, 98)]),
            rng.uniform(30, 70, (40, 2)),
            rng.uniform(0, 15, (60, 2)),
        ]
    ).astype(np.float32)
    box = np.array([0, 0, 100, 100], dtype=np.float32)
    kept = cut_depth(depth, pixels, box, ClutterSettings())
    assert np.flatnonzero(kept).tolist() == list(range(20, 60))


def test_depth_cut_minimum_and_ties() -> None:
    settings_ = ClutterSettings()
    box = np.array([0, 0, 10, 10], dtype=np.float32)
    middle = np.full((12, 2), 5, dtype=np.float32)
    # 4 points are under the minimum of 5, though they lie as well as the others
    kept = cut_depth(np.array([3.0] * 4 + [9.0] * 8, np.float32), middle, box, settings_)
    assert kept.tolist() == [False] * 4 + [True] * 8
    assert (
        cut_depth(np.array([9.0] * 6 + [3.0] * 6, np.float32), middle, box, settings_).tolist()
        == [False] * 6 + [True] * 6
    )
    assert not cut_depth(np.array([3.0] * 4, np.float32), middle[:4], box, settings_).any()
    assert cut_depth(np.zeros(0, np.float32), middle[:0], box, settings_).shape == (0,)
    # 15 % of 100 points: a cluster of 14 in the very middle does not count
    depth = np.array([3.0] * 14 + [9.0] * 86, np.float32)
    pixels = np.concatenate([np.full((14, 2), 5), np.full((86, 2), 9)]).astype(np.float32)
    assert cut_depth(depth, pixels, box, settings_)[14:].all()
    # the gap grows with depth: 5 % of 30 m is 1.5 m
    far = np.array([30.0] * 6 + [31.4] * 6, np.float32)
    assert cut_depth(far, middle, box, settings_).all()


def test_ground_goes_on_a_slope() -> None:
    rng = np.random.default_rng(1)
    ground = rng.uniform([-6, -6, 0], [6, 6, 0], (800, 3)).astype(np.float32)
    ground[:, 2] = -1.7 + 0.15 * ground[:, 0] - 0.05 * ground[:, 1] + rng.normal(0, 0.02, 800)
    plane = fit_ground(ground)
    assert plane is not None
    np.testing.assert_allclose(plane, [0.15, -0.05, -1.7], atol=0.04)
    car = rng.uniform([-1, -1, 0.3], [1, 1, 1.2], (80, 3)).astype(np.float32)
    car[:, 2] += -1.7 + 0.15 * car[:, 0] - 0.05 * car[:, 1]
    unit = np.concatenate([car, ground[np.abs(ground[:, :2]).max(axis=1) < 1]])
    kept = above_ground(unit, np.concatenate([ground, car]), ClutterSettings())
    assert kept[:80].all()
    assert not kept[80:].any()
    assert above_ground(car, car[:3], ClutterSettings()).all()  # no ground to be seen


# ---------------------------------------------------------------- lifting


def test_components_are_lifted_to_the_right_points() -> None:
    made, train = frame(Scene())
    claims = lift_semantic(class_image(Scene()), made, LiftSettings(min_pixels=20), quiet())
    names = [CLASSES.names[c.teacher_class] for c in claims]
    assert {"car", "road", "building", "person"} <= set(names)
    for claim in claims:
        assert claim.kind == UnitKind.COMPONENT
        assert claim.confidence == pytest.approx(0.8, abs=1e-3)
        assert (np.diff(claim.rows) > 0).all()
        assert (train[claim.rows] == claim.teacher_class + 1).mean() > 0.97


def test_large_regions_are_split_by_superpixel() -> None:
    made, _ = frame(Scene())
    whole = lift_semantic(class_image(Scene()), made, LiftSettings(erode_px=0), quiet())
    split = lift_semantic(class_image(Scene()), made, LiftSettings(erode_px=0, max_points=500), quiet())
    road = CLASSES.names.index("road")
    assert sum(c.teacher_class == road for c in split) > sum(c.teacher_class == road for c in whole) + 3
    covered = [
        np.sort(np.concatenate([c.rows for c in claims if c.teacher_class == road])) for claims in (whole, split)
    ]
    np.testing.assert_array_equal(*covered)
    assert len(np.unique(covered[1])) == len(covered[1])


def test_boxes_lose_road_and_background() -> None:
    made, train = frame(Scene())
    raw = Scene().picture(poses(1)[0])[1]
    rows, columns = np.nonzero(raw == 10)
    box = np.array([columns.min() - 6, rows.min() - 4, columns.max() + 7, rows.max() + 5], dtype=np.float32)
    car = CLASSES.names.index("car")
    said = Detections(box[None], np.array([car], dtype=np.int16), np.array([0.7], dtype=np.float32))
    claims = lift_detections(said, made, LiftSettings(), quiet())
    assert len(claims) == 1
    assert claims[0].kind == UnitKind.BOX
    inside = ((made.pairs.pixels >= box[:2]) & (made.pairs.pixels < box[2:])).all(axis=1)
    frustum = train[made.pairs.rows[inside]] == car + 1
    assert frustum.mean() < 0.85
    right = train[claims[0].rows] == car + 1
    assert right.mean() > 0.97
    assert right.sum() > 0.75 * frustum.sum()
    weak = Detections(box[None], np.array([car], dtype=np.int16), np.array([0.2], dtype=np.float32))
    assert lift_detections(weak, made, LiftSettings(), quiet()) == []


def test_masks_are_eroded_and_cut() -> None:
    made, train = frame(Scene())
    mask = Scene().picture(poses(1)[0])[1] == 10
    rows, columns = np.nonzero(mask)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float32)
    car = CLASSES.names.index("car")
    said = Detections(box, np.array([car], np.int16), np.array([0.7], np.float32), mask[None])
    wide = lift_detections(said, made, LiftSettings(erode_px=0), quiet())[0]
    claim = lift_detections(said, made, LiftSettings(), quiet())[0]
    assert claim.kind == UnitKind.MASK
    assert set(claim.rows) < set(wide.rows)
    assert (train[claim.rows] == car + 1).all()


def test_gather_is_csr() -> None:
    made, _ = frame(Scene())
    claims = lift_semantic(class_image(Scene()), made, LiftSettings(), quiet())
    units = gather(claims, [0] * len(claims), 0)
    assert units.offsets.dtype == np.int64
    assert (units.points.dtype, units.teacher_class.dtype, units.confidence.dtype) == (np.int32, np.int16, np.float16)
    for number, claim in enumerate(claims):
        np.testing.assert_array_equal(units.rows(number), claim.rows)
    assert np.bincount(units.unit_of_pair(), minlength=len(units)).tolist() == units.sizes().tolist()
    empty = gather([], [], 19)
    assert len(empty) == 0
    assert empty.probabilities.shape == (0, 19)
    assert empty.box.shape == (0, 4)


def test_label_distribution_is_the_mean_over_the_points() -> None:
    made, _ = frame(Scene())
    said = class_image(Scene())
    table = np.zeros((19, HEIGHT // 2, WIDTH // 2), dtype=np.float16)
    table[3], table[7] = 0.25, 0.75
    soft = SemanticMap(said.classes, said.confidence, table)
    claims = lift_semantic(soft, made, LiftSettings(soft=True), quiet())
    units = gather(claims, [0] * len(claims), 19)
    np.testing.assert_allclose(units.probabilities[:, [3, 7]], [[0.25, 0.75]] * len(units), atol=1e-3)


# ---------------------------------------------------------------- noise


def test_noise_is_its_share_and_repeatable() -> None:
    box = np.array([10, 10, 60, 40], dtype=np.float32)
    drawn = [Noise(NoiseSettings(wrong=0.2), SAME.sets, ("00", k, 0)).draw(3, box).kind for k in range(2000)]
    assert 0.17 < np.mean([kind != Spoilt.NOT for kind in drawn]) < 0.23
    for kind in (Spoilt.FLIP, Spoilt.SHIFT, Spoilt.CALIBRATION):
        assert drawn.count(kind) > 80
    again = [Noise(NoiseSettings(wrong=0.2), SAME.sets, ("00", k, 0)).draw(3, box).kind for k in range(2000)]
    assert drawn == again
    assert all(quiet().draw(3, box).kind == Spoilt.NOT for _ in range(50))


def test_flips_share_no_class_with_the_truth() -> None:
    class_map = load_class_map("cityscapes_19", CLASSES)
    noise = Noise(NoiseSettings(wrong=1.0, ways=["flip"]), class_map.sets, ("00", 1, 0))
    bicycle = class_map.vocabulary.index("bicycle")
    flipped = {noise.draw(bicycle, np.zeros(4, np.float32)).teacher_class for _ in range(500)}
    names = {class_map.vocabulary[k] for k in flipped}
    assert "bicycle" not in names
    assert "rider" not in names  # both may mean bicyclist
    assert not names & {"sky", "traffic light"}
    assert len(names) > 10


def test_shifted_units_hold_other_points() -> None:
    made, train = frame(Scene())
    good = lift_semantic(class_image(Scene()), made, LiftSettings(), quiet())
    noise = Noise(NoiseSettings(wrong=1.0, ways=["shift"]), SAME.sets, ("00", 2, 0))
    wrong = lift_semantic(class_image(Scene()), made, LiftSettings(), noise)
    share = [(train[c.rows] == c.teacher_class + 1).mean() for c in good]
    spoilt = [(train[c.rows] == c.teacher_class + 1).mean() for c in wrong]
    assert all(c.spoilt == Spoilt.SHIFT for c in wrong)
    assert np.mean(spoilt) < np.mean(share) - 0.2


# ---------------------------------------------------------------- boxes and feature maps


def test_suppression() -> None:
    boxes = np.array(
        [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 0, 60, 10], [51, 0, 61, 10]], dtype=np.float32
    )
    found = suppress(
        Detections(boxes, np.array([0, 0, 1, 0, 0], np.int16), np.array([0.5, 0.9, 0.6, 0.3, 0.05], np.float32)), 0.1
    )
    assert found.confidence.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert found.classes.tolist() == [0, 1, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_sampling_is_torch_grid_sample(seed: int, high: int, wide: int) -> None:
    import torch
    import torch.nn.functional as F

    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3, high, wide)).astype(np.float32)
    pixels = rng.uniform([0, 0], [31, 17], (20, 2)).astype(np.float32)
    weights = at_pixels(pixels, (17, 31), (high, wide))
    flat = features.reshape(3, -1).T
    found = np.zeros((20, 3))
    np.add.at(found, weights.target, flat[weights.cell] * weights.weight[:, None])
    place = torch.from_numpy(pixels / [31, 17] * 2 - 1).float()[None, None]
    wanted = F.grid_sample(torch.from_numpy(features)[None], place, padding_mode="border", align_corners=False)
    np.testing.assert_allclose(found, wanted[0, :, 0].T, atol=1e-4)
    # over parts: the mean of the enlarged map
    parts = rng.integers(-1, 3, (17, 31)).astype(np.int32)
    weights = over_parts(parts, 4, (high, wide))
    enlarged = F.interpolate(torch.from_numpy(features)[None], (17, 31), mode="bilinear", align_corners=False)[
        0
    ].numpy()
    found = np.zeros((4, 3))
    np.add.at(found, weights.target, flat[weights.cell] * weights.weight[:, None])
    for part in range(3):
        np.testing.assert_allclose(found[part], enlarged[:, parts == part].mean(axis=1), atol=1e-4)
    assert not (weights.target == 3).any()
