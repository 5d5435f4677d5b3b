"""An object has one class in all its scans, that of their votes together; places of the world are not asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_tiny

from kd_seg.adaptation.kinds import kinds, movers
from kd_seg.adaptation.object_votes import ObjectVotes, object_votes
from kd_seg.adaptation.vote import Vote
from kd_seg.classes import load_classes
from kd_seg.scans import KittiSequence, SemanticKitti

CLASSES = load_classes()
CAR, TRUCK, PERSON, BICYCLIST, ROAD = (
    CLASSES.names.index(name) for name in ("car", "truck", "person", "bicyclist", "road")
)
SIZE = 30
"""Points of an object, and of the road, in each scan."""


def make_vote(rows: list[tuple[int, int, float]]) -> Vote:
    """SIZE points for each (class, second class, probability of the first)."""
    found = np.zeros((SIZE * len(rows), len(CLASSES)), np.float32)
    for number, (first, second, probability) in enumerate(rows):
        own = slice(number * SIZE, (number + 1) * SIZE)
        found[own, first], found[own, second] = probability, 1.0 - probability
    return Vote(found, np.full(len(found), 0.5, np.float32), np.ones(len(found), np.int32))


@pytest.fixture
def sequence(tmp_path: Path) -> KittiSequence:
    """Four scans of a walker, 1.2 m further in each, a standing vehicle, and road."""
    data = SemanticKitti(write_tiny(tmp_path / "data", ("00",), 4))
    rng = np.random.default_rng(0)
    for index in range(4):
        pose = data.scan("00", index).pose
        assert pose is not None
        centres = [[10.0 + 1.2 * index, 5.0, 0.0], [20.0, -8.0, 0.0], [6.0, 0.0, -1.7]]
        world = np.concatenate([rng.uniform(-0.3, 0.3, (SIZE, 3)) + centre for centre in centres])
        local = (world - pose[:3, 3]) @ pose[:3, :3]
        points = np.column_stack([local, np.full(len(local), 0.3)]).astype("<f4")
        (tmp_path / f"data/sequences/00/velodyne/{index:06d}.bin").write_bytes(points.tobytes())
    return SemanticKitti(tmp_path / "data").sequences["00"]


def votes_of(walker: list[tuple[int, int, float]], vehicle: list[tuple[int, int, float]]) -> list[Vote]:
    return [make_vote([one, two, (ROAD, PERSON, 0.9)]) for one, two in zip(walker, vehicle, strict=True)]


def find(sequence: KittiSequence, votes: list[Vote], folder: Path) -> ObjectVotes:
    return object_votes([("00", sequence, index, found) for index, found in enumerate(votes)], CLASSES, folder)


def test_an_object_has_the_class_that_all_its_scans_say_together(sequence: KittiSequence, tmp_path: Path) -> None:
    walker = [(PERSON, BICYCLIST, 0.9), (BICYCLIST, PERSON, 0.6), (PERSON, BICYCLIST, 0.8), (PERSON, ROAD, 0.7)]
    vehicle = [(TRUCK, CAR, 0.9), (CAR, TRUCK, 0.55), (TRUCK, CAR, 0.9), (TRUCK, PERSON, 0.8)]
    votes = votes_of(walker, vehicle)
    objects = find(sequence, votes, tmp_path / "objects")
    assert objects.class_id.tolist() == [TRUCK, PERSON]  # vehicles are numbered first
    assert objects.share[1] == pytest.approx((0.9 + 0.4 + 0.8 + 0.7) / 3.7, abs=1e-5)
    for index, found in enumerate(votes):
        identity = objects.identity("00", index)
        np.testing.assert_array_equal(identity, np.repeat([2, 1, 0], SIZE))
        voted = objects.apply(found, identity)
        assert voted.distribution.argmax(axis=1).tolist() == [PERSON] * SIZE + [TRUCK] * SIZE + [ROAD] * SIZE
        np.testing.assert_allclose(voted.distribution.sum(axis=1), 1.0, atol=1e-6)
        np.testing.assert_array_equal(voted.distribution[2 * SIZE :], found.distribution[2 * SIZE :])
        np.testing.assert_allclose(voted.agreement, np.repeat([*objects.share[::-1], 0.5], SIZE), rtol=1e-6)
    last = objects.apply(votes[3], objects.identity("00", 3)).distribution
    assert last[0, PERSON] == pytest.approx(0.7)  # what the point held for the road stays there
    assert last[SIZE, PERSON] == pytest.approx(0.2)  # and so does another kind's


def test_a_vehicle_keeps_its_classes_where_its_scans_do_not_decide(sequence: KittiSequence, tmp_path: Path) -> None:
    """Two vehicles in one cluster; a smaller thing always has one class."""
    walker = [(PERSON, BICYCLIST, 0.9), (BICYCLIST, PERSON, 0.9), (PERSON, BICYCLIST, 0.6), (BICYCLIST, PERSON, 0.55)]
    vehicle = [(TRUCK, CAR, 0.9), (CAR, TRUCK, 0.55), (TRUCK, CAR, 0.6), (CAR, PERSON, 0.8)]
    votes = votes_of(walker, vehicle)
    objects = find(sequence, votes, tmp_path / "objects")
    assert objects.share.max() < 0.7
    for index, found in enumerate(votes):
        voted = objects.apply(found, objects.identity("00", index))
        np.testing.assert_array_equal(voted.distribution[SIZE:], found.distribution[SIZE:])
        np.testing.assert_array_equal(voted.agreement[SIZE:], found.agreement[SIZE:])
        assert (voted.distribution[:SIZE].argmax(axis=1) == PERSON).all()


def test_kinds_are_not_mixed_and_few_points_are_no_object(sequence: KittiSequence, tmp_path: Path) -> None:
    walker = [(PERSON, ROAD, 0.9)] * 4
    votes = votes_of(walker, [(ROAD, TRUCK, 0.9)] * 4)
    for found in votes:
        found.distribution[SIZE : SIZE + 5] = np.eye(len(CLASSES), dtype=np.float32)[CAR]
    objects = find(sequence, votes, tmp_path / "objects")
    assert objects.class_id.tolist() == [PERSON]
    changed = objects.apply(votes[0], objects.identity("00", 0))
    np.testing.assert_array_equal(changed.distribution[SIZE:], votes[0].distribution[SIZE:])


def test_a_drive_without_things_has_no_objects(sequence: KittiSequence, tmp_path: Path) -> None:
    votes = votes_of([(ROAD, PERSON, 0.9)] * 4, [(ROAD, CAR, 0.9)] * 4)
    objects = find(sequence, votes, tmp_path / "objects")
    assert len(objects.class_id) == 0
    np.testing.assert_array_equal(
        objects.apply(votes[0], objects.identity("00", 0)).distribution, votes[0].distribution
    )


@pytest.mark.parametrize("table", ["semantic_kitti_19", "semantic_kitti_25", "nuscenes_16"])
def test_every_thing_of_every_shipped_table_has_one_kind(table: str) -> None:
    classes = load_classes(table)
    large, small = kinds(classes)
    assert sorted(large + small) == sorted(classes.things)
    assert {"car", "truck"} <= {classes.names[c] for c in large}
    assert {"bicycle", "motorcycle"} <= {classes.names[c] for c in small}
    assert {"person", "pedestrian"} & {classes.names[c].removeprefix("moving-") for c in movers(classes)}
    assert set(movers(classes)) < set(small)
