from __future__ import annotations

import array
import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ros_clouds import (
    TYPES,
    VENDORS,
    FakeCloud,
    FakeField,
    answers_of,
    build,
    header,
    plain,
    random_columns,
    vendor_fields,
)

from kd_seg.serving.pointcloud2 import (
    CloudDecoder,
    CloudRejectedError,
    Decoded,
    Limits,
    encode_filtered,
    encode_segmentation,
)


def reason(cloud: FakeCloud, limits: Limits = Limits(), age_s: float = 0.0) -> tuple[str, str]:
    with pytest.raises(CloudRejectedError) as caught:
        CloudDecoder().decode(cloud, limits, age_s)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("organised", [False, True])
def test_vendor_layouts(vendor: str, organised: bool) -> None:
    fields, step = vendor_fields(vendor)
    columns = random_columns(96)
    cloud = build(columns, fields, step, (8, 12) if organised else None)
    decoded = CloudDecoder().decode(cloud)
    np.testing.assert_array_equal(decoded.xyz, np.stack([columns[a] for a in "xyz"], axis=1))
    np.testing.assert_array_equal(decoded.intensity, columns["intensity"])
    assert decoded.xyz.flags.c_contiguous
    assert decoded.intensity.flags.c_contiguous
    assert (decoded.height, decoded.width) == (cloud.height, cloud.width)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[FakeField], int, dict[str, int]]:
    names = draw(st.permutations(["x", "y", "z", "intensity", "ring", ""]))
    kinds = {name: draw(st.integers(1, 8)) for name in names}
    fields, offset = [], 0
    for name in names:
        offset += draw(st.integers(0, 5))
        size = np.dtype(TYPES[kinds[name]]).itemsize
        count = draw(st.integers(0, 3))
        nulls = "\0" * draw(st.integers(0, 2))
        fields.append(FakeField(name + nulls, offset, kinds[name], count))
        offset += size * max(count, 1)
    return fields, offset + draw(st.integers(0, 7)), kinds


@settings(max_examples=300, deadline=None)
@given(
    layout=layouts(),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    padding=st.integers(0, 9),
    big=st.booleans(),
    last_padding=st.booleans(),
    extra=st.integers(0, 5),
    seed=st.integers(0, 1000),
    container=st.sampled_from(["array", "numpy", "bytes", "readonly"]),
)
def test_every_layout_decodes_to_its_columns(
    layout: tuple[list[FakeField], int, dict[str, int]],
    shape: tuple[int, int],
    padding: int,
    big: bool,
    last_padding: bool,
    extra: int,
    seed: int,
    container: str,
) -> None:
    fields, step, kinds = layout
    count = shape[0] * shape[1]
    rng = np.random.default_rng(seed)
    columns = {}
    for one in fields:
        name = one.name.rstrip("\0")
        if name:
            whole = rng.integers(0, 100, count)
            columns[one.name] = whole + 0.25 if kinds[name] > 6 else whole
    cloud = build(columns, fields, step, shape, padding, big, last_padding, seed)
    cloud.data = np.concatenate([cloud.data, rng.integers(0, 256, extra).astype(np.uint8)])
    raw = cloud.data.tobytes()
    if container == "array":
        cloud.data = array.array("B")
        cloud.data.frombytes(raw)
    elif container == "bytes":
        cloud.data = raw
    elif container == "readonly":
        cloud.data.flags.writeable = False
    cloud.is_dense = bool(seed % 2)
    decoded = CloudDecoder().decode(cloud)
    by_name = {name.rstrip("\0"): values for name, values in columns.items()}
    for column, axis in enumerate("xyz"):
        np.testing.assert_array_equal(decoded.xyz[:, column], by_name[axis].astype(np.float32))
    np.testing.assert_array_equal(decoded.intensity, by_name["intensity"].astype(np.float32))
    before = decoded.xyz.copy()
    if container == "numpy":
        cloud.data[:] = 0
    np.testing.assert_array_equal(decoded.xyz, before)


def test_float32_coordinates_keep_their_bits() -> None:
    words = np.array([0x7FC12345, 0xFF800000, 0x80000000, 0x7F812345, 0x00000001, 0x3F800000], np.uint32)
    fields, step = vendor_fields("velodyne")
    rows = np.zeros((6, step), np.uint8)
    for big in (False, True):
        for k in range(3):
            rows[:, 4 * k : 4 * k + 4] = words.astype(">u4" if big else "<u4").view(np.uint8).reshape(6, 4)
        cloud = FakeCloud(fields, rows.tobytes(), 1, 6, step, 6 * step, big)
        decoded = CloudDecoder().decode(cloud)
        np.testing.assert_array_equal(decoded.xyz.view(np.uint32), np.stack([words] * 3, axis=1))


