"""Files that say little or nothing of themselves are judged before they are believed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import columns_of, one_sentence, street

from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans import FileFormat, read_points
from kd_seg.scans.layout import PointLayout, doubt, information
from kd_seg.scans.npy import parse_npy
from kd_seg.scans.point_files import read_point_file
from kd_seg.scans.point_table import choose

POINTS = street(20)
HALF = np.arange(len(POINTS))[:, None] % 2 == 0
FIVE = np.column_stack([POINTS[:, :3], np.round(POINTS[:, 3] * 255), np.arange(len(POINTS)) % 32]).astype("<f4")


def fault(tmp_path: Path, content: bytes, name: str = "a.bin", form: FileFormat = FileFormat()) -> str:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_points(tmp_path / name, form)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        (POINTS.astype("<f8"), "it looks like 4 columns of float64 (32 bytes a point); if that is right, add "
         "--set input.dtype=float64"),
        (np.round(POINTS * 1000).astype("<f8"), "add --set input.dtype=float64"),
        (np.round(POINTS * 1000).astype(">f8"), "add --set input.dtype=float64_be"),
        (POINTS.astype(">f4"), "add --set input.dtype=float32_be"),
        ((POINTS.astype("<f8") * 1.0001).astype(">f8"), "add --set input.dtype=float64_be"),
        (FIVE, "5 columns of float32 (20 bytes a point); if that is right, add --set input.columns=5"),
        (FIVE[:1001], "5 columns of float32 (20 bytes a point); if that is right, add --set input.columns=5"),
        (FIVE.astype("<f8"), "add --set input.columns=5 --set input.dtype=float64"),
        (POINTS[:1000, :3], "add --set input.columns=3"),
        (POINTS[:999, :3], "add --set input.columns=3"),
        (np.column_stack([FIVE, FIVE[:, 3] * 0]).astype("<f4"), "add --set input.columns=6"),
        (np.column_stack([FIVE, FIVE[:, :3] * 0]).astype("<f4"), "add --set input.columns=8"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused_with_the_setting_that_reads_them(
    tmp_path: Path, rows: np.ndarray, hint: str
) -> None:
    text = fault(tmp_path, rows.tobytes())
    assert hint in text
    asked = text.partition(" (for training")[0].split("--set input.")[1:]
    settings_named = dict(part.strip().split("=") for part in asked)
    form = FileFormat(int(settings_named.get("columns", 0)), settings_named.get("dtype", "auto").strip())
    read = read_points(tmp_path / "a.bin", form)
    np.testing.assert_allclose(read[:, : min(4, rows.shape[1])], rows[:, :4].astype(np.float32), rtol=1e-6)
    assert (read[:, 3] == 0).all() == (rows.shape[1] == 3)


@pytest.mark.parametrize(
    "rows",
    [
        POINTS, POINTS[:3], POINTS[:0], np.zeros((1000, 4)), np.full((1000, 4), np.nan), POINTS[::-1], POINTS[::7],
        np.where(HALF, POINTS, np.nan),
        np.where(HALF, POINTS, 0), np.where(HALF, POINTS, np.inf), np.where(HALF, POINTS, [-np.inf, np.inf, 0, 0]),
        POINTS * [1000, 1000, 1000, 1], POINTS + [450_000, 5_400_000, 100, 0], POINTS * [1, 1, 1, 65535],
        np.random.default_rng(0).permutation(POINTS), np.random.default_rng(0).uniform(-50, 50, (999, 4)),
    ],
)  # fmt: skip
def test_four_columns_of_any_scene_are_believed(tmp_path: Path, rows: np.ndarray) -> None:
    rows.astype("<f4").tofile(tmp_path / "a.bin")
    np.testing.assert_array_equal(read_points(tmp_path / "a.bin"), rows.astype(np.float32))


def test_what_is_no_float_at_all(tmp_path: Path) -> None:
    assert "it is a .npy file under another name" in fault(tmp_path, npy(POINTS))
    assert "it is text" in fault(tmp_path, b"1.0 2.0 3.0 0.4\n" * 100)
    assert "no possible coordinates; it is damaged or of another kind" in fault(
        tmp_path, (POINTS * 1000).astype("<i4").tobytes()
    )
    assert "no possible coordinates" in fault(tmp_path, np.random.default_rng(0).bytes(16_000))
    assert "it is cut off" in fault(tmp_path, POINTS.tobytes()[:-3])
    assert "no whole number of 20-byte points" in fault(tmp_path, POINTS[:-1].tobytes(), form=FileFormat(5))


def test_what_the_user_says_is_believed(tmp_path: Path) -> None:
    FIVE.tofile(tmp_path / "a.pcd.bin")
    assert len(read_points(tmp_path / "a.pcd.bin", FileFormat(columns=5))) == len(FIVE)
    assert len(read_points(tmp_path / "a.pcd.bin", FileFormat(columns=4))) == len(FIVE) * 5 // 4
    np.save(tmp_path / "a.npy", POINTS)
    with pytest.raises(UsageError, match=r"input\.columns and input\.dtype are for \.bin files; a\.npy names its own"):
        read_points(tmp_path / "a.npy", FileFormat(columns=5))


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.bin").mkdir()
    with pytest.raises(DataError, match=r"folder\.bin is no regular file"):
        read_points(tmp_path / "folder.bin")
    (tmp_path / "dangling.bin").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"dangling\.bin does not exist"):
        read_points(tmp_path / "dangling.bin")
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(DataError, match=r"sparse\.bin has 4,398,046,511,104 bytes, more than"):
        read_points(tmp_path / "sparse.bin")


@given(st.lists(st.floats(-100, 100, width=32), min_size=8, max_size=400), st.integers(3, 8))
def test_mixing_columns_never_adds_information(values: list[float], columns: int) -> None:
    """Of constant columns the place says everything, of one column for all nothing."""
    count = len(values) // columns
    if count == 0:
        return
    rows = np.tile(np.arange(1, columns + 1) * 7.0, 50)
    assert information(rows, columns) == pytest.approx(np.log2(columns))
    assert information(np.full(50 * columns, values[0]), columns) == pytest.approx(0.0)


def test_a_doubt_names_no_layout_that_does_not_divide_the_size() -> None:
    for count in range(1, 40):
        content = FIVE.tobytes()[: 4 * count]
        found = doubt(content, PointLayout())
        if found is not None and found.better is not None:
            assert len(content) % found.better.point_bytes == 0


def npy(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        POINTS,
        POINTS.astype(">f8"),
        np.asfortranarray(POINTS),
        POINTS.astype("<f2"),
        (POINTS * 100).astype("<i8"),
        POINTS[:0],
    ],
)
def test_saved_arrays(tmp_path: Path, array: np.ndarray) -> None:
    (tmp_path / "a.npy").write_bytes(npy(array))
    np.testing.assert_array_equal(read_points(tmp_path / "a.npy"), array.astype(np.float32))


def test_structured_arrays(tmp_path: Path) -> None:
    rows = np.zeros(
        len(POINTS), [("ring", "u2"), ("X", "f8"), ("Y", "f4"), ("Z", "f4"), ("reflectance", "u1"), ("n", "f4", 3)]
    )
    for name, column in zip(("X", "Y", "Z", "reflectance"), columns_of(POINTS * [1, 1, 1, 255]).values(), strict=True):
        rows[name] = column
    (tmp_path / "a.npy").write_bytes(npy(rows.reshape(64, -1)))
    read = read_point_file(tmp_path / "a.npy")
    np.testing.assert_allclose(read.points[:, :3], POINTS[:, :3], rtol=1e-6)
    assert read.intensity == "reflectance"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (POINTS.T, "seems to be transposed"), (POINTS[0], "points are numbers of shape [N, 3] or wider"),
        (POINTS > 0, "holds bool"), (POINTS[:, :2], "or wider"), (POINTS.astype("c8"), "holds complex64"),
        (np.array([[{}]], dtype=object), "it holds Python objects"), (POINTS.astype("U8"), "holds <U8"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_points(tmp_path: Path, array: np.ndarray, said: str) -> None:
    assert said in fault(tmp_path, npy(array), "a.npy")


def test_headers_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    good = npy(POINTS)
    assert "cut off or damaged" in fault(tmp_path, good[:-1], "a.npy")
    assert "cut off or damaged" in fault(tmp_path, good + b"0", "a.npy")
    huge = good.replace(b"(1280, 4), }", b"(9999999999999, 4), }")
    assert "cut off or damaged" in fault(tmp_path, huge, "a.npy") or "not a readable" in fault(tmp_path, huge, "a.npy")
    for old, new in (
        (b"(1280", b"(-280"),
        (b"{'d", b"{{{{"),
        (b"<f4", b"|O8"),
        (b"NUMPY", b"numpy"),
        (b"'", b"("),
        (b"\x01\x00v", b"\x09\x00v"),
    ):
        fault(tmp_path, good.replace(old, new), "a.npy")


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from([b"", b"0", b"9", b"-", b"(", b"'", b"\n", b"\xff", b"9999"]))
    )
)
def test_any_change_of_an_array_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(npy(POINTS[:8]))
    for place, new in changes:
        content[place : place + 1] = new
    try:
        assert choose(parse_npy(bytes(content), "a.npy"), (), "a.npy").points.shape[1] == 4
    except DataError as error:
        one_sentence(error)


def test_intensity_by_any_name(tmp_path: Path) -> None:
    from made_files import XYZ, pcd

    both = {**columns_of(POINTS), "reflectivity": POINTS[:, 3] * 2}
    fields = [*XYZ, ("intensity", 4, "F", 1), ("reflectivity", 4, "F", 1)]
    (tmp_path / "a.pcd").write_bytes(pcd(fields, both))
    read = read_point_file(tmp_path / "a.pcd")
    assert (read.intensity, read.others) == ("intensity", ("reflectivity",))
    chosen = read_point_file(tmp_path / "a.pcd", FileFormat(intensity_fields=("Signal", "REFLECTIVITY")))
    assert (chosen.intensity, chosen.others) == ("reflectivity", ())
    np.testing.assert_array_equal(chosen.points[:, 3], POINTS[:, 3] * 2)
    with pytest.raises(
        DataError, match=r"has no field signal \(input\.intensity_fields\); its fields: x, y, z, intensity"
    ):
        read_points(tmp_path / "a.pcd", FileFormat(intensity_fields=("signal",)))
    (tmp_path / "a.pcd").write_bytes(pcd(XYZ, columns_of(POINTS)))
    assert read_point_file(tmp_path / "a.pcd").intensity is None
