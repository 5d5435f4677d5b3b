"""Class tables against the published ones of semantic-kitti-api: raw id, name, 19-way, 25-way, RGB, share of points."""

from pathlib import Path

import numpy as np
import pytest

from kd_seg.classes import INVALID, ClassTable, load_classes
from kd_seg.core.errors import ConfigError, DataError

PUBLISHED = """
   0 unlabeled              0   0  0,0,0        1.889e-2
   1 outlier                0   0  255,0,0      2.937e-4
  10 car                    1   1  100,150,245  4.082e-2
  11 bicycle                2   2  100,230,245  1.661e-4
  13 bus                    5   5  100,80,250   2.788e-5
  15 motorcycle             3   3  30,60,150    3.984e-4
  16 on-rails               5   5  0,0,255      0
  18 truck                  4   4  80,30,180    2.063e-3
  20 other-vehicle          5   5  0,0,255      1.622e-3
  30 person                 6   6  255,30,30    1.770e-4
  31 bicyclist              7   7  255,40,200   1.107e-8
  32 motorcyclist           8   8  150,30,90    5.533e-9
  40 road                   9   9  255,0,255    1.987e-1
  44 parking               10  10  255,150,255  1.472e-2
  48 sidewalk              11  11  75,0,75      1.439e-1
  49 other-ground          12  12  175,0,75     3.905e-3
  50 building              13  13  255,200,0    1.327e-1
  51 fence                 14  14  255,120,50   7.236e-2
  52 other-structure        0   0  255,150,0    2.395e-3
  60 lane-marking           9   9  150,255,170  4.708e-5
  70 vegetation            15  15  0,175,0      2.668e-1
  71 trunk                 16  16  135,60,0     6.035e-3
  72 terrain               17  17  150,240,80   7.814e-2
  80 pole                  18  18  255,240,150  2.855e-3
  81 traffic-sign          19  19  255,0,0      6.156e-4
  99 other-object           0   0  50,255,255   9.923e-3
 252 moving-car             1  20  100,150,245  1.789e-3
 253 moving-bicyclist       7  21  255,40,200   1.271e-4
 254 moving-person          6  22  255,30,30    1.606e-4
 255 moving-motorcyclist    8  23  150,30,90    3.746e-5
 256 moving-on-rails        5  24  0,0,255      0
 257 moving-bus             5  24  100,80,250   1.135e-4
 258 moving-truck           4  25  80,30,180    1.016e-4
 259 moving-other-vehicle   5  24  0,0,255      4.384e-5
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]
INVERSE_19 = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
INVERSE = {"semantic_kitti_19": INVERSE_19, "semantic_kitti_25": (*INVERSE_19, 252, 253, 254, 255, 259, 258)}
HARD_19 = ("bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist")


@pytest.mark.parametrize(("name", "column"), [("semantic_kitti_19", 2), ("semantic_kitti_25", 3)])
def test_table_is_the_published_one(name: str, column: int) -> None:
    table = load_classes(name)
    assert table.raw_train == {int(row[0]): int(row[column]) for row in ROWS}
    assert table.raw_names == {int(row[0]): row[1] for row in ROWS}
    for row in ROWS:
        assert table.raw_shares[int(row[0])] == pytest.approx(float(row[5]), rel=1e-9)
    assert table.raw_ids == INVERSE[name]
    colours = {int(row[0]): [int(v) for v in row[4].split(",")] for row in ROWS}
    assert table.colours.tolist() == [colours[raw] for raw in table.raw_ids]
    assert [table.names[i] for i in range(len(table))] == [table.raw_names[raw] for raw in table.raw_ids]


def test_hard_classes_and_their_shares() -> None:
    table = load_classes("semantic_kitti_19")
    assert tuple(table.names[column] for column in table.hard) == HARD_19
    merged = dict(zip(table.names, table.shares(), strict=True))
    assert merged["truck"] == pytest.approx(2.16e-3, rel=0.01)
    assert merged["bicyclist"] == pytest.approx(1.27e-4, rel=0.01)
    assert merged["motorcyclist"] == pytest.approx(3.75e-5, rel=0.01)


def test_numberings_meet() -> None:
    table = load_classes("semantic_kitti_19")
    words = np.array([252 | 7 << 16, 0, 1, 40, 259], dtype=np.uint32)
    train = table.to_train(words, "here")
    assert train.dtype == np.uint8
    assert train.tolist() == [1, 0, 0, 9, 5]
    column = table.train_to_class(train)
    assert column.tolist() == [0, INVALID, INVALID, 8, 4]
    assert table.class_to_train(column).tolist() == train.tolist()
    raw = table.class_to_raw(column)
    assert raw.dtype == np.uint32
    assert raw.tolist() == [10, 0, 0, 40, 20]


def test_every_class_survives_the_way_to_disk_and_back() -> None:
    for name in INVERSE:
        table = load_classes(name)
        columns = np.arange(len(table), dtype=np.uint8)
        assert table.train_to_class(table.to_train(table.class_to_raw(columns), name)).tolist() == columns.tolist()


def test_unknown_raw_id_names_the_file_and_the_point() -> None:
    table = load_classes("semantic_kitti_19")
    words = np.array([40, 12 | 3 << 16, 12], dtype=np.uint32)
    with pytest.raises(DataError, match=r"0\.label: unknown raw class 12 at point 1 \(2 points"):
        table.to_train(words, "0.label")
    train, unknown = table.to_train_lenient(words)
    assert (train.tolist(), unknown) == ([9, 0, 0], 2)


def test_json_round_trip() -> None:
    table = load_classes("semantic_kitti_25")
    again = ClassTable.from_json(table.to_json())
    assert again.to_json() == table.to_json()
    assert again.shares().tolist() == table.shares().tolist()


def test_names_to_columns() -> None:
    table = load_classes()
    assert table.columns(["person", "car"]) == (5, 0)
    with pytest.raises(ConfigError, match=r"no class 'people'.*person"):
        table.columns(["people"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("train: 1", "train: 3"), "raw.10: train id 3"),
        (("raw: 10,", "raw: 11,"), "classes.0: raw 11 is not mapped back"),
        (("rgb: [1, 2, 3]", "colour: [1, 2, 3]"), "unknown key"),
        (("}]\nraw", "}, {name: car, raw: 11, rgb: [1, 2, 3]}]\nraw"), "two classes are called 'car'"),
    ],
)
def test_inconsistent_file_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    good = (
        "name: mine\nclasses: [{name: car, raw: 10, rgb: [1, 2, 3]}]\n"
        "raw: {0: {name: none, train: 0}, 10: {name: car, train: 1}, 11: {name: bus, train: 0}}\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text(good)
    assert load_classes(str(path)).names == ("car",)
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.replace(*change))
    with pytest.raises(ConfigError, match=message):
        load_classes(str(bad))
