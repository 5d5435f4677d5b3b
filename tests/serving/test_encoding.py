"""Clouds as they are written: bytes of the segmentation, the visualization and the filtered cloud."""

from __future__ import annotations

import numpy as np
import pytest
from ros_clouds import FakeCloud, answers_of, build, plain, random_columns, vendor_fields

from kd_seg.serving.pointcloud2 import (
    CloudDecoder,
    Decoded,
    bytes_of,
    encode_filtered,
    encode_segmentation,
    encode_visualization,
    keep_mask,
)


def labelled(cloud: FakeCloud) -> tuple[Decoded, np.ndarray, np.ndarray, np.ndarray]:
    decoded = CloudDecoder().decode(cloud)
    rng = np.random.default_rng(0)
    count = len(decoded.xyz)
    class_id = rng.choice(np.array([0, 3, 18, 255], np.uint8), count)
    return decoded, class_id, rng.random(count, dtype=np.float32), rng.random(count, dtype=np.float32)


def test_segmentation_bytes() -> None:
    fields, step = vendor_fields("hesai")
    cloud = build(random_columns(24), fields, step, (4, 6), padding=3)
    decoded, class_id, probability, entropy = labelled(cloud)
    packed, classes = encode_segmentation(decoded, answers_of(class_id, probability, entropy))
    np.testing.assert_array_equal(classes, class_id)
    assert (packed.height, packed.width, packed.point_step, packed.row_step) == (4, 6, 24, 144)
    assert [(f.name, f.offset, f.datatype, f.count) for f in packed.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("class_id", 12, 2, 1),
        ("probability", 16, 7, 1),
        ("entropy", 20, 7, 1),
    ]
    rows = bytes_of(packed).reshape(24, 24)
    assert not rows[:, 13:16].any()
    np.testing.assert_array_equal(rows[:, 12], class_id)
    np.testing.assert_array_equal(rows[:, :12].copy().view("<f4"), decoded.xyz)
    np.testing.assert_array_equal(rows[:, 16:20].copy().view("<f4")[:, 0], probability)
    np.testing.assert_array_equal(rows[:, 20:24].copy().view("<f4")[:, 0], entropy)
    assert packed.is_dense
    assert not packed.is_bigendian


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_dense_means_finite(value: float) -> None:
    columns = random_columns(9)
    columns["y"][4] = value
    fields, step = vendor_fields("pcl_xyzi")
    decoded, class_id, probability, entropy = labelled(build(columns, fields, step))
    assert not encode_segmentation(decoded, answers_of(class_id, probability, entropy))[0].is_dense
    assert not encode_visualization(decoded, class_id, np.zeros((256, 3), np.uint8)).is_dense


def test_visualization_bytes() -> None:
    decoded, class_id, _, _ = labelled(plain(50))
    palette = np.arange(768).reshape(256, 3).astype(np.uint8)
    packed = encode_visualization(decoded, class_id, palette)
    rows = bytes_of(packed).reshape(50, 16)
    assert (packed.point_step, packed.fields[3].name, packed.fields[3].datatype) == (16, "rgb", 7)
    np.testing.assert_array_equal(rows[:, 12:15][:, ::-1], palette[class_id])
    assert not rows[:, 15].any()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("last_padding", [False, True])
def test_filtered_copies_bytes_untouched(big: bool, last_padding: bool) -> None:
    fields, step = vendor_fields("velodyne")
    cloud = build(random_columns(24), fields, step, (4, 6), 5, big, last_padding)
    decoded, class_id, _, _ = labelled(cloud)
    keep = keep_mask(class_id, (3, 255))
    packed = encode_filtered(cloud, decoded, keep)
    whole = np.concatenate([cloud.data[r * cloud.row_step :][: 6 * step] for r in range(4)]).reshape(24, step)
    np.testing.assert_array_equal(bytes_of(packed).reshape(-1, step), whole[~np.isin(class_id, [3, 255])])
    assert (packed.height, packed.width, packed.row_step) == (1, keep.sum(), keep.sum() * step)
    assert packed.is_bigendian == big
    assert [(f.name, f.offset) for f in packed.fields] == [(f.name, f.offset) for f in cloud.fields]
    none = encode_filtered(cloud, decoded, np.zeros(24, bool))
    assert (none.width, len(none.data), none.is_dense) == (0, 0, True)
