"""Objects that touch in a picture: told apart in space, each a unit of its own, and stuff left whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_frame import CLASSES, SAME, class_image, frame, quiet
from images_scene import BUILDING, CAR, Scene, poses, write_scene

from kd_seg.core.config import validate
from kd_seg.images.regions.partitions import components
from kd_seg.images.teachers import SemanticMap
from kd_seg.images.units.cache import UnitSource
from kd_seg.images.units.lifting import LiftSettings, PictureFrame, lift_semantic
from kd_seg.images.units.noise import Noise, NoiseSettings
from kd_seg.images.units.objects import ObjectSettings, split_objects
from kd_seg.images.units.units import Claim, Spoilt
from kd_seg.scans import SemanticKitti
from kd_seg.studies import unit_objects

FREE = ObjectSettings(link_relative=0.0, least_points=1, least_share=0.0)
"""Links of 0.4 m everywhere, and no object too small."""


def cloud(*places: tuple[float, float], z: float = 0.0) -> np.ndarray:
    return np.array([(x, y, z) for x, y in places], dtype=np.float32)


# ---------------------------------------------------------------- splitting points


def test_chains_of_links_are_objects() -> None:
    points = cloud((0, 0), (9.0, 0), (0.375, 0), (9.0, 0.375), (0.75, 0), (9.0, 0.8125))
    assert split_objects(points, FREE).tolist() == [0, 1, 0, 1, 0, 2]  # 0.4375 m is more than 0.4 m
    wider = FREE.model_copy(update={"link_m": 0.5})
    assert split_objects(points, wider).tolist() == [0, 1, 0, 1, 0, 1]


def test_the_largest_comes_first_and_equal_ones_in_order() -> None:
    points = cloud((5, 0), (1, 1), (3, 0), (3, 0.1), (1, 1.1), (3, 0.2))
    assert split_objects(points, FREE).tolist() == [2, 1, 0, 0, 1, 0]
    assert split_objects(points[:1], FREE).tolist() == [0]
    assert split_objects(points[:0], FREE).tolist() == []


def test_height_does_not_matter() -> None:
    points = np.concatenate([cloud((4, 0), (4, 0.1)), cloud((4, 0.05), z=1.4)])
    assert split_objects(points, FREE).tolist() == [0, 0, 0]


def test_links_grow_with_the_range_of_the_nearer_point() -> None:
    far = cloud((40.0, 0.0), (40.75, 0.0), (41.625, 0.0))  # links of 0.8 and 0.815 m
    assert split_objects(far, FREE.model_copy(update={"link_relative": 0.02})).tolist() == [0, 0, 1]
    assert split_objects(far, FREE).tolist() == [0, 1, 2]


def test_small_ones_are_left_out() -> None:
    car = cloud(*[(10.0, 0.1 * k) for k in range(95)])
    seen_through = cloud(*[(20.0, 0.1 * k) for k in range(5)])
    points = np.concatenate([seen_through, car])
    assert split_objects(points, ObjectSettings()).tolist() == [1] * 5 + [0] * 95  # 5 of 100 are 5 %
    assert split_objects(points[1:], ObjectSettings()).tolist() == [-1] * 4 + [0] * 95  # fewer than 5
    assert split_objects(points, ObjectSettings(least_share=0.06)).tolist() == [-1] * 5 + [0] * 95
    assert split_objects(points[:4], ObjectSettings()).tolist() == [-1] * 4


def plain(points: np.ndarray, options: ObjectSettings) -> list[int]:
    """By flooding from each point."""
    xy = points[:, :2].astype(np.float64)
    reach = np.maximum(options.link_m, options.link_relative * np.hypot(xy[:, 0], xy[:, 1]))
    gap = np.square(xy[:, None] - xy[None]).sum(axis=2)
    linked = gap <= np.square(np.minimum(reach[:, None], reach[None]))
    groups: list[list[int]] = []
    for start in range(len(points)):
        if any(start in group for group in groups):
            continue
        group, waiting = {start}, [start]
        while waiting:
            for other in np.flatnonzero(linked[waiting.pop()]).tolist():
                if other not in group:
                    group.add(other)
                    waiting.append(other)
        groups.append(sorted(group))
    least = max(options.least_points, options.least_share * len(points))
    label = np.full(len(points), -1)
    for number, group in enumerate(sorted((g for g in groups if len(g) >= least), key=len, reverse=True)):
        label[group] = number
    return label.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.sampled_from([0.0, 0.02, 0.2]), st.sampled_from([1, 4]))
def test_splitting_is_flooding(seed: int, count: int, relative: float, least: int) -> None:
    points = np.random.default_rng(seed).uniform(-4, 4, (count, 4)).astype(np.float32)
    options = ObjectSettings(link_relative=relative, least_points=least)
    assert split_objects(points, options).tolist() == plain(points, options)


# ---------------------------------------------------------------- lifting


def row_of_cars() -> Scene:
    """Two cars one behind the other, the far one seen beside and above the near one; a building in two depths."""
    return Scene(
        [
            ((8.0, -1.0, -1.73), (11.5, 0.8, -0.3), CAR | 1 << 16),
            ((15.0, -2.4, -1.73), (18.5, -0.6, 0.2), CAR | 2 << 16),
            ((25.0, -15.0, -1.73), (27.0, 4.0, 6.0), BUILDING),
            ((33.0, 4.0, -1.73), (35.0, 20.0, 6.0), BUILDING),
        ]
    )


def lift(
    scene: Scene, name: str, noise: Noise | None = None, **options: Any
) -> tuple[list[Claim], np.ndarray, PictureFrame]:
    """Claims of one class, the label word of every point, and the view."""
    made, _ = frame(scene)
    checked = validate(LiftSettings, {"min_pixels": 20, **options}, "test")
    claims = lift_semantic(class_image(scene), made, checked, noise or quiet())
    words = scene.scan(poses(1)[0])[1]
    return [c for c in claims if c.teacher_class == CLASSES.names.index(name)], words, made


def test_cars_that_touch_are_units_of_their_own() -> None:
    scene = row_of_cars()
    said = class_image(scene)
    found = components(said, SAME.mapped, 0.5, 20)
    assert (found.teacher_class == CLASSES.names.index("car")).sum() == 1  # one component
    claims, words, made = lift(scene, "car")
    assert len(claims) == 2
    assert len(claims[0].rows) > len(claims[1].rows)
    held = [np.unique(words[claim.rows]) for claim in claims]
    assert sorted(int(word) for one in held for word in one) == [CAR | 1 << 16, CAR | 2 << 16]
    assert all(len(one) == 1 for one in held)
    for claim in claims:
        inside = np.isin(made.pairs.rows, claim.rows)
        pixels = made.pairs.pixels[inside]
        assert (np.diff(claim.rows) > 0).all()
        assert (pixels >= claim.box[:2]).all()
        assert (pixels < claim.box[2:]).all()
        assert claim.confidence == pytest.approx(0.8, abs=1e-3)
    together = lift(scene, "car", objects={"split": False})[0]
    assert len(together) == 1  # the far car is nobody's
    assert set(claims[0].rows) | set(claims[1].rows) > set(together[0].rows)


def test_stuff_is_not_split() -> None:
    for options in ({}, {"objects": {"split": False}}):
        claims, words, _ = lift(row_of_cars(), "building", **options)
        assert len(claims) == 1
        assert set(words[claims[0].rows]) == {BUILDING}
        assert np.ptp(frame(row_of_cars())[0].points[claims[0].rows, 0]) > 5.0  # both depths


def test_objects_are_not_cut_up_by_superpixels() -> None:
    claims, _, _ = lift(row_of_cars(), "car", max_points=20)
    assert len(claims) == 2
    assert len(lift(row_of_cars(), "building", max_points=20)[0]) > 2


def test_a_single_object_keeps_the_components_box() -> None:
    scene = Scene()
    found = components(class_image(scene), SAME.mapped, 0.5, 20)
    box = found.boxes[found.teacher_class == CLASSES.names.index("car")]
    claims, words, _ = lift(scene, "car")
    assert len(claims) == len(box) == 1
    assert claims[0].box.tolist() == box[0].tolist()
    assert set(words[claims[0].rows]) == {CAR | 1 << 16}


def test_each_object_is_spoilt_for_itself() -> None:
    """A shifted object takes its own box along: what it then holds lies there, and is not it."""
    noise = Noise(NoiseSettings(wrong=1.0, ways=["shift"], shift=0.5), SAME.sets, ("00", 3, 0))
    good, _, made = lift(row_of_cars(), "car")
    spoilt, _, _ = lift(row_of_cars(), "car", noise)
    assert 0 < len(spoilt) <= 2
    boxes = {tuple(c.box.tolist()) for c in good}
    for claim in spoilt:
        assert claim.spoilt == Spoilt.SHIFT
        assert tuple(claim.box.tolist()) in boxes
        pixels = made.pairs.pixels[np.isin(made.pairs.rows, claim.rows)]
        size = claim.box[2:] - claim.box[:2]
        assert (np.ptp(pixels, axis=0) <= size).all()
        own = next(c for c in good if c.box.tolist() == claim.box.tolist())
        assert set(claim.rows) != set(own.rows)


def test_each_object_has_its_own_distribution() -> None:
    scene = row_of_cars()
    made, _ = frame(scene)
    said = class_image(scene)
    table = np.zeros((19, *said.classes.shape), dtype=np.float16)
    car, truck = CLASSES.names.index("car"), CLASSES.names.index("truck")
    left = np.arange(said.classes.shape[1]) < 165  # most of the near car lies there, little of the far one
    table[car], table[truck] = left, ~left
    soft = replace(said, probabilities=table)
    assert isinstance(soft, SemanticMap)
    options = LiftSettings(min_pixels=20, soft=True)
    claims = [c for c in lift_semantic(soft, made, options, quiet()) if c.teacher_class == car]
    for claim in claims:
        assert claim.probabilities is not None
        pixels = made.pairs.pixels[np.isin(made.pairs.rows, claim.rows)]
        assert float(claim.probabilities[car]) == pytest.approx((pixels[:, 0] < 165).mean(), abs=2e-3)
    first, second = (float(c.probabilities[car]) for c in claims if c.probabilities is not None)
    assert abs(first - second) > 0.2


# ---------------------------------------------------------------- measuring it


def test_the_measure_tells_both_ways_apart(tmp_path: Path) -> None:
    data = SemanticKitti(write_scene(tmp_path, row_of_cars(), count=2))
    source = validate(UnitSource, {"teacher": {"kind": "class_images"}, "class_map": "same"}, "test")
    found = unit_objects.measure(source, data, data.keys(), CLASSES)
    whole, split = found["whole"], found["split"]
    assert (whole["units"], split["units"]) == (2, 4)  # in two scans
    assert (whole["objects_found"], split["objects_found"]) == (0.5, 1.0)
    assert whole["several_objects"] == split["several_objects"] == 0.0
    assert whole["purity"] == split["purity"] == split["right"] == split["units_per_object"] == 1.0
    assert split["points_covered"] > whole["points_covered"] + 0.05


def test_units_of_several_objects_are_counted() -> None:
    tally = unit_objects.UnitTally(
        size=[100, 10, 50],
        largest=[60, 10, 25],
        right=[100, 10, 40],
        objects=[2, 1, 2],
        visible=[80, 9, 20, 30],
        covered=[60, 9, 0, 25],
        units=[2, 1, 0, 1],
    )
    row = tally.row()
    assert row["several_objects"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["purity"] == pytest.approx((0.6 + 1.0 + 0.5) / 3, abs=1e-4)
    assert row["right"] == pytest.approx(150 / 160, abs=1e-4)
    assert row["points_covered"] == pytest.approx(94 / 139, abs=1e-4)
    assert row["objects_found"] == pytest.approx(2 / 3, abs=1e-4)  # of three with ten points
    assert row["units_per_object"] == 1.5
    assert unit_objects.UnitTally().row()["units"] == 0
