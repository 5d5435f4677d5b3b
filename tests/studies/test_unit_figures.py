"""The studies of units: which objects they hold, and whether re-scoring is right, by counts worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images_runs import export_maps, units_entry
from images_scene import Scene, write_scene

from kd_seg.classes import load_classes
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.images.units.units import Claim, UnitKind, gather
from kd_seg.studies import image_teacher, unit_objects, unit_scores
from kd_seg.studies.unit_objects import UnitTally

CLASSES = load_classes()
MAP = load_class_map("cityscapes_19", CLASSES)
CAR, ROAD = MAP.vocabulary.index("car"), MAP.vocabulary.index("road")
FIRST, SECOND = (1 << 16) | 10, (2 << 16) | 10
"""Label words of two cars."""


def claim(rows: list[int], teacher_class: int) -> Claim:
    box = np.zeros(4, np.float32)
    return Claim(np.array(rows, np.int32), teacher_class, 1.0, box, UnitKind.COMPONENT)


def count(words: list[int], claims: list[Claim], seen: list[int] | None = None) -> dict[str, float]:
    tally = UnitTally()
    units = gather(claims, [0] * len(claims), 0)
    rows = np.array(range(len(words)) if seen is None else seen, np.int64)
    unit_objects._count(tally, units, np.array(words, np.uint32), rows, MAP, CLASSES)
    return tally.row()


def test_a_unit_of_one_whole_car_is_pure() -> None:
    row = count([FIRST] * 12 + [40] * 5, [claim(list(range(12)), CAR)])
    assert (row["units"], row["purity"], row["right"], row["points_covered"]) == (1.0, 1.0, 1.0, 1.0)
    assert (row["several_objects"], row["objects_found"], row["units_per_object"]) == (0.0, 1.0, 1.0)


def test_a_unit_over_two_cars_and_the_road_holds_several() -> None:
    row = count([FIRST] * 20 + [SECOND] * 10 + [40] * 10, [claim(list(range(40)), CAR)])
    assert (row["several_objects"], row["purity"], row["right"]) == (1.0, 0.5, 0.75)
    assert row["objects_found"] == 0.5  # the second car has 10 points, but is not the unit's largest object


def test_a_few_points_of_a_neighbour_are_not_an_object() -> None:
    few = count([FIRST] * 60 + [SECOND] * 4, [claim(list(range(64)), CAR)])
    small_share = count([FIRST] * 95 + [SECOND] * 6, [claim(list(range(101)), CAR)])
    assert few["several_objects"] == small_share["several_objects"] == 0.0


def test_units_of_stuff_and_of_wrong_classes_count_apart() -> None:
    words = [FIRST] * 12 + [40] * 8
    assert count(words, [claim(list(range(12, 20)), ROAD)])["units"] == 0.0
    wrong = count(words, [claim(list(range(12, 20)), CAR)])
    assert (wrong["units"], wrong["right"], wrong["purity"], wrong["points_covered"]) == (1.0, 0.0, 0.0, 0.0)


def test_only_what_a_picture_shows_can_be_found() -> None:
    words = [FIRST] * 30
    assert count(words, [claim(list(range(12)), CAR)], seen=list(range(12)))["points_covered"] == 1.0
    assert count(words, [claim(list(range(12)), CAR)], seen=list(range(24)))["points_covered"] == 0.5
    unseen = count(words, [claim(list(range(12)), CAR)], seen=list(range(5)))
    assert (unseen["objects_found"], unseen["units_per_object"]) == (0.0, 0.0)


def test_two_units_on_one_car_are_both_counted() -> None:
    row = count([FIRST] * 30, [claim(list(range(15)), CAR), claim(list(range(15, 30)), CAR)])
    assert (row["units"], row["objects_found"], row["units_per_object"]) == (2.0, 1.0, 2.0)


def test_nothing_gives_zeros() -> None:
    assert set(UnitTally().row().values()) == {0.0}


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1))
def test_rows_of_the_scores_are_weighted_means(units: list[tuple[int, float, float]]) -> None:
    """Against plain sums: points that are right, weighted by s_u, among dropped units, and what is kept."""
    table = np.array([(0, n, right, score, 0) for n, right, score in units], dtype=np.float64)
    row = unit_scores._row("all", table)
    total = sum(n for n, _, _ in units)
    assert row["count"] == len(units)
    assert row["right"] == pytest.approx(sum(n * right for n, right, _ in units) / total, abs=6e-4)
    weight = sum(n * score for n, _, score in units)
    if weight > 0:
        expected = sum(n * right * score for n, right, score in units) / weight
        assert row["right_weighted"] == pytest.approx(expected, abs=6e-4)
    else:
        assert row["right_weighted"] is None
    assert row["dropped"] == sum(score == 0 for _, _, score in units)
    assert (row["right_dropped"] is None) == (row["dropped"] == 0)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A configuration with a teacher of exported maps, as words of a command line."""
    import yaml

    folder = tmp_path_factory.mktemp("world")
    root = write_scene(folder / "data", Scene(), count=1, pictures=(0,))
    world = root, export_maps(folder / "maps", root)
    content = {"data": {"root": str(root)}, "objectives": [units_entry(world)], "run": {"steps": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return (str(folder / "config.yaml"),)


@pytest.mark.parametrize(
    ("study", "extra", "keys"),
    [
        (unit_objects, (), {"whole", "split"}),
        (image_teacher, ("--sequences", "00"), {"points_seen", "points_answered", "teacher_right", "scores"}),
    ],
)
def test_the_studies_run_from_the_command_line(
    study: object,
    extra: tuple[str, ...],
    keys: set[str],
    asked: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for json_asked in (True, False):
        monkeypatch.setattr(sys, "argv", ["study", *asked, *extra, *(["--json"] if json_asked else [])])
        study.main()  # type: ignore[attr-defined]
        text = capsys.readouterr().out
        if json_asked:
            assert set(json.loads(text)) == keys
        else:
            assert len(text.splitlines()) >= 2


def test_studies_read_scans_as_training_does(asked: tuple[str, ...]) -> None:
    overrides = ["data.columns=5", "data.dtype=float64", "data.sensor.intensity_range=byte"]
    _, data, _ = image_teacher.teacher_of(asked[0], overrides, ["00"])
    form = data.sequences["00"].form
    assert (form.columns, form.dtype, form.intensity_range) == (5, "float64", "byte")


def test_splitting_never_makes_fewer_units(asked: tuple[str, ...], tmp_path: Path) -> None:
    entry, data, classes = image_teacher.teacher_of(asked[0], [])
    found = unit_objects.measure(entry.source(), data, data.keys(), classes)
    assert found["split"]["units"] >= found["whole"]["units"] > 0
    assert found["split"]["objects_found"] >= found["whole"]["objects_found"]