def test_float64_is_rounded_and_overflow_becomes_infinite() -> None:
    fields = [FakeField(a, 8 * k, 8) for k, a in enumerate("xyz")]
    values = np.array([1 / 3, 1e300, -1e300, np.nan])
    decoded = CloudDecoder().decode(build(dict.fromkeys("xyz", values), fields, 24))
    np.testing.assert_array_equal(decoded.xyz[:, 0], np.array([1 / 3, np.inf, -np.inf, np.nan], np.float32))


def test_intensity_names_are_tried_in_order_and_may_be_absent() -> None:
    fields, step = vendor_fields("ouster")
    columns = random_columns(10) | {"reflectivity": np.arange(10.0)}
    cloud = build(columns, fields, step)
    np.testing.assert_array_equal(CloudDecoder(("reflectivity",)).decode(cloud).intensity, np.arange(10.0))
    decoded = CloudDecoder(("nothing",)).decode(cloud)
    assert not decoded.has_intensity
    assert not decoded.intensity.any()


def test_unused_fields_may_repeat_overlap_and_have_any_type() -> None:
    cloud = plain(5)
    cloud.fields += [FakeField("rgb", 0, 99, 0), FakeField("rgb", 4_000_000_000, 0, 7), FakeField("", 1, 7)]
    assert len(CloudDecoder().decode(cloud).xyz) == 5


def test_single_row_needs_no_row_step_and_single_column_does() -> None:
    cloud = plain(6)
    cloud.row_step = 0
    assert len(CloudDecoder().decode(cloud).xyz) == 6
    cloud.height, cloud.width, cloud.row_step = 6, 1, 22
    decoded = CloudDecoder().decode(cloud)
    assert (decoded.height, decoded.width) == (6, 1)


@pytest.mark.parametrize("shape", [(0, 0), (1, 0), (0, 7)])
def test_empty_clouds_are_legal_whatever_else_is_wrong(shape: tuple[int, int]) -> None:
    cloud = FakeCloud([], b"", *shape, 0, 0)
    decoded = CloudDecoder().decode(cloud)
    assert len(decoded.xyz) == 0
    nothing = np.empty(0, np.float32)
    packed, _ = encode_segmentation(decoded, answers_of(nothing, nothing, nothing))
    assert (packed.height, packed.width, len(packed.data)) == (*shape, 0)
    filtered = encode_filtered(cloud, decoded, np.empty(0, bool))
    assert (filtered.height, filtered.width, len(filtered.data)) == (1, 0, 0)
    cloud.header.frame_id = ""
    assert reason(cloud, Limits(require_frame_id=True))[0] == "empty_frame_id"
    assert reason(cloud, Limits(max_age_s=1.0), 3.2)[0] == "stale"


def test_bad_input_table_row_by_row() -> None:
    cloud = plain(100)
    cloud.fields = []
    assert reason(cloud) == ("no_fields", "cloud has no fields")
    cloud = plain(100)
    del cloud.fields[1]
    assert reason(cloud) == ("missing_xyz", "cloud lacks field 'y' (has: x, z, intensity, ring, time)")
    cloud = plain(100)
    cloud.fields.append(FakeField("x", 0, 7))
    assert reason(cloud) == ("duplicate_field", "field 'x' appears twice")
    cloud = plain(100)
    cloud.fields.append(FakeField("intensity\0", 0, 7))
    assert reason(cloud) == ("duplicate_field", "field 'intensity' appears twice")
    cloud = plain(100)
    cloud.fields[2].datatype = 9
    assert reason(cloud) == ("bad_datatype", "field 'z' has unknown datatype 9")
    cloud = plain(100)
    cloud.fields[3].offset = 16
    cloud.point_step = 16
    assert reason(cloud) == ("bad_point_step", "field 'intensity' ends at byte 20, point_step is 16")
    cloud.point_step = 0
    assert reason(cloud)[0] == "bad_point_step"
    cloud = plain(100)
    cloud.height, cloud.width, cloud.row_step = 1 + 1, 100, 100
    assert reason(cloud) == ("bad_row_step", "row_step 100 is less than width*point_step 2200")
    cloud = plain(100)
    cloud.data = cloud.data[:900]
    assert reason(cloud) == ("truncated", "data has 900 bytes, 2200 needed")
    cloud.data = b""
    assert reason(cloud) == ("truncated", "data has 0 bytes, 2200 needed")
    cloud = plain(100)
    assert reason(cloud, Limits(max_points=99)) == ("too_large", "cloud has 100 points, limit 99")
    cloud.header = header(frame_id="")
    assert reason(cloud, Limits(require_frame_id=True)) == ("empty_frame_id", "cloud has no frame_id")
    assert reason(plain(), Limits(max_age_s=1.0), 3.2) == ("stale", "cloud is 3.2 s old, limit 1.0 s")
    assert len(CloudDecoder().decode(plain(), Limits(max_age_s=1.0), 0.9).xyz) == 100


