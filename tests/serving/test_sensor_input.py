from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_clouds import build, plain, street_points, tiny_checkpoint, vendor_fields

from kd_seg.core.errors import ConfigError
from kd_seg.scans import Sensor
from kd_seg.serving.labeller import Labeller, filter_ids, label_info_json, label_pairs
from kd_seg.serving.parameters import PARAMETERS, cloud_settings, read_parameters
from kd_seg.serving.pointcloud2 import CloudDecoder
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import FrameFigures, SensorSettings, SensorWatch, frame_figures, mismatches, prepare


def decode(points: np.ndarray) -> Any:
    fields, step = vendor_fields("velodyne")
    return CloudDecoder().decode(
        build({n: points[:, k] for k, n in enumerate(("x", "y", "z", "intensity"))}, fields, step)
    )


@pytest.mark.parametrize(("live", "largest"), [("unit", 1.0), ("byte", 255.0), ("uint16", 65535.0)])
def test_intensity_is_mapped_to_unit_and_clipped(live: str, largest: float) -> None:
    values = np.array([0.0, 0.5 * largest, largest, 2 * largest, -1.0, np.nan, np.inf, -np.inf])
    points = np.ones((len(values), 4), np.float32)
    points[:, 3] = values
    prepared = prepare(decode(points), SensorSettings(live))
    np.testing.assert_allclose(prepared[:, 3], [0.0, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], rtol=1e-6)


def test_height_offset_and_missing_returns() -> None:
    points = np.array([[0, 0, 0, 9], [0, 0, 1, 9], [-0.0, 0, 0, 9]], np.float32)
    cloud = decode(points)
    prepared = prepare(cloud, SensorSettings(z_offset_m=0.5))
    assert np.isnan(prepared[[0, 2], :3]).all()
    assert prepared[1, 2] == 1.5
    kept = prepare(cloud, SensorSettings(z_offset_m=0.5, zero_is_invalid=False))
    np.testing.assert_array_equal(kept[:, 2], [0.5, 1.5, 0.5])
    np.testing.assert_array_equal(cloud.xyz, points[:, :3])


def figures(**changes: Any) -> FrameFigures:
    base: dict[str, Any] = {
        "points": 5000,
        "present": 5000,
        "valid": 5000,
        "intensity_p99": 200.0,
        "intensity_constant": False,
        "ground_z_m": -1.7,
        "has_intensity": True,
    }
    return FrameFigures(**(base | changes))


@pytest.mark.parametrize(
    ("declared", "p99", "valid", "better"),
    [
        ("unit", 1.6, 5000, "byte"),
        ("unit", 1.5, 5000, None),
        ("unit", 900.0, 5000, "uint16"),
        ("byte", 1.0, 5000, "unit"),
        ("byte", 1.0, 999, None),
        ("byte", 300.0, 5000, None),
        ("byte", 301.0, 5000, "uint16"),
        ("uint16", 255.0, 5000, "byte"),
        ("uint16", 256.0, 5000, None),
    ],
)
def test_intensity_mismatch(declared: str, p99: float, valid: int, better: str | None) -> None:
    found = mismatches(figures(intensity_p99=p99, valid=valid), SensorSettings(declared), Sensor())
    if better is None:
        assert "intensity" not in found
    else:
        assert found["intensity"].endswith(f"set input.intensity_range to {better}")


def test_other_mismatches() -> None:
    settings, sensor = SensorSettings(), Sensor(sensor_height_m=1.7)
    assert mismatches(figures(), settings, sensor) == {}
    assert mismatches(figures(points=0, valid=0), settings, sensor) == {}
    height = mismatches(figures(ground_z_m=-1.21), settings, sensor)
    assert height == {}
    height = mismatches(figures(ground_z_m=-1.19), settings, sensor)
    assert height["height"].startswith("sensor appears 1.2 m above ground, checkpoint expects 1.7 m; ")
    assert height["height"].endswith("set input.z_offset_m to -0.5")
    assert (
        "all intensities are equal"
        in mismatches(figures(intensity_constant=True), settings, sensor)["intensity_constant"]
    )
    assert "input has no intensity field" in mismatches(figures(has_intensity=False), settings, sensor)["no_intensity"]
    assert "only 999" in mismatches(figures(valid=999, present=999), settings, sensor)["few_points"]
    assert mismatches(figures(valid=2499), settings, sensor)["outside"].startswith("50 %")
    assert "outside" not in mismatches(figures(valid=2500), settings, sensor)


