"""kd-seg adapt as a whole, on tiny data: what it writes, what it never opens, how it goes on."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from console_script import kd_seg
from guarded_labels import GUARDED
from in_process import refused
from PIL import Image
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.adaptation.adapt import AdaptRequest, adapt, label, train_in_process
from kd_seg.adaptation.settings import AdaptSettings, sensor_settings
from kd_seg.checkpoint import load_checkpoint, save_checkpoint
from kd_seg.core.config import apply_overrides, find_config, read_yaml, validate
from kd_seg.core.errors import ConfigError, DataError, UsageError
from kd_seg.core.progress import silent
from kd_seg.networks import Encoding
from kd_seg.scans import SemanticKitti
from kd_seg.serving.sensor_input import SensorSettings
from kd_seg.training import RunFolder, TrainingConfig
from kd_seg.voxels import CartesianGrid

TRUST: dict[str, Any] = {"share": 0.5, "least": 0.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapt")
    write_tiny(root / "streets")
    write_tiny(root / "drive", sequences=("00", "03"), labels=False)
    write_student(root / "student.safetensors")
    return root


def request(world: Path, out: Path, sensor: SensorSettings | None = None, **changes: Any) -> AdaptRequest:
    content = {
        "teacher": {"checkpoint": str(world / "student.safetensors"), "views": 2, "scans": 2},
        "student": str(world / "student.safetensors"),
        "trust": TRUST,
        "training": {"run": {"steps": 2, "batch": 1, "workers": 0}},
        **changes,
    }
    settings = AdaptSettings.model_validate(content)
    return AdaptRequest(world / "drive", world / "streets", out, settings, sensor or sensor_settings({}), "cpu", 1)


def keep(world: Path, trained: list[TrainingConfig]) -> Any:
    """Stands in for training: keeps the configuration, and gives the student back."""

    def train(config: TrainingConfig, resume: bool) -> Path:
        trained.append(config)
        return world / "student.safetensors"

    return train


def test_the_drive_gets_trusted_predictions_as_labels(world: Path, tmp_path: Path) -> None:
    trained: list[TrainingConfig] = []
    adapted = adapt(request(world, tmp_path / "out"), silent, keep(world, trained))
    (config,) = trained
    data = SemanticKitti(config.data.root)
    assert sorted(data.sequences) == ["drive_00", "drive_03", "streets_00", "streets_01"]
    assert config.data.train is not None
    assert sorted(config.data.train) == sorted(data.sequences)
    assert config.data.predicted == ["drive_*"]
    assert config.student.init == str(world / "student.safetensors")
    assert config.grid.voxel_size == (0.4, 0.4, 0.4)
    shares = []
    for name in ("00", "03"):
        for index in range(3):
            ours = data.scan(f"drive_{name}", index)
            source = SemanticKitti(world / "drive").scan(name, index)
            np.testing.assert_array_equal(ours.points[:, :3], source.points[:, :3])
            np.testing.assert_allclose(ours.pose, source.pose, atol=1e-6)
            assert ours.labels is not None
            shares.append(float((ours.labels > 0).mean()))
    assert 0.2 < np.mean(shares) < 0.6
    figures = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert figures == adapted.figures
    (first,) = figures["rounds"]
    assert first["voted"]["agreement"] >= first["before"]["agreement"]
    assert first["fused"] is True


def test_levelled_points_are_written_with_poses_that_fit(world: Path, tmp_path: Path) -> None:
    trained: list[TrainingConfig] = []
    sensor = sensor_settings({"input.roll_deg": 5.0, "input.z_offset_m": 0.4, "input.intensity_gain": 0.5})
    adapt(request(world, tmp_path / "out", sensor), silent, keep(world, trained))
    ours, source = (
        SemanticKitti(trained[0].data.root).sequences["drive_00"],
        SemanticKitti(world / "drive").sequences["00"],
    )
    assert ours.poses is not None
    assert source.poses is not None
    motion = sensor.correction()
    # Poses are relative to the first scan, in each root in its own axes.
    expected = motion @ source.poses[2] @ np.linalg.inv(motion)
    np.testing.assert_allclose(ours.poses[2], expected, atol=1e-6)
    moved = source.scan(1).points[:, :3] @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(ours.scan(1).points[:, :3], moved, atol=1e-4)
    np.testing.assert_allclose(ours.scan(1).points[:, 3], 0.5 * source.scan(1).points[:, 3], atol=1e-6)
    cameras = ours.calibration, source.calibration
    assert cameras[0] is not None
    assert cameras[1] is not None
    np.testing.assert_allclose(cameras[0].tr @ motion, cameras[1].tr, atol=1e-6)


def test_every_prediction_of_a_tilted_sensor_teaches_where_nothing_is_held_back(world: Path, tmp_path: Path) -> None:
    sensor = sensor_settings({"input.pitch_deg": 20.0})
    changes: dict[str, Any] = {"trust": {"share": 1.0, "least": 0.0, "ranges_m": [5, 8, 10, 12]}}
    root, figures = label(request(world, tmp_path / "out", sensor, **changes), silent)
    data = SemanticKitti(root)
    labelled = sum(int((data.scan(f"drive_{name}", k).labels > 0).sum()) for name in ("00", "03") for k in range(3))
    assert labelled == figures["voted"]["points"]


def test_a_drive_from_bytes_is_taken_with_the_parameters_of_its_calibration(world: Path, tmp_path: Path) -> None:
    trained: list[TrainingConfig] = []
    sensor = sensor_settings({"input.intensity_range": "byte", "input.intensity_gain": 0.5})
    adapt(request(world, tmp_path / "out", sensor), silent, keep(world, trained))
    ours = SemanticKitti(trained[0].data.root)
    for name, root, source in (("drive_00", "drive", "00"), ("streets_01", "streets", "01")):
        expected = 0.5 * SemanticKitti(world / root).scan(source, 1).points[:, 3]
        np.testing.assert_allclose(ours.scan(name, 1).points[:, 3], expected, atol=1e-6)


def test_the_second_round_is_taught_by_the_first_student_who_may_contradict(world: Path, tmp_path: Path) -> None:
    trained: list[TrainingConfig] = []
    adapted = adapt(request(world, tmp_path / "out", rounds=2), silent, keep(world, trained))
    assert len(trained) == len(adapted.figures["rounds"]) == 2
    labels = [
        np.concatenate([SemanticKitti(c.data.root).scan("drive_00", k).labels for k in range(3)]) for c in trained
    ]
    assert (labels[1] > 0).sum() <= (labels[0] > 0).sum()
    assert adapted.figures["rounds"][1]["teacher"] == str(world / "student.safetensors")


def test_an_interrupted_adaptation_goes_on(world: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def failing(config: TrainingConfig, resume: bool) -> Path:
        raise Stop

    with pytest.raises(Stop):
        adapt(request(world, tmp_path / "out"), silent, failing)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/round_1/predictions").rglob("*.npy")}
    assert len(before) == 6
    adapt(request(world, tmp_path / "out"), silent, keep(world, []))
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    with pytest.raises(UsageError, match="an adaptation that differs in settings"):
        adapt(request(world, tmp_path / "out", vote={"scans": 3}), silent, keep(world, []))


def test_what_cannot_be_trained_is_refused_before_the_long_part(world: Path, tmp_path: Path) -> None:
    for changes, error, message in (
        ({"training": {"optim": {"lrr": 1.0}}}, ConfigError, "lrr"),
        ({"streets": world / "drive"}, DataError, "streets must be labelled"),
    ):
        streets = changes.pop("streets", world / "streets")
        asked = replace(request(world, tmp_path / "out", **changes), streets=streets)
        with pytest.raises(error, match=message):
            adapt(asked, silent, keep(world, []))
        assert not (tmp_path / "out").exists(), "the corrected command must find an empty folder"


def test_a_wrong_override_is_not_blamed_on_the_shipped_file_alone(
    capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path
) -> None:
    shared = ("adapt", world / "drive", "--streets", world / "streets", "--out", tmp_path / "out")
    assert "adapt.yaml with overrides: trust.share" in refused(capsys, *shared, "trust.share=2", code=2)


def test_a_training_that_was_killed_before_its_first_state_begins_again(world: Path, tmp_path: Path) -> None:
    train = train_in_process(lambda figures: None, silent)

    def killed(config: TrainingConfig, resume: bool) -> Path:
        RunFolder(config.run.folder).begin(config, overwrite=False)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(request(world, tmp_path / "out"), silent, killed)
    adapted = adapt(request(world, tmp_path / "out"), silent, train)
    assert adapted.checkpoint.is_file()


@pytest.mark.parametrize("changed", ["drive", "streets"])
def test_an_adaptation_does_not_go_on_with_other_scans(world: Path, tmp_path: Path, changed: str) -> None:
    asked = request(world, tmp_path / "out")
    roots = {name: Path(shutil.copytree(world / name, tmp_path / name)) for name in ("drive", "streets")}
    asked = replace(asked, **roots)
    label(asked, silent)
    label(asked, silent)
    path = roots[changed] / "sequences/00/velodyne/000001.bin"
    points = np.fromfile(path, "<f4").reshape(-1, 4)
    if changed == "drive":  # as a conversion with another intensity range leaves it
        (points * np.array([1, 1, 1, 0.5], np.float32)).tofile(path)
    else:
        points[:-1].tofile(path)
    with pytest.raises(UsageError, match=f"differs in content of the {changed}"):
        label(asked, silent)


def test_an_adaptation_begun_before_the_contents_were_noted_goes_on(world: Path, tmp_path: Path) -> None:
    label(request(world, tmp_path / "out"), silent)
    plan = tmp_path / "out" / "plan.json"
    content = json.loads(plan.read_text())
    plan.write_text(json.dumps({key: value for key, value in content.items() if not key.startswith("content")}))
    label(request(world, tmp_path / "out"), silent)


def test_a_student_keeps_its_own_classes(world: Path, tmp_path: Path) -> None:
    moving = str(write_student(tmp_path / "moving.safetensors", classes="semantic_kitti_25"))
    changes: dict[str, Any] = {"teacher": {"checkpoint": moving, "views": 1, "scans": 2}, "student": moving}
    trained: list[TrainingConfig] = []
    adapt(request(world, tmp_path / "out", **changes), silent, keep(world, trained))
    assert trained[0].data.classes == "semantic_kitti_25"
    changes["training"] = {"data": {"classes": "semantic_kitti_19"}}
    with pytest.raises(UsageError, match=r"data\.classes: semantic_kitti_19 has other classes"):
        adapt(request(world, tmp_path / "out2", **changes), silent, keep(world, []))
    assert not (tmp_path / "out2").exists()


def test_a_student_whose_grid_clamps_keeps_it(world: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(world / "student.safetensors")
    grid = CartesianGrid((0.4,) * 3, (-16.0, -16.0, -4.0), (16.0, 16.0, 4.0), clamp=True)
    clamping = replace(loaded.spec, encoding=Encoding(grid, loaded.spec.encoding.features))
    save_checkpoint(tmp_path / "clamping.safetensors", loaded.network, clamping)
    trained: list[TrainingConfig] = []
    asked = request(world, tmp_path / "out", student=str(tmp_path / "clamping.safetensors"))
    adapt(asked, silent, keep(world, trained))
    assert trained[0].grid.build() == grid


def test_scans_keep_the_names_of_their_files_so_that_pictures_and_labels_stay_theirs(
    world: Path, tmp_path: Path
) -> None:
    roots = {name: Path(shutil.copytree(world / name, tmp_path / name)) for name in ("drive", "streets")}
    for path in [p for root in roots.values() for p in root.rglob("0*.*") if p.is_file()]:
        path.rename(path.with_name(f"0000{path.name}"))  # ten digits, as KITTI's raw data
    pictures = roots["drive"] / "sequences/03/image_2"
    pictures.mkdir()
    for number in range(3):
        Image.new("RGB", (124, 38)).save(pictures / f"{number:010d}.png")
    sensor = sensor_settings({"input.z_offset_m": 0.3})
    root, _ = label(replace(request(world, tmp_path / "out", sensor), **roots), silent)
    data = SemanticKitti(root)
    assert [len(data.scan("drive_03", number).cameras) for number in range(3)] == [1, 1, 1]
    assert data.scan("drive_03", 1).labels is not None
    street, source = data.scan("streets_00", 1), SemanticKitti(roots["streets"]).scan("00", 1)
    np.testing.assert_array_equal(street.labels, source.labels)


def test_without_poses_nothing_is_known_of_agreement_over_time(world: Path, tmp_path: Path) -> None:
    drive = write_tiny(tmp_path / "drive", sequences=("03",), labels=False)
    (drive / "sequences/03/poses.txt").unlink()
    adapted = adapt(replace(request(world, tmp_path / "out"), drive=drive), silent, keep(world, []))
    (figures,) = adapted.figures["rounds"]
    assert [figures[key]["agreement"] for key in ("before", "voted", "student")] == [None] * 3
    assert figures["voted"]["points"] > 1000


def test_training_leaves_the_number_of_threads_as_it_was(world: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    other = 1 if before > 1 else 2
    run = {"steps": 1, "batch": 1, "workers": 0, "threads": other, "device": "cpu"}
    asked = replace(request(world, tmp_path / "out", training={"run": run}), threads=0)
    adapt(asked, silent, train_in_process(lambda figures: None, silent))
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before


def test_foreign_folders_and_missing_parts_are_refused(world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no adaptation"):
        adapt(request(world, tmp_path / "mine"), silent, keep(world, []))
    unlabelled = AdaptRequest(**{**request(world, tmp_path / "out").__dict__, "streets": world / "drive"})
    with pytest.raises(DataError, match="streets must be labelled"):
        adapt(unlabelled, silent, keep(world, []))
    moving = write_student(tmp_path / "moving.safetensors", classes="semantic_kitti_25")
    with pytest.raises(UsageError, match="different classes"):
        adapt(request(world, tmp_path / "out2", student=str(moving)), silent, keep(world, []))
    with pytest.raises(ValueError, match="grid follow"):
        AdaptSettings.model_validate({"training": {"grid": {"voxel_size": 1}}})
    with pytest.raises(ConfigError, match=r"only input\.\* parameters"):
        sensor_settings({"device": "cpu"})


def test_a_multi_scan_teacher_sees_the_drives_own_things_fused(world: Path, tmp_path: Path) -> None:
    objectives = [{"kind": "supervised"}, {"kind": "multi_to_single", "teacher": {"mode": "ema", "momentum": 0.5}}]
    run = {"steps": 2, "batch": 1, "workers": 0, "log_every": 1}
    made = request(world, tmp_path / "out", training={"objectives": objectives, "run": run})
    built: list[str] = []

    @contextlib.contextmanager
    def listen(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        built.append(what)
        yield lambda count: None

    adapted = adapt(made, silent, train_in_process(lambda figures: None, listen))
    assert built, "the library of what was found in the drive is built before training"
    assert list((tmp_path / "out/round_1/data/kd_seg_cache").rglob("*drive_00*"))
    lines = [json.loads(line) for line in (adapted.checkpoint.parent.parent / "metrics.jsonl").read_text().splitlines()]
    assert {"ce", "lovasz"} < set(lines[-1]["terms"])


def test_labels_of_the_drive_are_never_opened(world: Path, tmp_path: Path) -> None:
    drive = write_tiny(tmp_path / "labelled_drive", sequences=("05",), labels=True)
    config = tmp_path / "adapt.yaml"
    config.write_text(
        json.dumps(
            {
                "teacher": {"checkpoint": str(world / "student.safetensors"), "views": 1},
                "student": str(world / "student.safetensors"),
                "trust": TRUST,
                "training": {"run": {"steps": 2, "batch": 1, "workers": 0, "threads": 1, "device": "cpu"}},
            }
        )
    )
    arguments = [
        "adapt",
        drive,
        "--streets",
        world / "streets",
        "--out",
        tmp_path / "out",
        "--config",
        config,
        "--json",
    ]
    command = [sys.executable, "-c", GUARDED, str(drive), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert Path(content["checkpoint"]).is_file()
    assert (tmp_path / "out" / "adaptation.png").read_bytes()[:4] == b"\x89PNG"
    again = kd_seg(*arguments)
    assert json.loads(again.stdout)["rounds"] == content["rounds"]
    reading = [
        sys.executable,
        "-c",
        GUARDED,
        str(drive),
        "eval",
        str(world / "student.safetensors"),
        "--data",
        str(drive),
    ]
    watched = subprocess.run([*reading, "--sequences", "05"], capture_output=True, text=True, timeout=200)
    assert watched.returncode == 77  # the guard does end a program that opens labels


def test_labels_alone_are_those_of_an_adaptation_which_goes_on_from_them(world: Path, tmp_path: Path) -> None:
    root, figures = label(request(world, tmp_path / "out"), silent)
    before = {path.name: path.read_bytes() for path in (root / "sequences/drive_03/labels").iterdir()}
    assert len(before) == 3
    assert not (tmp_path / "out/round_1/run").exists()
    trained: list[TrainingConfig] = []
    adapted = adapt(request(world, tmp_path / "out"), silent, keep(world, trained))
    assert Path(trained[0].data.root) == root
    assert {path.name: path.read_bytes() for path in (root / "sequences/drive_03/labels").iterdir()} == before
    assert adapted.figures["rounds"][0]["voted"] == figures["voted"]


def test_fusion_is_switched_off_by_the_word_that_the_documentation_gives() -> None:
    content = apply_overrides(read_yaml(find_config("adapt")), ["teacher.fuse=off"])
    assert validate(AdaptSettings, content, "adapt").teacher.fuse == "off"
    with pytest.raises(ConfigError, match="'auto', 'ego' or 'off'"):
        validate(AdaptSettings, apply_overrides(content, ["teacher.fuse=on"]), "adapt")


def test_the_training_of_an_adaptation_stands_alone_as_a_configuration() -> None:
    adapting = yaml.safe_load(find_config("adapt").read_text(encoding="utf-8"))["training"]
    alone = yaml.safe_load(find_config("adapted").read_text(encoding="utf-8"))
    for section in ("objectives", "augment", "optim", "run"):
        assert alone[section] == adapting[section], section