def test_sizes_do_not_wrap() -> None:
    cloud = plain(4)
    cloud.height, cloud.width, cloud.row_step, cloud.point_step = 65536, 65536, 2**32 - 1, 65535
    assert reason(cloud)[0] == "truncated"
    cloud.height, cloud.width, cloud.point_step = 1, 2**31, 2**31
    assert reason(cloud)[0] == "truncated"


ORDER = (
    "no_fields",
    "missing_xyz",
    "duplicate_field",
    "bad_datatype",
    "bad_point_step",
    "bad_row_step",
    "truncated",
    "too_large",
    "empty_frame_id",
    "stale",
)


def expected_reason(cloud: FakeCloud, limits: Limits, age_s: float) -> str | None:
    """The table of reasons written a second time, plainly."""
    count = cloud.height * cloud.width
    checks: dict[str, bool] = {}
    if count > 0:
        names = [f.name.rstrip("\0") for f in cloud.fields]
        chosen = next((n for n in ("intensity", "i", "reflectivity", "remission", "signal") if n in names), None)
        used = [*"xyz"] + ([chosen] if chosen else [])
        first = {n: cloud.fields[names.index(n)] for n in used if n in names}
        sizes = {n: {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}.get(f.datatype, 0) for n, f in first.items()}
        end = max((f.offset + sizes[n] for n, f in first.items()), default=0)
        row = cloud.width * cloud.point_step
        row_step = row if cloud.height == 1 else cloud.row_step
        checks = {
            "no_fields": not cloud.fields,
            "missing_xyz": not {"x", "y", "z"} <= set(names),
            "duplicate_field": any(names.count(n) > 1 for n in used),
            "bad_datatype": any(not 1 <= f.datatype <= 8 for f in first.values()),
            "bad_point_step": cloud.point_step == 0 or end > cloud.point_step,
            "bad_row_step": cloud.height > 1 and cloud.row_step < row,
            "truncated": len(cloud.data) < (cloud.height - 1) * row_step + row,
            "too_large": count > limits.max_points,
        }
    checks["empty_frame_id"] = limits.require_frame_id and not cloud.header.frame_id
    checks["stale"] = 0 < limits.max_age_s < age_s
    return next((key for key in ORDER if checks.get(key)), None)


def mutate(cloud: FakeCloud, rng: np.random.Generator) -> None:
    sizes = [0, 1, 2, 3, 7, 21, 22, 23, 100, 2**16, 2**31, 2**32 - 1]

    def size() -> int:
        return int(rng.choice(sizes)) if rng.random() < 0.7 else int(rng.integers(0, 400))

    kind = rng.integers(0, 13)
    if kind == 0:
        cloud.height = size()
    elif kind == 1:
        cloud.width = size()
    elif kind == 2:
        cloud.point_step = size()
    elif kind == 3:
        cloud.row_step = size()
    elif kind == 4:
        cloud.data = cloud.data[: int(rng.integers(0, len(cloud.data) + 1))]
    elif kind == 5:
        cloud.is_bigendian = not cloud.is_bigendian
    elif kind == 6:
        cloud.header.frame_id = ""
    elif kind == 7 and cloud.fields:
        del cloud.fields[int(rng.integers(len(cloud.fields)))]
    elif kind == 8 and cloud.fields:
        cloud.fields.append(copy.copy(cloud.fields[int(rng.integers(len(cloud.fields)))]))
    elif kind == 9 and cloud.fields:
        cloud.fields[int(rng.integers(len(cloud.fields)))].datatype = int(rng.integers(0, 12))
    elif kind == 10 and cloud.fields:
        cloud.fields[int(rng.integers(len(cloud.fields)))].offset = size()
    elif kind == 11:
        cloud.fields = []
    elif cloud.fields:
        one = cloud.fields[int(rng.integers(len(cloud.fields)))]
        one.name = str(rng.choice(["x", "", "i", "y\0", "intensity", "zz", one.name + "\0"]))


def by_hand(cloud: FakeCloud, point: int, name: str) -> float:
    """One number of one point, straight from the bytes."""
    one = next(f for f in cloud.fields if f.name.rstrip("\0") == name)
    row, column = divmod(point, cloud.width)
    start = row * (cloud.row_step if cloud.height > 1 else 0) + column * cloud.point_step + one.offset
    dtype = np.dtype((">" if cloud.is_bigendian else "<") + TYPES[one.datatype])
    with np.errstate(over="ignore"):
        return float(np.frombuffer(bytes(cloud.data[start : start + dtype.itemsize]), dtype)[0].astype(np.float32))


