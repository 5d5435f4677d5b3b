"""Projection and visibility: against plain NumPy, against a scene whose truth is known, and on real scans."""

from __future__ import annotations

from pathlib import Path

import images_scene
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_scene import HEIGHT, P2, TR, WIDTH, Scene, poses, real_data, write_scene
from PIL import Image

from kd_seg.core.config import validate
from kd_seg.core.errors import ConfigError, DataError
from kd_seg.core.geometry import rigid, rotation_z
from kd_seg.images.projection.cameras import ProjectionSettings, seen_views, shots
from kd_seg.images.projection.project import Optics, project
from kd_seg.images.projection.visibility import BeamPattern, VisibilitySettings, depth_buffer, see, visible
from kd_seg.scans import SemanticKitti

OPTICS = Optics(P2, TR, WIDTH, HEIGHT)


def reference_project(points: np.ndarray, optics: Optics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    homogeneous = np.column_stack([points[:, :3].astype(np.float64), np.ones(len(points))])
    u = homogeneous @ (optics.projection @ optics.tr).T
    with np.errstate(divide="ignore", invalid="ignore"):
        c, r = u[:, 0] / u[:, 2], u[:, 1] / u[:, 2]
        inside = (u[:, 2] > 1.0) & (c >= 0) & (c < optics.width) & (r >= 0) & (r < optics.height)
    return np.column_stack([c, r]), u[:, 2], inside


def reference_buffer(points: np.ndarray, optics: Optics) -> np.ndarray:
    """P Tr x, point by point and pixel by pixel."""
    pixels, depth, _ = reference_project(points, optics)
    buffer = np.full((optics.height, optics.width), np.inf)
    axis = optics.tr[2, :2] / np.hypot(*optics.tr[2, :2])
    for (c, r), w, (x, y, z) in zip(pixels, depth, points[:, :3].astype(np.float64), strict=True):
        if not w > 1.0 or not (-64 < c < optics.width + 64 and -64 < r < optics.height + 64):
            continue
        rho, full = np.hypot(x, y), np.sqrt(x * x + y * y + z * z)
        cosine = max((x * axis[0] + y * axis[1]) / rho, 0.1)
        step = 1.0 / 3.0 if np.rad2deg(np.arcsin(z / full)) > -8.1 else 0.5
        half_width = 0.55 * optics.projection[0, 0] * np.deg2rad(0.1728) * rho / (w * cosine)
        half_height = 0.5 * optics.projection[1, 1] * np.deg2rad(step) * full / w
        for row in range(optics.height):
            for column in range(optics.width):
                centre_in = abs(column + 0.5 - c) <= half_width and abs(row + 0.5 - r) <= half_height
                own = column == np.floor(c) and row == np.floor(r)
                if (centre_in or own) and w < buffer[row, column]:
                    buffer[row, column] = w
    return buffer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_projection_is_the_formula(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).uniform(-40, 40, (count, 4)).astype(np.float32)
    pixels, depth, inside = reference_project(points, OPTICS)
    found = project(points, OPTICS)
    clear = np.abs(np.abs(pixels - [WIDTH / 2, HEIGHT / 2]) - [WIDTH / 2, HEIGHT / 2]).min(axis=1, initial=9) > 1e-3
    np.testing.assert_array_equal(found.inside[clear], inside[clear])
    np.testing.assert_allclose(found.depth, depth, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.pixels[inside], pixels[inside], rtol=1e-4, atol=1e-2)


def test_points_without_a_place_are_never_inside() -> None:
    points = np.array(
        [[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [-5, 0, 0, 0], [1.2, 0, 0, 0], [0.27, 0, 0, 0]], np.float32
    )
    assert not project(points, OPTICS).inside.any()
    assert not see(points, OPTICS, VisibilitySettings())[1].any()
    assert len(project(points[:0], OPTICS).inside) == 0
    assert see(points[:0], OPTICS, VisibilitySettings())[1].shape == (0,)


def test_pixel_convention() -> None:
    """A point on the ray through the centre of pixel (row 40, column 100) lies at (100.5, 40.5), in that pixel."""
    ray = np.linalg.solve(P2[:, :3], np.array([100.5, 40.5, 1.0]) * 20 - P2[:, 3])
    lidar = np.linalg.solve(TR[:3, :3], ray - TR[:3, 3])
    found = project(np.array([[*lidar, 0]], np.float32), OPTICS)
    np.testing.assert_allclose(found.pixels[0], [100.5, 40.5], atol=1e-3)
    assert found.inside[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_depth_buffer_is_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    optics = Optics(P2 * [[0.25], [0.25], [1.0]], TR, WIDTH // 4, HEIGHT // 4)
    points = rng.uniform([1.5, -12, -3, 0], [40, 12, 3, 1], (60, 4)).astype(np.float32)
    projected = project(points, optics)
    buffer = depth_buffer(points, projected, optics, VisibilitySettings())
    wanted = reference_buffer(points, optics)
    np.testing.assert_array_equal(np.isfinite(buffer), np.isfinite(wanted))
    np.testing.assert_allclose(buffer, wanted, rtol=1e-5)
    mask = visible(projected, buffer, VisibilitySettings())
    for i in np.flatnonzero(projected.inside):
        w = projected.depth[i]
        nearest = wanted[int(projected.pixels[i, 1]), int(projected.pixels[i, 0])]
        assert abs(w - (nearest + 0.3 + 0.02 * w)) < 1e-3 or mask[i] == (w <= nearest + 0.3 + 0.02 * w)


def test_visibility_against_known_truth() -> None:
    """Behind the car the LiDAR sees road and wall that the camera does not; nearly all that is seen stays."""
    scene, pose = Scene(), poses(1)[0]
    points, _ = scene.scan(pose)
    truth = scene.seen(points, pose)
    projected, mask = see(points, OPTICS, VisibilitySettings())
    inside = projected.inside
    hidden = inside & ~truth
    assert hidden.sum() > 40
    assert (mask & truth).sum() > 0.99 * (inside & truth).sum()
    assert (mask & hidden).sum() < 0.45 * hidden.sum()
    assert (see(points, OPTICS, VisibilitySettings(enabled=False))[1] == inside).all()


def test_beam_patterns() -> None:
    assert validate(VisibilitySettings, {"sensor": {"azimuth_step": 0.4}}, "x").pattern().azimuth_step == 0.4
    with pytest.raises(ConfigError, match="hdl64e"):
        VisibilitySettings(sensor="hdl65").pattern()
    with pytest.raises(ConfigError, match="top down"):
        validate(BeamPattern, {"elevation_steps": [[-90, 0.5], [-8, 0.3]]}, "x")


def test_pictures_of_other_moments(tmp_path: Path) -> None:
    """Scan 1 in the picture of scan 0: static points fall where they are, and a thing that moved drops out."""
    scene = Scene()
    root = write_scene(tmp_path, scene, count=2, pictures=(0,))
    sequence = SemanticKitti(root).sequences["00"]
    scan = sequence.scan(1)
    views = seen_views(scan, sequence, ProjectionSettings(offsets=[0, 1, 2]))
    assert [(v.offset, v.shot.index) for v in views] == [(1, 0)]
    pairs = views[0].pairs
    raw = Scene().picture(poses(2)[0])[1]
    rows, columns = pairs.cells()
    assert scan.labels is not None
    same = raw[rows, columns] == (scan.labels[pairs.rows] & 0xFFFF)
    assert len(pairs) > 2000
    assert same.mean() > 0.97
    # the person walks 3 m to the left between the two scans
    lower, upper, word = scene.boxes[2]
    moved = Scene([*scene.boxes[:2], ((lower[0], lower[1] + 3, lower[2]), (upper[0], upper[1] + 3, upper[2]), word)])
    points, words = moved.scan(poses(2)[1])
    points.tofile(scan.points_path)
    words.tofile(root / "sequences" / "00" / "labels" / "000001.label")
    later = seen_views(sequence.scan(1), sequence, ProjectionSettings(offsets=[1]))[0].pairs.rows
    person = (words & 0xFFFF) == 30
    assert person.sum() > 100
    assert person[later].sum() < 0.05 * person.sum()


def test_a_second_camera_sees_from_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """image_3 stands 0.6 m to the right: its own P3, its own pairs, its own views of the scan."""
    scene, pose = Scene(), poses(1)[0]
    root = write_scene(tmp_path, scene, count=1)
    folder = root / "sequences" / "00"
    right = P2.copy()
    right[0, 3] -= 0.6 * P2[0, 0]
    calibration = (folder / "calib.txt").read_text().splitlines()
    calibration[3] = "P3: " + " ".join(f"{v:.9f}" for v in right.ravel())
    (folder / "calib.txt").write_text("\n".join(calibration) + "\n")
    raw = [scene.picture(pose)[1]]
    seen = [scene.seen(scene.scan(pose)[0], pose)]
    monkeypatch.setattr(images_scene, "P2", right)
    picture, classes = scene.picture(pose)
    raw.append(classes)
    seen.append(scene.seen(scene.scan(pose)[0], pose))
    (folder / "image_3").mkdir()
    Image.fromarray(picture).save(folder / "image_3" / "000000.png")
    sequence = SemanticKitti(root).sequences["00"]
    scan = sequence.scan(0)
    views = seen_views(scan, sequence, ProjectionSettings())
    assert [(v.number, v.shot.camera.name) for v in views] == [(0, "image_2"), (1, "image_3")]
    assert scan.labels is not None
    for view, picture_classes, truth in zip(views, raw, seen, strict=True):
        rows = view.pairs.rows
        assert (picture_classes[view.pairs.cells()] == (scan.labels[rows] & 0xFFFF)).mean() > 0.98
        assert truth[rows].mean() > 0.99
    assert len(np.setxor1d(views[0].pairs.rows, views[1].pairs.rows)) > 200
    (only,) = seen_views(scan, sequence, ProjectionSettings(cameras=["image_3"]))
    np.testing.assert_array_equal(only.pairs.rows, views[1].pairs.rows)


def test_scan_without_picture_has_no_view(tmp_path: Path) -> None:
    root = write_scene(tmp_path, Scene(), count=2, pictures=(0,))
    sequence = SemanticKitti(root).sequences["00"]
    assert seen_views(sequence.scan(1), sequence, ProjectionSettings()) == []
    assert seen_views(sequence.scan(0), sequence, ProjectionSettings(cameras=["image_3"])) == []
    (root / "sequences/00/image_2/000000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000000\.png"):
        shots(sequence.scan(0), ProjectionSettings())


def test_poses_are_needed_for_other_moments(tmp_path: Path) -> None:
    root = write_scene(tmp_path, Scene(), count=2)
    (root / "sequences/00/poses.txt").unlink()
    sequence = SemanticKitti(root).sequences["00"]
    with pytest.raises(DataError, match="offsets"):
        seen_views(sequence.scan(1), sequence, ProjectionSettings(offsets=[1]))


def test_camera_turned_away_sees_nothing_of_what_is_ahead() -> None:
    points, _ = Scene().scan(poses(1)[0])
    back = Optics(P2, TR @ rigid(rotation_z(np.pi), np.zeros(3)), WIDTH, HEIGHT)
    assert not see(points, back, VisibilitySettings())[1].any()


def test_real_scans() -> None:
    """Every picture of the real mini set: the share of points inside, and few far ground points lost."""
    data = SemanticKitti(real_data())
    lost = total = views = 0
    for name, index in data.keys():  # noqa: SIM118
        scan = data.scan(name, index)
        for shot in shots(scan, ProjectionSettings()):
            projected, mask = see(scan.points, shot.optics, VisibilitySettings())
            assert 0.13 < projected.inside.mean() < 0.18
            assert mask.sum() > 0.93 * projected.inside.sum()
            assert scan.labels is not None
            far = projected.inside & (projected.depth > 30) & np.isin(scan.labels & 0xFFFF, [40, 44, 48, 72])
            lost, total, views = lost + int((far & ~mask).sum()), total + int(far.sum()), views + 1
    assert views == 23
    assert lost < 0.09 * total
