"""info, view, eval and train with what people give them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import call, refused
from made_files import XYZI, columns_of, pcd, street
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.classes import load_classes
from kd_seg.scans.ply import read_ply

POINTS = street(20)
TRAIN = ["train", "demo_baseline", "data.valid=[]", "run.minutes=null", "run.steps=1", "run.workers=0", "run.batch=1",
         "grid.voxel_size=0.8"]  # fmt: skip


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "s.safetensors")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root of one scan with labels."""
    return make_root(tmp_path / "data", POINTS)


def make_root(root: Path, points: np.ndarray) -> Path:
    folder = root / "sequences" / "00"
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(folder / "velodyne" / "000000.bin")
    np.where(POINTS[:, 2] < -1.5, 40, 50).astype("<u4").tofile(folder / "labels" / "000000.label")
    return root


def test_info_of_a_point_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(pcd([*XYZI, ("ring", 2, "U", 1)], columns_of(POINTS)))
    found = call(capsys, "info", tmp_path / "a.pcd", "--json").json
    assert (found["kind"], found["points"], found["intensity"]) == ("point file", len(POINTS), "intensity")
    assert found["fields"] == ["x", "y", "z", "intensity", "ring"]
    assert call(capsys, "info", tmp_path, "--json").json["files"] == 1
    (tmp_path / "cut.pcd").write_bytes((tmp_path / "a.pcd").read_bytes()[:-100])
    assert "cut off" in refused(capsys, "info", tmp_path / "cut.pcd")


POSES = {
    "no calibration": {"poses.txt": "1 0 0 0 0 1 0 0 0 0 1 0\n"},
    "thirteen numbers": {"poses.txt": "0 1 0 0 0 0 1 0 0 0 0 1 0\n", "calib.txt": "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"},
    "no rows": {"poses.txt": "", "calib.txt": "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n", "times.txt": "soon\n"},
    "no Tr": {"calib.txt": "P2: 1 0 0 0 0 1 0 0 0 0 1 0\n"},
}


@pytest.mark.parametrize("kind", POSES)
def test_poses_do_not_matter_to_single_scans(
    capsys: pytest.CaptureFixture[str], root: Path, student: Path, tmp_path: Path, kind: str
) -> None:
    from PIL import Image

    for name, text in POSES[kind].items():
        (root / "sequences" / "00" / name).write_text(text)
    (root / "sequences" / "00" / "image_2").mkdir()
    Image.new("RGB", (40, 20)).save(root / "sequences" / "00" / "image_2" / "000000.jpg")
    assert call(capsys, "eval", student, "--data", root, "--sequences", "00", "--json").json["points"] == len(POINTS)
    assert call(capsys, "view", root, "--out", tmp_path / "v.png").code == 0
    found = call(capsys, "info", root, "--json").json["sequences"][0]
    assert found["pictures"] == {"image_2": 1}
    if kind in ("no calibration", "thirteen numbers"):
        assert str(found["poses"]).startswith("unreadable: ")
    assert call(capsys, *TRAIN, f"data.root={root}", f"run.folder={tmp_path / 'run'}").code == 0