def attempt(decoder: CloudDecoder, cloud: FakeCloud, limits: Limits, age_s: float) -> tuple[Decoded | None, str | None]:
    try:
        return decoder.decode(cloud, limits, age_s), None
    except CloudRejectedError as rejection:
        return None, rejection.reason


def check_filtered(cloud: FakeCloud, decoded: Decoded, keep: np.ndarray) -> None:
    """Filtering copies the bytes of the points kept, in order, whatever the layout."""
    packed = encode_filtered(cloud, decoded, keep)
    row_step = cloud.row_step if cloud.height > 1 else 0
    starts = [row * row_step + column * cloud.point_step for row, column in np.ndindex(decoded.height, decoded.width)]
    raw = bytes(cloud.data)
    kept = [raw[start : start + cloud.point_step] for start, wanted in zip(starts, keep, strict=True) if wanted]
    assert packed.data.tobytes() == b"".join(kept)
    assert packed.width == len(kept)
    assert packed.is_dense == bool(np.isfinite(decoded.xyz[keep]).all())


def test_ten_thousand_mutated_messages() -> None:
    """No crash, no wrong point, the right reason; one decoder for all, so that its cache is tried too."""
    rng = np.random.default_rng(20261121)
    decoder = CloudDecoder()
    vendors, seen, decoded_count = list(VENDORS), dict.fromkeys(ORDER, 0), 0
    for number in range(10_000):
        fields, step = vendor_fields(vendors[number % len(vendors)])
        cloud = build(random_columns(24, number), fields, step, [(1, 24), (4, 6), (24, 1)][number % 3], number % 2 * 5)
        for _ in range(int(rng.integers(1, 4))):
            mutate(cloud, rng)
        age = float(rng.choice([0.0, 0.5, 3.0], p=[0.8, 0.1, 0.1]))
        limits = Limits(int(rng.choice([20, 5000], p=[0.1, 0.9])), 1.0, True)
        expected = expected_reason(cloud, limits, age)
        decoded, found = attempt(decoder, cloud, limits, age)
        assert found == expected, number
        if decoded is None:
            seen[str(found)] += 1
            continue
        decoded_count += 1
        assert len(decoded.xyz) == cloud.height * cloud.width
        if number % 5 == 0:
            check_filtered(cloud, decoded, rng.random(len(decoded.xyz)) < 0.5)
        if len(decoded.xyz):
            point = int(rng.integers(len(decoded.xyz)))
            for column, axis in enumerate("xyz"):
                np.testing.assert_equal(float(decoded.xyz[point, column]), by_hand(cloud, point, axis))
            if decoded.has_intensity:
                name = decoded.layout.intensity_name if decoded.layout else ""
                np.testing.assert_equal(float(decoded.intensity[point]), by_hand(cloud, point, name))
    assert decoded_count > 1000
    assert all(seen.values()), seen


@pytest.mark.parametrize("name", ["pcl_xyzi", "ouster", "robosense_pcl_32"])
def test_whole_words_are_read_the_same_wherever_they_lie(name: str) -> None:
    """Bytes that cannot be written to, bytes at an odd address, row padding: the same numbers."""
    fields, step = vendor_fields(name)
    columns = random_columns(24)
    columns["z"][5], columns["x"][7] = np.nan, -np.inf
    cloud = build(columns, fields, step, (4, 6))
    assert CloudDecoder().decode(cloud).layout.words is not None  # type: ignore[union-attr]
    odd = np.empty(len(cloud.data) + 1, np.uint8)[1:]
    odd[:] = cloud.data
    others = [
        replace(cloud, data=cloud.data.tobytes()),
        replace(cloud, data=odd),
        build(columns, fields, step, (4, 6), 3),
    ]
    others.append(build(columns, [*fields[:3], FakeField("ring", 12, 2)], step, (4, 6)))
    for other in others:
        first, second = CloudDecoder().decode(cloud), CloudDecoder().decode(other)
        np.testing.assert_array_equal(first.xyz.view(np.uint32), second.xyz.view(np.uint32))
        expected = first.intensity if second.has_intensity else np.zeros(24, np.float32)
        np.testing.assert_array_equal(expected.view(np.uint32), second.intensity.view(np.uint32))


def test_layout_is_kept_until_it_changes() -> None:
    decoder = CloudDecoder()
    first = decoder.decode(plain(5)).layout
    assert decoder.decode(plain(7)).layout is first
    other = plain(5)
    other.is_bigendian = True
    assert decoder.decode(other).layout is not first
    assert str(first) == "x:<f4@0 y:<f4@4 z:<f4@8 intensity:<f4@12 step 22"
