"""PCD files as PCL and vendors write them, and every way in which one can be cut off or contradict itself."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import XYZ, XYZI, columns_of, lzf, one_sentence, pcd, street

from kd_seg.core.errors import DataError
from kd_seg.scans.lzf import decompress
from kd_seg.scans.pcd import parse_pcd
from kd_seg.scans.point_table import choose

KINDS = ("ascii", "binary", "binary_compressed")
POINTS = street(4)
GOOD = pcd(XYZI, columns_of(POINTS))
ASCII = pcd(XYZI, columns_of(POINTS), "ascii")


def read(content: bytes) -> np.ndarray:
    return choose(parse_pcd(content, "a.pcd"), (), "a.pcd").points


def fault(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(content)
    text = str(caught.value)
    assert text.startswith("a.pcd")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("data", KINDS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_padding_of_any_number_and_size_is_padding(data: str, end: str) -> None:
    """Two fields named "_" ended the process in Open3D's reader."""
    pads = [("_", 1, "U", 4), ("_", 1, "U", 10)]
    fields = [*XYZ, pads[0], ("intensity", 4, "F", 1), ("ring", 2, "U", 1), pads[1], ("_", 1, "U", 0), ("_", 4, "F", 1)]
    content = pcd(fields, columns_of(POINTS), data, end)
    np.testing.assert_allclose(read(content), POINTS, rtol=1e-6)
    assert parse_pcd(content, "a").names == ("x", "y", "z", "intensity", "ring")


@pytest.mark.parametrize("data", KINDS)
def test_any_order_type_and_duplicate(data: str) -> None:
    fields = [
        ("rgb", 4, "U", 1), ("z", 8, "F", 1), ("intensity", 2, "U", 1), ("y", 4, "F", 1), ("intensity", 4, "F", 1),
        ("normal", 4, "F", 3), ("x", 8, "F", 1), ("x", 4, "F", 1), ("timestamp", 8, "F", 1), ("stamp", 8, "U", 1),
    ]  # fmt: skip
    points = POINTS.copy()
    points[:, 3] = np.round(points[:, 3] * 60_000)
    np.testing.assert_allclose(read(pcd(fields, columns_of(points), data)), points, rtol=1e-6)


def test_padding_inside_compressed_data_is_read_too() -> None:
    fields = [*XYZ, ("_", 1, "U", 4), ("intensity", 4, "F", 1)]
    head = pcd(fields, columns_of(POINTS)).split(b"DATA")[0] + b"DATA binary_compressed\n"
    plain = b"".join(np.ascontiguousarray(POINTS[:, k]).tobytes() for k in range(3))
    plain += bytes(4 * len(POINTS)) + np.ascontiguousarray(POINTS[:, 3]).tobytes()
    packed = lzf(plain)
    content = head + np.array([len(packed), len(plain)], "<u4").tobytes() + packed
    np.testing.assert_array_equal(read(content), POINTS)


def test_organised_clouds_keep_their_missing_points() -> None:
    points = POINTS.copy()
    points[::3, :3] = np.nan
    for data in KINDS:
        content = pcd(XYZI, columns_of(points), data)
        content = content.replace(b"WIDTH 256\nHEIGHT 1", b"WIDTH 4\nHEIGHT 64").replace(b"DENSE", b"")
        np.testing.assert_array_equal(np.isnan(read(content)), np.isnan(points))
    windows = pcd(XYZI, columns_of(points), "ascii").replace(b"nan", b"-nan(ind)")
    np.testing.assert_array_equal(np.isnan(read(windows)), np.isnan(points))


def test_headers_of_older_writers() -> None:
    low = (
        GOOD.replace(b"FIELDS", b"fields")
        .replace(b"DATA binary", b"data BINARY")
        .replace(b"VERSION 0.7", b"version .7")
    )
    np.testing.assert_array_equal(read(low), POINTS)
    columns = (
        GOOD.replace(b"FIELDS", b"COLUMNS").replace(b"VIEWPOINT 0 0 0 1 0 0 0\n", b"").replace(b"COUNT 1 1 1 1\n", b"")
    )
    np.testing.assert_array_equal(read(columns), POINTS)
    np.testing.assert_array_equal(read(GOOD.replace(b"POINTS 256\n", b"")), POINTS)
    upper = GOOD.replace(b"FIELDS x y z intensity", b"FIELDS X Y Z Intensity")
    np.testing.assert_array_equal(read(upper), POINTS)
    np.testing.assert_array_equal(read(GOOD + bytes(4000)), POINTS)
    assert len(read(pcd(XYZI, columns_of(POINTS[:0])))) == 0


@pytest.mark.parametrize("data", KINDS)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_no_beginning_of_a_file_passes_for_the_file(data: str, cut: float) -> None:
    content = pcd(XYZI, columns_of(POINTS), data)
    # The last number of a text may lose digits and stay a number; its row cannot be missing.
    whole = content.rindex(b"\n", 0, len(content) - 1) if data == "ascii" else len(content) - 1
    assert fault(content[: int(cut * whole)])


