"""PLY files of many tools, and every way in which one can be cut off or contradict itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_files import columns_of, one_sentence, ply, street

from kd_seg.core.errors import DataError
from kd_seg.scans.ply import parse_ply
from kd_seg.scans.point_table import choose

FORMS = ("ascii", "binary_little_endian", "binary_big_endian")
POINTS = street(2)
FLOATS = [("f4", "x"), ("f4", "y"), ("f4", "z"), ("f4", "intensity")]
GOOD = ply(FLOATS, columns_of(POINTS))


def read(content: bytes) -> np.ndarray:
    return choose(parse_ply(content, "a.ply"), (), "a.ply").points


def fault(content: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(content)
    text = str(caught.value)
    assert text.startswith("a.ply")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("form", FORMS)
def test_types_are_converted_each_on_its_own(form: str) -> None:
    """x double beside y and z float gave coordinates of 1e7."""
    mixed = [("u1", "red"), ("f8", "x"), ("f4", "y"), ("f4", "z"), ("u2", "intensity")]
    points = POINTS.copy()
    points[:, 3] = np.round(points[:, 3] * 60_000)
    content = ply(mixed, {**columns_of(points), "red": np.arange(len(points)) % 256}, form)
    np.testing.assert_allclose(read(content), points, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_upper_case_and_scalar_names(form: str) -> None:
    content = ply([("f4", "X"), ("f4", "Y"), ("f4", "Z"), ("f4", "scalar_Intensity")],
                  dict(zip(("X", "Y", "Z", "scalar_Intensity"), POINTS.T, strict=True)), form)  # fmt: skip
    np.testing.assert_allclose(read(content), POINTS, rtol=1e-6)


def lists(order: str) -> tuple[bytes, bytes]:
    """Vertices with a list among their properties, between faces of two sizes and an empty element."""
    form = "binary_big_endian" if order == ">" else "binary_little_endian"
    head = (
        f"ply\nformat {form} 1.0\nobj_info made\nelement face 2\nproperty list uchar int vertex_indices\n"
        "element vertex 3\nproperty float x\nproperty list ushort double near\nproperty float y\nproperty float z\n"
        "element nothing 5\nelement face2 1\nproperty list int float w\nend_header\n"
    )
    body = b"\x03" + np.array([0, 1, 2], order + "i4").tobytes() + b"\x00"
    for k in range(3):
        body += np.array([k + 0.5], order + "f4").tobytes() + np.array([k], order + "u2").tobytes()
        body += np.arange(k).astype(order + "f8").tobytes() + np.array([-k, 7], order + "f4").tobytes()
    return head.encode(), body + np.array([2], order + "i4").tobytes() + bytes(8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_lists_anywhere(order: str) -> None:
    head, body = lists(order)
    wanted = [[0.5, 0, 7, 0], [1.5, -1, 7, 0], [2.5, -2, 7, 0]]
    assert read(head + body).tolist() == wanted
    for cut in range(len(body)):
        assert "cut off" in fault(head + body[:cut])
    assert "behind its last row" in fault(head + body + b"x")
    negative = body[:-12] + np.array([-1], order + "i4").tobytes() + bytes(8)
    assert "row 1 of face2 leaves the file" in fault(head + negative)


def test_lists_in_text() -> None:
    head = lists("<")[0].replace(b"binary_little_endian", b"ascii").decode()
    text = head + "3 0 1 2\n0\n0.5 0 0 7\n1.5 1 9 -1 7\n2.5 2 9 9 -2 7\n2 1 1\n"
    assert read(text.encode()).tolist() == [[0.5, 0, 7, 0], [1.5, -1, 7, 0], [2.5, -2, 7, 0]]
    assert "its header says 6 rows, its data have 5" in fault(text.rsplit("\n", 2)[0].encode())
    assert "data row 4 ends before its property z" in fault(text.replace("1.5 1 9 -1 7", "1.5 2 9 -1 7").encode())


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_other_line_ends(end: bytes) -> None:
    text = ply(FLOATS, columns_of(POINTS), "ascii")
    np.testing.assert_allclose(read(text.replace(b"\n", end)), POINTS, rtol=1e-6)
    head, body = GOOD.split(b"end_header\n", 1)
    np.testing.assert_array_equal(read(head.replace(b"\n", end) + b"end_header" + end + body), POINTS)


@given(form=st.sampled_from(FORMS), cut=st.floats(0, 1, exclude_max=True))
def test_no_beginning_of_a_file_passes_for_the_file(form: str, cut: float) -> None:
    content = ply(FLOATS, columns_of(POINTS), form)
    whole = content.rindex(b"\n", 0, len(content) - 1) if form == "ascii" else len(content) - 1
    assert fault(content[: int(cut * whole)])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"vertex 128", b"vertex 40000000000000", "declares 40,000,000,000,000 rows of 'vertex'"),
        (b"vertex 128", b"vertex 129", "its header says 129 rows of vertex, its data end after at most 128"),
        (b"vertex 128", b"vertex 127", "bytes behind its last row"),
        (b"vertex 128", b"vertex -1", "which is not a name and a count"),
        (b"element vertex 128", b"element edge 128", "has no vertex element; its elements: edge"),
        (b"float x", b"half x", "has the property 'half x', which PLY does not know"),
        (b"property float x", b"property list float int x", "has the property 'list float int x'"),
        (b"binary_little_endian 1.0", b"binary 1.0", "has format 'binary 1.0'"),
        (b"format", b"fromat", "has the header line 'fromat"),
        (b"end_header", b"end", "has the header line"),
        (b"ply\n", b"plyx", "does not begin with the line ply"),
        (b"float x", b"float a", "has no field x with one number a point; its fields: a, y, z, intensity"),
    ],
)  # fmt: skip
def test_contradictions_are_one_sentence(old: bytes, new: bytes, said: str) -> None:
    text = fault(GOOD.replace(old, new, 1))
    assert said in text or "no end_header" in text


@settings(max_examples=300)
@given(
    st.sampled_from([*FORMS, "<", ">"]),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([b"", b"0", b"9", b"-", b" ", b"\n", b"\xff", b"99999999"]))
    ),
)
def test_any_change_is_read_or_refused(form: str, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(b"".join(lists(form)) if form in "<>" else ply(FLOATS, columns_of(POINTS[:8]), form))
    for place, new in changes:
        content[place : place + 1] = new
    try:
        assert read(bytes(content)).shape[1] == 4
    except DataError as error:
        one_sentence(error)