def test_a_mismatch_is_said_once_after_twenty_frames_and_again_when_it_returns() -> None:
    watch, settings = SensorWatch(Sensor()), SensorSettings("unit")
    said = [watch.add(figures(), settings) for _ in range(19)]
    assert not any(said)
    assert len(watch.add(figures(), settings)) == 1
    assert not watch.add(figures(), settings)
    assert len(watch.sentences()) == 1
    watch.add(figures(intensity_p99=0.9), settings)
    assert watch.sentences() == []
    assert sum(len(watch.add(figures(), settings)) for _ in range(25)) == 1


def test_figures_of_a_frame() -> None:
    points = street_points(40_000)
    points[:100, 0] = np.nan
    cloud = decode(points)
    prepared = prepare(cloud, SensorSettings(z_offset_m=0.3))
    class_id = np.zeros(len(points), np.uint8)
    class_id[:1000] = 255
    found = frame_figures(cloud, prepared, class_id)
    assert (found.points, found.present, found.valid) == (40_000, 39_900, 39_000)
    assert found.valid_ratio == pytest.approx(0.975)
    assert found.intensity_p99 == pytest.approx(252.5, abs=0.5)
    assert found.ground_z_m == pytest.approx(-1.73 + 0.3, abs=0.05)
    assert not found.intensity_constant
    empty = decode(np.empty((0, 4), np.float32))
    assert frame_figures(empty, np.empty((0, 4), np.float32), np.empty(0, np.uint8)).valid_ratio == 0.0


def test_parameter_table_matches_the_interface() -> None:
    names = [p.name for p in PARAMETERS]
    assert len(names) == len(set(names)) == 30
    assert all(p.problem(p.default) is None for p in PARAMETERS), [p.problem(p.default) for p in PARAMETERS]
    assert [p.name for p in PARAMETERS if p.dynamic] == [
        "input.intensity_range",
        "input.z_offset_m",
        "input.intensity_gain",
        "input.roll_deg",
        "input.pitch_deg",
        "input.own_vehicle",
        "input.zero_is_invalid",
        "input.max_points",
        "input.max_age_s",
        "input.require_frame_id",
        "filter.classes",
        "filter.remove_invalid",
        "max_processing_ms",
        "max_delay_s",
        "input_timeout_s",
        "max_drop_ratio",
        "diagnostics_period_s",
    ]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("input.intensity_rang=unit", "did you mean 'input.intensity_range'"),
        ("input.intensity_range=bytes", "allowed are unit, byte, uint16"),
        ("input.z_offset_m=11.0", "allowed are -10 to 10"),
        ("input.max_points=many", "must be an integer"),
        ("input.max_points=true", "must be an integer"),
        ("filter.classes=[1]", "list of strings"),
        ("input.intensity_fields=['']", "1 to 16"),
        ("autostart", "name=value"),
        ("device=cuda:x", "cuda:N"),
        ("input.own_vehicle=[1.0]", "needs 6 numbers, got 1"),
        ("input.own_vehicle=[0, 0, 0, 1, 1, 1]", "write each with a point"),
        ("input.intensity_gain=0", "allowed are 0.001 to 1000"),
    ],
)
def test_wrong_parameters_are_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        read_parameters(None, [override])


def test_parameter_files(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    input:\n      intensity_range: unit\n"
        "    input.z_offset_m: 0.5\n    filter.classes: [car, '']\n"
    )
    settings = cloud_settings(read_parameters(path, ["input.z_offset_m=1", "filter.remove_invalid=false"]))
    assert settings.sensor == SensorSettings("unit", 1.0, True)
    assert (settings.filter_classes, settings.remove_invalid) == (("car",), False)
    path.write_text("/**:\n  ros__parameters:\n    max_processing_ms: 100\n")
    with pytest.raises(ConfigError, match=r"write 100\.0"):
        read_parameters(path)
    path.write_text("segmentation:\n  checkpoint: x\n")
    with pytest.raises(ConfigError, match="ros__parameters"):
        read_parameters(path)


