"""Real scans: what is counted agrees with the data set's own table of points per class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from console_script import kd_seg_json

REAL = Path(
    os.environ.get("KD_SEG_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "semantic_kitti_mini")
)
needs_real_scans = pytest.mark.skipif(
    not (REAL / "sequences" / "04").is_dir(), reason="needs semantic_kitti_mini (KD_SEG_REAL_DATA)"
)
POINTS_04 = {
    "car": 10529, "other-vehicle": 10520, "person": 510, "road": 242936, "parking": 2953, "sidewalk": 9731,
    "other-ground": 42200, "building": 9334, "fence": 10686, "vegetation": 53698, "trunk": 1710, "terrain": 59373,
    "pole": 2754, "traffic-sign": 1133,
}  # fmt: skip


@needs_real_scans
def test_the_labels_of_sequence_04_score_full_marks_on_the_counted_points(tmp_path: Path) -> None:
    folder = tmp_path / "sequences" / "04"
    folder.mkdir(parents=True)
    (folder / "predictions").symlink_to(REAL / "sequences" / "04" / "labels")
    answer = kd_seg_json("eval", tmp_path, "--data", REAL, "--sequences", "04")
    assert (answer["scans"], answer["points"]) == (4, 494269)
    assert answer["miou_present"] == pytest.approx(1.0, abs=1e-12)
    assert answer["accuracy"] == pytest.approx(1.0, abs=1e-12)
    assert answer["miou"] == pytest.approx(14 / 19, abs=1e-12)
    columns = [sum(row[column] for row in answer["counts"]["matrix"]) for column in range(20)]
    assert columns[0] == 36202
    names = answer["classes"]["names"]
    assert {name: count for name, count in zip(names, columns[1:], strict=True) if count} == POINTS_04
