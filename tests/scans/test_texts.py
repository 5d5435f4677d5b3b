"""Numbers as text: rows, calibration, poses and times; files that are none; ranges of intensities."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import invert, rigid
from kd_seg.scans.calibration import read_calibration, read_poses, read_times
from kd_seg.scans.content import excerpt, read_content, read_lines
from kd_seg.scans.intensity import fitting_range, intensity_faults
from kd_seg.scans.number_rows import parse_rows, text_lines

NUMBERS = st.floats(-1e30, 1e30, width=64) | st.sampled_from([float("nan"), float("inf"), -0.0])


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=8), st.sampled_from([" ", "  ", "\t"]))
def test_rows_read_back_as_they_were_written(rows: list[list[float]], blank: str) -> None:
    lines = [blank.join(repr(value) for value in row) for row in rows]
    np.testing.assert_array_equal(parse_rows(lines, 3, "x"), np.array(rows).reshape(-1, 3))


def test_windows_writes_nan_in_ways_of_its_own() -> None:
    found = parse_rows(["1.#QNAN 2 -nan(ind)", "1 -1.#IND 3"], 3, "x")
    np.testing.assert_array_equal(found, [[np.nan, 2, np.nan], [1, np.nan, 3]])


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["1 2 3", "1 2"], "data row 2 holds 2 numbers, its header says 3"),
        (["1 2 3 4", "1 2 3 4"], "data row 1 holds 4 numbers, its header says 3"),
        (["1 2 3", "1 two 3"], "data row 2: 'two' is not a number"),
        (["1,2,3"], "separates numbers with commas"),
        (["1 2 1_000"], "'1_000' is not a number"),
    ],
)
def test_the_first_wrong_row_is_named(lines: list[str], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        parse_rows(lines, 3, "a.pcd")


def test_lines_of_any_system_without_the_blank_ones() -> None:
    assert text_lines(b"1 2\r\n\r\n3 4\n  \n5 6\r7 8", "x") == ["1 2", "3 4", "5 6", "7 8"]
    with pytest.raises(DataError, match="declares text but holds other bytes"):
        text_lines(b"\xff\xfe1", "x")
    assert parse_rows([], 4, "x").shape == (0, 4)


def row(matrix: np.ndarray) -> str:
    return " ".join(f"{value:.17g}" for value in matrix[:3].ravel())


TR = rigid(Rotation.from_euler("ZYX", [80, -5, 90], degrees=True).as_matrix(), [0.1, -0.2, 0.3])


@given(st.integers(0, 10**6), st.integers(0, 5))
def test_poses_are_of_the_lidar_and_files_of_the_camera(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    lidar = (
        [rigid(r.as_matrix(), rng.normal(0, 50, 3)) for r in Rotation.random(count, random_state=seed)] if count else []
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "poses.txt"
        path.write_text("".join(row(TR @ pose @ invert(TR)) + "\n" for pose in lidar))
        np.testing.assert_allclose(read_poses(path, TR), np.array(lidar).reshape(-1, 4, 4), atol=1e-9)


@pytest.fixture
def calib(tmp_path: Path) -> Path:
    camera = np.array([[700.0, 0, 600, 45], [0, 700, 180, 0], [0, 0, 1, 0]])
    (tmp_path / "calib.txt").write_text(f"P0: {row(camera)}\nP2: {row(camera)}\nTr: {row(TR)}\n")
    return tmp_path / "calib.txt"


def test_cameras_keep_their_numbers(calib: Path) -> None:
    found = read_calibration(calib)
    assert sorted(found.projections) == [0, 2]
    np.testing.assert_allclose(found.tr, TR)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Tr:", "Tx:", "has no Tr row"),
        ("P2: 700", "P2: seven", r"line 2 \(P2\) holds something that is not a number"),
        ("P0: 700", "P0: 700 700", r"line 1 \(P0\) holds 13 numbers"),
        ("P2: 700", "P2: nan", r"line 2 \(P2\) holds NaN or infinity"),
        ("P0: 700", "P0: inf", r"line 1 \(P0\) holds NaN or infinity"),
    ],
)
def test_wrong_calibration_names_its_line(calib: Path, old: str, new: str, fault: str) -> None:
    text = calib.read_text()
    assert old in text
    calib.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=fault):
        read_calibration(calib)


def test_a_tr_that_is_no_rigid_motion_and_times_that_are_none(calib: Path, tmp_path: Path) -> None:
    calib.write_text(f"Tr: {row(2.0 * TR)}\n")
    with pytest.raises(DataError, match="Tr"):
        read_calibration(calib)
    for text in ("0.0\n1,5\n", "0.0\nnan\n", "0.0\ninf\n"):
        (tmp_path / "times.txt").write_text(text)
        with pytest.raises(DataError, match=r"line 2: .* is not a time in seconds"):
            read_times(tmp_path / "times.txt")
    (tmp_path / "times.txt").write_bytes(b"\xef\xbb\xbf0.0\r\n\r\n0.1\r\n")
    np.testing.assert_array_equal(read_times(tmp_path / "times.txt"), [0.0, 0.1])


def test_content_is_that_of_regular_files_of_sensible_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_content(path) == b"12345"
    with pytest.raises(DataError, match=r"has 5 bytes, more than the 4"):
        read_content(path, largest=4)
    with pytest.raises(DataError, match="is no regular file"):
        read_content(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is no regular file"):
        read_content(tmp_path / "pipe")
    with pytest.raises(DataError, match="No such file"):
        read_content(tmp_path / "absent")
    with pytest.raises(DataError, match="is no path of a file"):
        read_content(Path("a\0b"))
    path.write_bytes("grün".encode())
    with pytest.raises(DataError, match="is not plain text"):
        read_lines(path)


def test_quotes_are_short_and_printable() -> None:
    assert excerpt("a\nb") == r"'a\nb'"
    assert excerpt("x" * 99) == ascii("x" * 40 + "...")
    assert excerpt("ü\x1b").isprintable()


@given(st.sampled_from(["unit", "byte", "uint16"]), st.floats(0.001, 1.0))
def test_intensities_of_a_range_are_not_held_for_another(name: str, brightest: float) -> None:
    """Where the brightest percent is at least a tenth of the range, as real scans have it."""
    full = {"unit": 1.0, "byte": 255.0, "uint16": 65535.0}[name]
    p99 = full * max(brightest, 0.1)
    assert fitting_range(p99, name, 100_000) is None
    for declared in {"unit", "byte", "uint16"} - {name}:
        assert fitting_range(p99, declared, 100_000) == name


def test_a_few_dark_points_are_no_evidence() -> None:
    assert fitting_range(0.9, "byte", 999) is None
    assert fitting_range(0.9, "byte", 1000) == "unit"


def test_faults_of_intensities_are_told_with_the_setting() -> None:
    def cloud(values: list[float]) -> np.ndarray:
        points = np.ones((len(values), 4), np.float32)
        points[:, 3] = values
        return points

    assert intensity_faults([cloud([0.1, 0.9, np.nan])], "unit", "--x") == []
    (wrong,) = intensity_faults([cloud([10, 200]), cloud([90])], "unit", "--x")
    assert "set --x to byte" in wrong
    (constant,) = intensity_faults([cloud([0.5, 0.5])], "unit", "--x")
    assert "all intensities of the first scans are 0.5" in constant
    assert intensity_faults([], "unit", "--x") == intensity_faults([cloud([np.nan])], "unit", "--x") == []