def test_a_named_node_goes_before_all_nodes(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    every = "/**:\n  ros__parameters: {input.z_offset_m: 0.5, input.max_points: 9}\n"
    named = "/front:\n  ros__parameters: {input.z_offset_m: -0.5}\n"
    for text in (every + named, named + every):
        path.write_text(text)
        assert read_parameters(path) == {"input.z_offset_m": -0.5, "input.max_points": 9}


def test_nodes_of_one_file_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    text = "/front:\n  ros__parameters: {input.z_offset_m: 0.5}\n/rear:\n  ros__parameters: {input.z_offset_m: %s}\n"
    path.write_text(text % "-0.5")
    with pytest.raises(ConfigError, match=r"/rear and a node before it differ in input\.z_offset_m"):
        read_parameters(path)
    path.write_text(text % "0.5")
    assert read_parameters(path) == {"input.z_offset_m": 0.5}
    path.write_text("/**:\n  ros__parameters: {input.z_offset_m: .nan}\n")
    with pytest.raises(ConfigError, match=r"input\.z_offset_m is nan, allowed are -10 to 10"):
        read_parameters(path)


def test_shipped_parameter_file_has_every_parameter_at_its_default() -> None:
    shipped = read_parameters(Path(__file__).parents[2] / "configs" / "ros" / "parameters.yaml")
    expected = {p.name: p.default for p in PARAMETERS}
    assert shipped == expected


def test_gain_tilt_and_own_vehicle() -> None:
    level = np.array([[10, 0, -2, 51], [0, 10, -2, 102], [1, 1, -0.5, 255], [-10, 3, -2, 0]], np.float32)
    settings = SensorSettings(
        z_offset_m=0.3, intensity_gain=2.0, roll_deg=10.0, pitch_deg=-5.0, own_vehicle=(0.5, 0.5, -1.0, 1.5, 1.5, 0.0)
    )
    rotation = settings.levelling()
    assert rotation is not None
    tilted = level.copy()
    tilted[:, :3] = level[:, :3] @ rotation  # from the level frame to the sensor's
    tilted[2, :3] = level[2, :3]  # the own vehicle is boxed in the sensor's frame
    prepared = prepare(decode(tilted), settings)
    np.testing.assert_allclose(prepared[[0, 1, 3], :3], level[[0, 1, 3], :3] + [0, 0, 0.3], atol=1e-5)
    assert np.isnan(prepared[2, :3]).all()
    np.testing.assert_allclose(prepared[:, 3], [0.4, 0.8, 1.0, 0.0], atol=1e-6)


def test_positive_roll_is_right_side_down_and_positive_pitch_nose_down() -> None:
    rolled = SensorSettings(roll_deg=10.0).levelling()
    pitched = SensorSettings(pitch_deg=10.0).levelling()
    assert rolled is not None
    assert pitched is not None
    assert (rolled @ [0, -1, 0])[2] < 0
    assert (pitched @ [1, 0, 0])[2] < 0


def test_labels_and_filter_names(tmp_path: Path) -> None:
    import json

    segmenter = Segmenter(tiny_checkpoint(tmp_path / "c.safetensors", "byte"), "cpu")
    content = json.loads(label_info_json(segmenter))
    assert sorted(content) == [
        "checkpoint_sha256",
        "classes",
        "intensity_range",
        "invalid",
        "schema",
        "sensor_height_m",
    ]
    assert content["classes"][0] == {"id": 0, "name": "car", "rgb": segmenter.classes.colours[0].tolist()}
    assert label_pairs(segmenter)[-1] == (255, "invalid")
    assert len(label_pairs(segmenter)) == 20
    assert filter_ids(["", "car"], segmenter.classes.names) == (0,)
    with pytest.raises(ConfigError, match="has 'cat', which the checkpoint lacks; it has: car"):
        filter_ids(["cat"], segmenter.classes.names)
    labeller = Labeller(segmenter)
    assert labeller.removed(["car"], True) == (0, 255)
    labelled = labeller.label(plain(0), SensorSettings())
    assert len(labelled.segmentation.data) == 0
