"""The registration study: errors are measured right, and its table says what they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances_world import CAR, PERSON, SIZES, TRUCK, World, make_world

from kd_seg.classes import load_classes
from kd_seg.core.geometry import invert, rigid, rotation_z, transform
from kd_seg.scans.truth import ObjectTruth
from kd_seg.streets.writer import write_truth
from kd_seg.studies import registration
from kd_seg.studies.registration import OURS, PairError, markdown, summarise

MOVING = {TRUCK: "truck", PERSON: "person", CAR: "car"}


def write_world_truth(world: World, scans: int) -> None:
    """Beside the world's scans, where its objects truly are."""
    for index in range(scans):
        seen = invert(world.poses[index])
        objects = [
            ObjectTruth(word, kind, seen @ world.objects[word][index], np.zeros(3), np.array(SIZES[word]), 0)
            for word, kind in MOVING.items()
        ]
        write_truth(world.root, "00", index, objects, np.ones(8, bool))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The cells of the table that the command prints for a world of five scans."""
    import contextlib
    import io

    root = tmp_path_factory.mktemp("world")
    write_world_truth(make_world(root, scans=5, background=300), 5)
    text, before = io.StringIO(), sys.argv
    sys.argv = ["registration", str(root), "--earlier", "2"]
    try:
        with contextlib.redirect_stdout(text):
            registration.main()
    finally:
        sys.argv = before
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.getvalue().splitlines() if line]


def row(printed: list[list[str]], name: str, method: str) -> dict[str, float]:
    (cells,) = [cells for cells in printed if cells[:2] == [name, method]]
    return dict(zip(("pairs", "median", "p95", "deg", "p95_deg"), map(float, cells[2:]), strict=True))


def test_the_command_measures_every_method_on_the_same_pairs(printed: list[list[str]]) -> None:
    methods = ("ego-motion only", "centroid", "Open3D ICP", OURS)
    assert {row(printed, "truck", method)["pairs"] for method in methods} == {2 * 3 + 1}
    assert row(printed, "all", OURS)["pairs"] >= row(printed, "truck", OURS)["pairs"] + 7


def test_without_alignment_the_error_is_the_objects_own_motion(printed: list[list[str]]) -> None:
    """The person walks 0.12 m between scans; pairs are 1 or 2 scans apart."""
    person = row(printed, "person", "ego-motion only")
    assert 0.12 - 0.005 <= person["median"] <= 0.24 + 0.005
    assert person["p95"] == pytest.approx(0.24, abs=0.01)
    assert person["deg"] == pytest.approx(0.0, abs=0.01)


def test_registration_is_better_than_doing_nothing(printed: list[list[str]]) -> None:
    truck, nothing = row(printed, "truck", OURS), row(printed, "truck", "ego-motion only")
    assert nothing["median"] > 1.0
    assert truck["median"] < 0.15


def test_shares_of_the_ways_of_alignment_add_up(printed: list[list[str]]) -> None:
    start = next(n for n, cells in enumerate(printed) if cells[1:2] == ["icp"])
    shares = {cells[0]: [float(cell.rstrip(" %")) for cell in cells[1:]] for cells in printed[start + 2 :]}
    assert set(shares) >= {"truck", "person", "all"}
    assert all(sum(values) == pytest.approx(100.0, abs=0.3) for values in shares.values())


@given(st.floats(-3.0, 3.0), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_an_error_is_the_mean_distance_and_the_angle_between_motions(angle: float, x: float, y: float) -> None:
    xyz = np.random.default_rng(0).normal(size=(20, 3))
    found, true = rigid(rotation_z(angle), [x, y, 0.0]), np.eye(4)
    error = registration._error("truck", "m", 1, found, true, xyz, "")
    assert error.metres == pytest.approx(np.linalg.norm(transform(found, xyz) - xyz, axis=1).mean())
    assert error.degrees == pytest.approx(abs(np.rad2deg(angle)), abs=1e-3)


def test_the_centroid_aligner_moves_means_onto_each_other() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(30, 3)), rng.normal(2.0, 1.0, size=(40, 3))
    motion = registration.centroid(source, target)
    assert np.allclose(transform(motion, source).mean(axis=0), target.mean(axis=0))
    assert np.allclose(motion[:3, :3], np.eye(3))
    assert np.array_equal(registration.ego_only(source, target), np.eye(4))


def test_open3d_finds_a_small_shift_of_a_dense_shape() -> None:
    rng = np.random.default_rng(2)
    sides = rng.uniform(-1, 1, (900, 3))
    sides[np.arange(900), rng.integers(0, 3, 900)] = 1.0
    shift = np.array([0.1, -0.05, 0.02])
    assert np.allclose(registration.open3d_icp(sides, sides + shift)[:3, 3], shift, atol=1e-3)


def test_dropped_pairs_count_in_the_shares_but_not_in_the_errors() -> None:
    errors = [
        PairError("truck", OURS, 1, 0.1, 1.0, "icp"),
        PairError("truck", OURS, 1, 0.3, 3.0, "icp"),
        PairError("truck", OURS, 1, 9.0, 90.0, "dropped"),
        PairError("person", OURS, 1, 5.0, 2.0, "dropped"),
        PairError("truck", "centroid", 1, 2.0, 0.0, ""),
    ]
    rows = summarise(errors, ("car", "truck", "person"))
    assert [(r.name, r.method) for r in rows] == [
        ("truck", OURS), ("truck", "centroid"), ("all", OURS), ("all", "centroid"),
    ]  # fmt: skip
    first = rows[0]
    assert (first.pairs, first.median_m, first.median_deg) == (2, 0.2, 2.0)
    assert first.p95_m == pytest.approx(0.29)
    assert first.used == {
        "icp": pytest.approx(2 / 3), "translation": 0.0, "shift": 0.0, "ego": 0.0, "dropped": pytest.approx(1 / 3),
    }  # fmt: skip
    assert rows[1].used == {}
    text = markdown(rows)
    assert "| truck | ours | 2 | 0.200 | 0.290 | 2.00 | 2.90 |" in text
    assert "| truck | 66.7 % | 0.0 % | 0.0 % | 0.0 % | 33.3 % |" in text


def test_pairs_without_truth_or_with_few_points_are_left_out(tmp_path: Path) -> None:
    from instances_world import work

    from kd_seg.instances.fusion import Fuser, prepare_fusion
    from kd_seg.instances.settings import CloudSettings, FusionSettings, LibrarySettings

    world = make_world(tmp_path, scans=3, background=200)
    write_world_truth(world, 3)
    settings = FusionSettings(library=LibrarySettings(decoy_clutter=0.0), cloud=CloudSettings(earlier=1))
    data, classes = world.data(), load_classes()
    prepare_fusion(tmp_path / "cache", data, classes, settings, work())
    fuser = Fuser.open(tmp_path / "cache", data, classes, settings, "kd-seg prepare test")
    found = list(registration.pair_errors(fuser, classes, aligners={}))
    assert {(e.method, e.gap) for e in found} == {(OURS, 1)}
    assert list(registration.pair_errors(fuser, classes, minimum=10**6, aligners={})) == []
    for index in range(3):
        write_truth(tmp_path, "00", index, [], np.ones(8, bool))
    assert list(registration.pair_errors(fuser, classes, aligners={})) == []
