"""Bags that people have: short ones with a wrong range, folders without metadata, other types, clouds all rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from in_process import call, refused
from random_student import write_student

from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, SUFFIXES, BagWriter, make_typestore
from kd_seg.serving.segmenter import made_up_cloud

STORE = make_typestore()


def cloud(points: np.ndarray, names: tuple[str, ...] = ("x", "y", "z", "intensity")) -> object:
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
    field = types["sensor_msgs/msg/PointField"]
    return types[CLOUD](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="lidar"),
        height=1,
        width=len(points),
        fields=[field(name=name, offset=4 * k, datatype=7, count=1) for k, name in enumerate(names)],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8),
        is_dense=True,
    )


def write(folder: Path, messages: list[object], suffix: str = ".mcap") -> Path:
    writer = BagWriter(folder, SUFFIXES[suffix], STORE)
    for number, message in enumerate(messages):
        writer.write("/points", CLOUD, CLOUD_QOS, number * 10**9, message)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "s.safetensors")


def test_a_bag_of_two_clouds_with_another_range_is_told(
    capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path
) -> None:
    bag = write(tmp_path / "bag", [cloud(made_up_cloud(5000, k)) for k in range(2)])
    answer = call(capsys, "predict", bag, "--out", tmp_path / "out", "--checkpoint", student, "--json")
    assert answer.code == 0
    assert any("set input.intensity_range to unit" in warning for warning in answer.json["warnings"])


def test_rejections_are_told_and_all_of_them_leave_nothing(
    capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path
) -> None:
    good, blind = cloud(made_up_cloud(100, 0)), cloud(made_up_cloud(100, 0), ("x", "y", "up", "intensity"))
    bag = write(tmp_path / "some", [good, blind, cloud(made_up_cloud(100, 0)[:0]), good])
    answer = call(capsys, "predict", bag, "--out", tmp_path / "out", "--checkpoint", student)
    assert answer.code == 0
    assert "warning: 1 of 4 clouds rejected: missing_xyz 1" in answer.err
    assert "warning: 1 of 3 clouds hold no point" in answer.err
    said = refused(capsys, "predict", write(tmp_path / "all", [blind] * 2), "--out", tmp_path / "none.mcap")
    assert "All 2 clouds" in said
    assert "missing_xyz 2" in said
    assert not list(tmp_path.glob("none*"))


def test_a_folder_without_metadata_names_the_tool(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bag = write(tmp_path / "my bag", [cloud(made_up_cloud(100, 0))], ".db3")
    (bag / "metadata.yaml").unlink()
    for command in (
        ["predict", bag, "--out", tmp_path / "o.mcap"],
        ["info", bag],
        ["view", bag, "--out", tmp_path / "v.png"],
    ):
        assert f"ros2 bag reindex '{bag}'" in refused(capsys, *command)


def test_a_recording_that_was_cut_off(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = next(write(tmp_path / "bag", [cloud(made_up_cloud(3000, k)) for k in range(4)]).glob("*.mcap"))
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert f"mcap recover {cut}" in refused(capsys, "predict", cut, "--out", tmp_path / "o.mcap")


def test_other_topics_are_listed_with_types_and_a_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from mcap.writer import Writer

    path = tmp_path / "livox.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2")
        schema = writer.register_schema("livox_ros_driver2/msg/CustomMsg", "ros2msg", b"uint8 a\n")
        channel = writer.register_channel("/livox/lidar", "cdr", schema)
        writer.add_message(channel, log_time=1, publish_time=1, data=bytes(64))
        writer.finish()
    for command in (["predict", path, "--out", tmp_path / "o.mcap"], ["view", path, "--out", tmp_path / "v.png"]):
        said = refused(capsys, *command, code=2)
        assert "/livox/lidar (livox_ros_driver2/msg/CustomMsg)" in said
        assert "xfer_format" in said


def test_what_is_in_the_way_of_a_bag_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [cloud(made_up_cloud(100, 0))])
    (tmp_path / "o.mcap.part").mkdir()
    (tmp_path / "o.mcap.part" / "notes").write_text("mine")
    assert "did not write it" in refused(capsys, "predict", bag, "--out", tmp_path / "o.mcap", code=2)
    assert (tmp_path / "o.mcap.part" / "notes").read_text() == "mine"
    for name in ("o.label", "o.bag", "o.npy"):
        assert "a bag is written as" in refused(capsys, "predict", bag, "--out", tmp_path / name, code=2)
    for options, said in ((["--shard", "1/2"], "--shard is for files"), (["--overwrite"], "--overwrite is for files"),
                          (["--set", "input.columns=5"], "input.columns does not apply to bags")):  # fmt: skip
        assert said in refused(capsys, "predict", bag, "--out", tmp_path / "p.mcap", *options, code=2)