def test_training_on_nothing_is_refused(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    run = f"run.folder={tmp_path / 'run'}"
    for name, points in {
        "utm": POINTS + [450_000, 5_400_000, 100, 0], "mm": POINTS * [1000, 1000, 1000, 1],
        "below": POINTS + [0, 0, 70, 0],
    }.items():  # fmt: skip
        far = make_root(tmp_path / name, points)
        assert "00/000000 lies inside the grid" in refused(capsys, *TRAIN, f"data.root={far}", run)
    shutil.rmtree(root / "sequences" / "00" / "labels")
    assert "Sequence 00 has no labels/" in refused(capsys, *TRAIN, f"data.root={root}", run)
    (root / "sequences" / "00" / "labels").mkdir()
    np.zeros(len(POINTS), "<u4").tofile(root / "sequences" / "00" / "labels" / "000000.label")
    assert "nothing to learn" in refused(capsys, *TRAIN, f"data.root={root}", run)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_scan_without_its_labels_is_one_sentence(
    capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path, workers: int
) -> None:
    for number in range(1, 8):  # beyond those that are looked at before
        POINTS.tofile(root / "sequences" / "00" / "velodyne" / f"{number:06d}.bin")
        np.full(len(POINTS), 40, "<u4").tofile(root / "sequences" / "00" / "labels" / f"{number:06d}.label")
    (root / "sequences" / "00" / "labels" / "000007.label").unlink()
    run = [f"data.root={root}", f"run.folder={tmp_path / 'run'}", f"run.workers={workers}", "run.steps=8"]
    said = refused(capsys, *TRAIN, *run)
    assert said.count("000007.label cannot be read") == 1
    assert len(said) < 400


def test_intensities_of_another_range_are_told(
    capsys: pytest.CaptureFixture[str], root: Path, student: Path, tmp_path: Path
) -> None:
    make_root(root, POINTS * [1, 1, 1, 255])
    told = "99th percentile"
    assert told in call(capsys, "eval", student, "--data", root, "--sequences", "00", "--json").err
    assert told in call(capsys, *TRAIN, f"data.root={root}", f"run.folder={tmp_path / 'run'}").err
    assert told in call(capsys, "predict", root, "--out", tmp_path / "p", "--checkpoint", student).err


def test_five_columns_are_read_by_one_setting(
    capsys: pytest.CaptureFixture[str], root: Path, student: Path, tmp_path: Path
) -> None:
    make_root(root, np.column_stack([POINTS, np.arange(len(POINTS)) % 32]))
    scan, five = root / "sequences" / "00" / "velodyne" / "000000.bin", ["--set", "input.columns=5"]
    evaluation = ["eval", student, "--data", root, "--sequences", "00", "--json"]
    assert "--set input.columns=5 (for training data.columns=5)" in refused(capsys, *evaluation)
    assert call(capsys, *evaluation, *five).json["points"] == len(POINTS)
    assert call(capsys, "view", scan, "--out", tmp_path / "v.png", *five).code == 0
    training = [*TRAIN, f"data.root={root}", f"run.folder={tmp_path / 'run'}"]
    assert "data.columns=5" in refused(capsys, *training)
    assert call(capsys, *training, "data.columns=5").code == 0


def test_coloured_points_for_any_viewer(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    out = tmp_path / "cloud.ply"
    assert call(capsys, "view", root, "--out", out).code == 0
    table = read_ply(out)
    assert table.names == ("x", "y", "z", "red", "green", "blue", "intensity", "label")
    np.testing.assert_array_equal(table.columns["x"], POINTS[:, 0])
    np.testing.assert_array_equal(table.columns["label"], np.where(POINTS[:, 2] < -1.5, 40, 50))
    road = POINTS[:, 2] < -1.5
    assert len(np.unique(table.columns["red"][road])) == 1
    assert call(capsys, "view", root, "--out", out).code == 0  # its own it may replace


def test_pictures_replace_only_their_own_kind(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.svg", "a.pdf", "a.ply"):
        for _ in range(2):
            assert call(capsys, "view", root, "--out", tmp_path / name).code == 0
        (tmp_path / name).write_bytes(b"holiday")
        assert "kd-seg did not write it" in refused(capsys, "view", root, "--out", tmp_path / name, code=2)
        assert (tmp_path / name).read_bytes() == b"holiday"


def test_options_of_view_that_do_not_apply(capsys: pytest.CaptureFixture[str], root: Path, tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    assert "Name what to write" in refused(capsys, "view", root, code=2)
    assert "--topic is for bags" in refused(capsys, "view", root, "--out", png, "--topic", "/a", code=2)
    scan = root / "sequences" / "00" / "velodyne" / "000000.bin"
    assert "--scan 3 is for data roots" in refused(capsys, "view", scan, "--out", png, "--scan", "3", code=2)
    (tmp_path / "empty.bin").write_bytes(b"")
    assert "empty.bin holds no point" in call(capsys, "view", tmp_path / "empty.bin", "--out", png).err
    assert "--student belongs to --fused" in refused(capsys, "view", root, "--out", png, "--student", png, code=2)
    assert "input.z_offset_m does not apply" in refused(
        capsys, "view", root, "--out", png, "--set", "input.z_offset_m=1.0", code=2
    )


def test_a_window_without_a_display_is_one_sentence(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "There is no display to open a window on" in refused(capsys, "view", root, "--window")
    monkeypatch.setenv("DISPLAY", ":4711")
    assert "There is no display to open a window on" in refused(capsys, "view", root, "--window")


WINDOW = """
import sys
import numpy as np
from kd_seg.classes import load_classes
from kd_seg.views.coloured import coloured
from kd_seg.views.window import show
points = np.random.default_rng(0).normal(0, 10, (500, 4)).astype(np.float32)
points[3] = np.nan
truth = np.arange(500, dtype=np.uint8) % 20
cloud = coloured("scan", points, truth, np.zeros(500, np.uint8), load_classes())
assert list(cloud.ways) == ["errors", "predictions", "labels", "height"], cloud.ways
print(show(cloud, frames=6))
"""


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs a virtual screen (xvfb)")
def test_the_window_under_a_virtual_screen() -> None:
    command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, "-c", WINDOW]
    environment = {**os.environ, "LIBGL_ALWAYS_SOFTWARE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "labels"  # six pages on from the first of four


def test_weights_that_are_not_finite_are_refused(
    capsys: pytest.CaptureFixture[str], root: Path, student: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    tensors = load_file(student)
    name = next(key for key, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[0] = float("inf")
    with safe_open(student, "pt") as file:
        save_file(tensors, tmp_path / "bad.safetensors", file.metadata())
    said = refused(capsys, "predict", root, "--out", tmp_path / "p", "--checkpoint", tmp_path / "bad.safetensors")
    assert f"tensor {name} holds NaN or infinity" in said


def test_labels_of_other_ids_name_them(capsys: pytest.CaptureFixture[str], root: Path, student: Path) -> None:
    np.full(len(POINTS), 777, "<u4").tofile(root / "sequences" / "00" / "labels" / "000000.label")
    said = refused(capsys, "eval", student, "--data", root, "--sequences", "00")
    assert "777" in said
    assert load_classes().name in said


def test_the_home_folder_in_a_configuration(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(root.parent))
    answer = call(capsys, "train", "--show-config", "demo_baseline", "data.root=~/data")
    assert f"root: {root}" in answer.out


def test_several_roots_are_labelled_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path, student: Path) -> None:
    first, second = write_tiny(tmp_path / "a", scans=1), write_tiny(tmp_path / "b", scans=1)
    said = refused(capsys, "predict", first, second, "--out", tmp_path / "p", "--checkpoint", student, code=2)
    assert "would both be written to" in said
