"""Sheets: panels stand where they were put, and texts and bars show the numbers they were given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from instances_world import BUS, CAR, PERSON, TRUCK, make_world
from matplotlib.colors import to_hex

from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans import Cloud, Kind, SemanticKitti
from kd_seg.scans.statistics import statistics
from kd_seg.views import fused_instances
from kd_seg.views.colours import css, legend_colours
from kd_seg.views.sheet import Sheet
from kd_seg.views.sheets import comparison_sheet, scan_sheet, share_rows
from kd_seg.views.side_by_side import side_by_side_sheet
from kd_seg.views.source import ShownScan, open_shot, predicted, segmented
from kd_seg.views.statistics_panels import PAIR, draw_statistics

TABLE = load_classes()


def texts(sheet: Sheet) -> list[str]:
    return [text.get_text() for text in sheet.figure.texts]


@pytest.fixture(scope="module")
def shot(tiny_root: Path) -> ShownScan:
    return open_shot(tiny_root, "00/0", TABLE)


def test_axes_stand_at_their_place_in_inches() -> None:
    sheet = Sheet(8.0, 4.0, dpi=50)
    box = sheet.axes(1.0, 0.5, 2.0, 1.0).get_window_extent()
    assert (box.x0, box.x1) == pytest.approx((50, 150))
    assert (box.y1, box.y0) == pytest.approx((4.0 * 50 - 25, 4.0 * 50 - 75))


def test_a_legend_fills_columns_from_the_top() -> None:
    sheet = Sheet(8.0, 4.0)
    rows = [((250, 10 * k, 0), f"class {k}", f"{k} %") for k in range(5)]
    assert sheet.legend((1.0, 1.0, 6.0), rows, columns=2, spacing=0.25) == pytest.approx(3 * 0.25)
    boxes = [axes.get_position() for axes in sheet.figure.axes]
    assert len({round(box.x0, 4) for box in boxes}) == 2
    assert [to_hex(axes.get_facecolor()) for axes in sheet.figure.axes] == [css(colour) for colour, _, _ in rows]
    assert texts(sheet) == [word for k in range(5) for word in (f"class {k}", f"{k} %")]


def test_range_rings_are_named_by_their_radius() -> None:
    sheet = Sheet(5.0, 5.0)
    sheet.birds_eye((0.5, 0.5, 4.0), np.zeros((10, 10, 3), np.uint8), 35.0, "above")
    (axes,) = sheet.figure.axes
    named = {text.get_text(): text.get_position() for text in axes.texts}
    assert set(named) == {"10 m", "20 m", "30 m"}
    assert all(np.hypot(*place) == pytest.approx(float(name[:-2]), rel=1e-3) for name, place in named.items())
    assert axes.get_xlim() == (35.0, -35.0)  # left is left


def test_shares_of_a_legend_add_up() -> None:
    train = np.array([0] * 5 + [1] * 14 + [9] * 1, np.uint8)
    rows = {name: value for _, name, value in share_rows(train, TABLE)}
    assert (rows["car"], rows["road"], rows["unlabelled"], rows["truck"]) == ("70.0 %", "5.0 %", "25.0 %", "-")
    rare = np.zeros(100_000, np.uint8)
    rare[:7] = 2
    assert {name: value for _, name, value in share_rows(rare, TABLE)}["bicycle"] == "70 ppm"


def test_a_comparison_counts_errors_among_labelled_points_only(shot: ShownScan) -> None:
    assert shot.train is not None
    wrong = shot.train.copy()
    labelled = np.flatnonzero(shot.train > 0)
    wrong[labelled[::4]] = np.where(wrong[labelled[::4]] == 13, 14, 13)
    below = texts(comparison_sheet(shot, wrong, TABLE, "run"))
    share = 100 * len(labelled[::4]) / len(labelled)
    assert any(f"{len(labelled):,} labelled, {share:.1f} % of these wrong" in text for text in below)
    perfect = texts(comparison_sheet(shot, shot.train, TABLE, "run"))
    assert any("0.0 % of these wrong; mIoU present 100.0 %" in text for text in perfect)
    assert perfect.count("100.0") == len(set(shot.train[labelled].tolist()))


def test_a_scan_without_truth_is_compared_with_nothing_labelled(shot: ShownScan) -> None:
    below = texts(comparison_sheet(replace(shot, train=None), np.ones(len(shot.points), np.uint8), TABLE, "run"))
    assert any("0 labelled, 0.0 % of these wrong; mIoU present -" in text for text in below)


def test_a_scan_alone_is_coloured_by_height_where_it_has_no_classes(shot: ShownScan) -> None:
    assert any("coloured by class" in text for text in texts(scan_sheet(shot, TABLE)))
    bare = texts(scan_sheet(replace(shot, train=None, words=None), TABLE))
    assert not any("coloured by class" in text for text in bare)
    assert any(f"{len(shot.points):,} points" in text for text in bare)


def test_two_scans_stand_beside_each_other_with_their_figures(tiny_root: Path, shot: ShownScan) -> None:
    scans = list(SemanticKitti(tiny_root))[:2]
    pair = statistics(scans[:1], TABLE.name), statistics(scans, TABLE.name)
    alone = side_by_side_sheet((shot, shot), ("left", "right"), TABLE)
    with_figures = side_by_side_sheet((shot, shot), ("left", "right"), TABLE, statistics=pair)
    assert with_figures.height > alone.height + 5
    assert "left (1 scans)" in " ".join(texts(with_figures))
    assert "right (2 scans)" in " ".join(texts(with_figures))


def test_bars_have_the_heights_of_the_shares(tiny_root: Path) -> None:
    scans = list(SemanticKitti(tiny_root))
    pair = statistics(scans[:1], TABLE.name), statistics(scans[1:2], TABLE.name)
    sheet = Sheet(16.0, 8.0)
    draw_statistics(sheet, 0.2, ("a", "b"), pair, TABLE)
    bars = next(axes for axes in sheet.figure.axes if axes.get_title(loc="left") == "share of points")
    heights = np.array([patch.get_height() for patch in bars.patches]).reshape(2, -1)
    assert np.allclose(heights, [each.class_shares for each in pair])
    assert [to_hex(bars.patches[n * heights.shape[1]].get_facecolor()) for n in (0, 1)] == list(PAIR)
    histogram = next(axes for axes in sheet.figure.axes if axes.get_title(loc="left").startswith("range"))
    assert np.allclose(histogram.patches[0].get_data().values, 100 * pair[0].range_histogram)
    row = texts(sheet).index("points per scan")
    assert texts(sheet)[row + 1 : row + 3] == [f"{np.median(each.points):,.0f}" for each in pair]


def test_predictions_that_do_not_fit_are_refused(shot: ShownScan, tmp_path: Path) -> None:
    short = tmp_path / "000000.label"
    np.zeros(5, "<u4").tofile(short)
    with pytest.raises(DataError, match=rf"has 5 predictions, .* has {len(shot.points)} points"):
        predicted(short, shot, TABLE)
    with pytest.raises(UsageError, match="is no scan of a sequence"):
        predicted(tmp_path, replace(shot, scan=None), TABLE)
    whole = tmp_path / "whole.label"
    np.full(len(shot.points), 10, "<u4").tofile(whole)
    assert set(predicted(whole, shot, TABLE).tolist()) == {1}


def test_a_student_of_other_classes_is_refused(shot: ShownScan, random_checkpoint: Path) -> None:
    found = segmented(random_checkpoint, shot, TABLE, "unit")
    assert found.shape == (len(shot.points),)
    with pytest.raises(UsageError, match="view it with --classes semantic_kitti_19"):
        segmented(random_checkpoint, shot, load_classes("semantic_kitti_25"), "unit")


def made_cloud(words: dict[int, int]) -> Cloud:
    """A cloud with so many fused points of each word, one metre apart."""
    column = np.concatenate([np.full(count, word, np.uint32) for word, count in words.items()])
    points = np.column_stack([np.arange(len(column)), np.zeros((len(column), 3))]).astype(np.float32)
    cloud = Cloud.of_scan(_Scan(points, column))
    return replace(cloud, kind=np.full(len(column), Kind.FUSED, cloud.kind.dtype))


class _Scan:
    """What a cloud takes from a scan."""

    def __init__(self, points: np.ndarray, labels: np.ndarray) -> None:
        self.points, self.labels = points, labels


def test_the_largest_moving_object_of_each_class_is_chosen() -> None:
    second_truck = (6 << 16) | 258
    cloud = made_cloud({TRUCK: 30, second_truck: 50, PERSON: 40, BUS: 500, 10: 900})
    assert fused_instances._choose(cloud, TABLE, most=3) == [second_truck, PERSON]
    assert fused_instances._choose(cloud, TABLE, most=1) == [second_truck]


def test_a_frame_holds_the_object_but_no_more_than_its_drift() -> None:
    near, far = made_cloud({TRUCK: 5}), made_cloud({TRUCK: 200})
    centre, half = fused_instances._frame({"ego": near, "registered": near}, TRUCK)
    assert tuple(centre) == (2.0, 0.0)
    assert half == pytest.approx(1.1 * 2.0)
    _, wide = fused_instances._frame({"ego": far, "registered": near}, TRUCK)
    assert wide == pytest.approx(1.2 * 4.0)


def test_students_are_named_by_what_tells_them_apart() -> None:
    assert fused_instances._names([Path("runs/a"), Path("runs/b")]) == ["a", "b"]
    assert fused_instances._names([Path("a/last.safetensors"), Path("b/last.safetensors")]) == ["a", "b"]
    assert fused_instances._names([Path("same"), Path("same")]) == ["same", "same"]
    assert fused_instances._names([]) == []


def test_objects_without_labels_are_refused_by_the_name_of_the_scan(tmp_path: Path) -> None:
    world = make_world(tmp_path, scans=3, background=200)
    for path in (tmp_path / "sequences" / "00" / "labels").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"{tmp_path}.*000002.bin has no labels"):
        fused_instances.view_fused(world.root, "00/2", [], TABLE)


def test_a_scan_without_moving_hard_objects_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, scans=3, background=200)
    for path in (tmp_path / "sequences" / "00" / "labels").iterdir():
        words = np.fromfile(path, "<u4")
        words[np.isin(words, [TRUCK, PERSON, CAR])] = 40
        words.tofile(path)
    with pytest.raises(DataError, match="has no moving object of a hard class"):
        fused_instances.view_fused(world.root, "00/2", [], TABLE)


def test_colours_of_the_sheet_are_those_of_the_legend(shot: ShownScan) -> None:
    sheet = scan_sheet(shot, TABLE)
    swatches = {to_hex(axes.get_facecolor()) for axes in sheet.figure.axes}
    assert {css(colour) for colour in legend_colours(TABLE)} <= swatches