def test_half_a_file_says_where_it_ends() -> None:
    cut = ASCII[: ASCII.rindex(b"\n", 0, len(ASCII) // 2) + 1]
    assert "its header says 256 points, its data have" in fault(cut)
    assert "its header says 256 points of 16 bytes, its data end after 125" in fault(GOOD[: -131 * 16])
    assert "bytes behind its last point" in fault(GOOD + b"more")
    assert "its data have 257 rows" in fault(ASCII + b"1 2 3 4\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"POINTS 256", b"POINTS 40000000000000", "WIDTH x HEIGHT 256 but POINTS 40,000,000,000,000"),
        (b"WIDTH 256", b"WIDTH 40000000000000", "WIDTH x HEIGHT 40,000,000,000,000 but POINTS 256"),
        (b"POINTS 256", b"POINTS -1", "POINTS '-1' is not a sensible whole number"),
        (b"SIZE 4 4 4 4", b"SIZE 3 4 4 4", "field 'x' has TYPE 'F' SIZE 3"),
        (b"TYPE F F F F", b"TYPE X F F F", "field 'x' has TYPE 'X' SIZE 4"),
        (b"SIZE 4 4 4 4", b"SIZE 4 4 4", "4 FIELDS but 3 SIZE numbers"),
        (b"TYPE F F F F", b"TYPE F F F F F", "4 FIELDS but 5 TYPEs"),
        (b"COUNT 1 1 1 1", b"COUNT 1 1 1 999999999", "its data end after 0"),
        (b"FIELDS x", b"FIELDS a", "has no field x with one number a point; its fields: a, y, z, intensity"),
        (b"COUNT 1 1 1 1", b"COUNT 1 1 1 x", "COUNT 'x' is not a sensible whole number"),
        (b"DATA binary", b"DATA zip", "has DATA 'zip'"),
        (b"VERSION 0.7", b"VARIANT 0.7", "has 'VARIANT' in its header"),
        (b"VERSION 0.7", b"\xff\xfe", "has no readable .pcd header"),
        (b"VERSION 0.7", b"WIDTH 256", "has two WIDTH lines"),
    ],
)  # fmt: skip
def test_contradictions_are_one_sentence(old: bytes, new: bytes, said: str) -> None:
    assert said in fault(GOOD.replace(old, new))


def test_a_sensible_header_of_too_many_points() -> None:
    huge = GOOD.replace(b"WIDTH 256", b"WIDTH 40000000").replace(b"POINTS 256", b"POINTS 40000000")
    assert "a scan has at most 20,000,000" in fault(huge)


def test_rows_that_are_no_rows() -> None:
    head, rows = ASCII.split(b"DATA ascii\n")
    body = rows.split(b"\n")
    assert "separates numbers with commas" in fault(head + b"DATA ascii\n" + rows.replace(b" ", b","))
    body[7] = b"1 2 3"
    assert "data row 8 holds 3 numbers, its header says 4" in fault(head + b"DATA ascii\n" + b"\n".join(body))
    body[7] = b"1 2 three 4"
    assert "data row 8: 'three' is not a number" in fault(head + b"DATA ascii\n" + b"\n".join(body))
    assert "declares text but holds other bytes" in fault(head + b"DATA ascii\n" + POINTS.tobytes())


def test_damaged_compression() -> None:
    content = pcd(XYZI, columns_of(POINTS), "binary_compressed")
    start = content.index(b"compressed\n") + len(b"compressed\n")
    sizes = np.frombuffer(content, "<u4", 2, start).copy()
    longer = content[:start] + np.array([sizes[0], 2**32 - 1], "<u4").tobytes() + content[start + 8 :]
    assert "its compressed data say 4,294,967,295 bytes" in fault(longer)
    flipped = bytearray(content)
    flipped[start + 8 : start + 12] = b"\xff\xff\xff\xff"  # a reference before the beginning
    assert "damaged compressed data" in fault(bytes(flipped))


@given(st.binary(max_size=600))
def test_lzf_gives_back_what_was_packed(plain: bytes) -> None:
    found = decompress(memoryview(lzf(plain * 3)), 3 * len(plain))
    assert found is not None
    assert found.tobytes() == plain * 3


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_lzf_never_leaves_its_arrays(packed: bytes, size: int) -> None:
    found = decompress(memoryview(packed), size)
    assert found is None or len(found) == size


@settings(max_examples=300)
@given(
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([b"", b"0", b"9", b"-", b" ", b"\n", b"\xff", b"99999999"]))
    ),
)
def test_any_change_is_read_or_refused(data: str, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(pcd(XYZI, columns_of(POINTS[:8]), data))
    for place, new in changes:
        content[place : place + 1] = new
    try:
        assert read(bytes(content)).shape[1] == 4
    except DataError as error:
        one_sentence(error)


def test_a_binary_scan_reads_many_times_faster_than_text() -> None:
    """About 1 ms for 125,000 points; ASCII takes about 180."""
    points = street(300)

    def best(content: bytes) -> float:
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            read(content)
            spent.append(time.perf_counter() - start)
        return min(spent)

    assert 10 * best(pcd(XYZI, columns_of(points))) < best(pcd(XYZI, columns_of(points), "ascii"))
